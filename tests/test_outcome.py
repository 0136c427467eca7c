"""One rung's work on a row: the contract holds the output, and extraction's evidence is what the source says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from projects import openai_rung, write_project
from rung.blocking import run_blocking
from rung.ladder import Ladder
from rung.receipt import Answer
from rung.task import Conversation, Message, Passage, Request
from upstream import Call, Upstream

EXTRACT = """format = 1
kind = "extract"
instructions = "Read the booking."
privacy = "personal"
[schema]
type = "object"
required = ["people", "day"]
additionalProperties = false
[schema.properties.people]
type = "integer"
[schema.properties.day]
type = "string"
"""


def answered(tmp_path: Path, said: str, *, task: str = EXTRACT, schema: bool = True) -> Answer:
    """What becomes of a server's answer to one booking."""
    with Upstream(answer=lambda call: said, json_schema=schema) as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",), task=task)

        async def climb() -> Answer:
            async with await Ladder.open(config) as ladder:
                return await ladder.run(Request("triage", "a table for 4 on Friday"))

        return run_blocking(climb())


def test_a_record_that_keeps_the_schema_is_the_answer(tmp_path: Path) -> None:
    """It comes back as a value, not as text."""
    answer = answered(tmp_path, json.dumps({"people": 4, "day": "Friday"}))
    assert answer.value == {"people": 4, "day": "Friday"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("four people on Friday", "the answer is not JSON"),
        ('{"people": 4', "the answer is not JSON"),
        ('{"people": "four", "day": "Friday"}', "people does not match the schema"),
        ('{"people": 4}', "the answer does not match the schema"),
        ('{"people": 4, "day": "Friday", "x": 1}', "the answer does not match the schema"),
    ],
)
def test_a_record_that_breaks_the_schema_is_invalid(tmp_path: Path, said: str, reason: str) -> None:
    """Whatever the server promised, the output is checked again; the reason holds none of its text."""
    answer = answered(tmp_path, said)
    (only,) = answer.receipt.attempts
    assert answer.value is None
    assert only.verdict.value == "invalid"
    assert reason in only.reason
    assert "Friday" not in only.reason


def test_a_name_that_the_model_wrote_is_not_in_the_reason(tmp_path: Path) -> None:
    """Only steps that the schema names, and positions, are said; the receipt would keep the rest for ever."""
    task = EXTRACT.replace("additionalProperties = false", "") + (
        '[schema.additionalProperties]\ntype = "array"\nitems = { type = "integer" }\n'
    )
    said = {"people": 4, "day": "Friday", "my card number 4111 1111": [1, "x"]}
    answer = answered(tmp_path, json.dumps(said), task=task)
    (only,) = answer.receipt.attempts
    assert only.reason.startswith("…/1 does not match the schema (additionalProperties/")
    assert "4111" not in str(answer.receipt)


def test_an_empty_summary_is_invalid(tmp_path: Path) -> None:
    """Free text must at least be there."""
    task = 'format = 1\nkind = "summarize"\nprivacy = "personal"\n'
    answer = answered(tmp_path, "  \n ", task=task)
    assert answer.receipt.attempts[0].verdict.value == "invalid"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("answer", Passage("When?", "The table is for Friday.")),
        ("chat", Conversation((Message("user", "When is my table?"),))),
        ("summarize", "A long text about a table on Friday."),
    ],
)
def test_every_kind_answers_typed_input(
    tmp_path: Path, kind: str, given: Passage | Conversation | str
) -> None:
    """A passage, a conversation and a plain text each reach the model in their form."""
    seen: list[Call] = []

    def reply(call: Call) -> str:
        seen.append(call)
        return "On Friday."

    with Upstream(answer=reply) as upstream:
        task = f'format = 1\nkind = "{kind}"\nprivacy = "personal"\n'
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",), task=task)

        async def climb() -> Answer:
            async with await Ladder.open(config) as ladder:
                return await ladder.run(Request("triage", given))

        answer = run_blocking(climb())
    assert answer.value == "On Friday."
    assert "Friday" in seen[-1].text or "table" in seen[-1].text


def test_a_recorded_answer_is_replayed_without_the_server(tmp_path: Path) -> None:
    """A replay rung gives what its rung gave, and the server can be gone."""
    replay = """
[rungs.tape]
engine = "replay"
replays = "local"
recording = "tape.jsonl"
mode = "{mode}"
accept = "contract"
"""

    def ask(config: Path, text: str) -> Answer:
        async def climb() -> Answer:
            async with await Ladder.open(config) as ladder:
                return await ladder.run(Request("triage", text))

        return run_blocking(climb())

    with Upstream(answer=lambda call: "refund") as upstream:
        rungs = openai_rung("local", upstream.url)
        config = write_project(tmp_path, rungs + replay.format(mode="record"), ("tape",))
        first = ask(config, "money back please")
        url = upstream.url
    rungs = openai_rung("local", url)
    config = write_project(tmp_path, rungs + replay.format(mode="replay"), ("tape",))
    assert ask(config, "money back please").value == first.value == "refund"
    missing = ask(config, "never asked before")
    assert missing.value is None
    assert "tape.jsonl" in missing.receipt.attempts[0].reason
