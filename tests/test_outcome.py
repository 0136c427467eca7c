"""One rung's work on a row: the contract holds the output, and extraction's evidence is what the source says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from projects import openai_rung, write_project
from rung.blocking import run_blocking
from rung.ladder import Ladder
from rung.ledger.queries import find, reading
from rung.receipt import Answer, Usage
from rung.task import Conversation, Message, Passage, Request
from upstream import Call, Fault, Mode, Token, Upstream

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


def answered_in_turn(
    tmp_path: Path, *said: str | list[Token], task: str = EXTRACT, more: str = "", **server: Any
) -> tuple[Answer, list[Call]]:
    """What becomes of a server that says one thing after another, and the calls it got."""
    left = list(said)
    with Upstream(answer=lambda call: left.pop(0), **server) as upstream:
        rung = openai_rung("local", upstream.url, more=more)
        config = write_project(tmp_path, rung, ("local",), task=task)

        async def climb() -> Answer:
            async with await Ladder.open(config) as ladder:
                return await ladder.run(
                    Request("triage", "a table for 4 on Friday", idempotency_key="k")
                )

        return run_blocking(climb()), upstream.chats


GOOD = '{"people":4,"day":"Friday"}'


def test_a_broken_record_is_shown_to_the_model_once(tmp_path: Path) -> None:
    """The second output is the answer, at the price of both calls, and the receipt says so."""
    answer, calls = answered_in_turn(tmp_path, '{"people":"four","day":""}', GOOD)
    (only,) = answer.receipt.attempts
    assert answer.value == {"people": 4, "day": "Friday"}
    assert only.repaired
    assert only.usage == Usage(22, 6)
    assert json.loads(msgspec.json.encode(only))["repaired"] is True
    first, second = (call.body["messages"] for call in calls)
    assert second[: len(first)] == first
    assert second[-2] == {"role": "assistant", "content": '{"people":"four","day":""}'}
    assert "people does not match the schema (properties/people/type)" in second[-1]["content"]
    assert [call.key for call in calls] == ["k", "k-repair"]


def test_a_record_that_stays_broken_is_invalid(tmp_path: Path) -> None:
    """There is one repair, not a conversation."""
    answer, calls = answered_in_turn(tmp_path, "four", "four people", GOOD)
    (only,) = answer.receipt.attempts
    assert (answer.value, only.verdict, only.repaired, len(calls)) == (None, "invalid", True, 2)


def test_a_repair_that_fails_leaves_the_first_verdict(tmp_path: Path) -> None:
    """The row's output was invalid; that the server went away afterwards does not change it."""
    more = "[rungs.local.limits]\nretries = 0\n"
    faults = [Fault(), Fault(Mode.HANG_UP)]
    answer, calls = answered_in_turn(tmp_path, "four", more=more, faults=faults)
    (only,) = answer.receipt.attempts
    assert (only.verdict, only.repaired, len(calls)) == ("invalid", True, 2)


@pytest.mark.parametrize(("mode", "verdict"), [(Mode.CUT, "truncated"), (Mode.REFUSAL, "refused")])
def test_only_a_broken_record_is_repaired(tmp_path: Path, mode: Mode, verdict: str) -> None:
    """A cut answer and a refusal are verdicts of their own."""
    answer, calls = answered_in_turn(tmp_path, GOOD, faults=[Fault(mode)])
    (only,) = answer.receipt.attempts
    assert (only.verdict, only.repaired, len(calls)) == (verdict, False, 1)


def test_free_text_and_labels_are_not_repaired(tmp_path: Path) -> None:
    """Only a record can be shown what is wrong with it."""
    task = 'format = 1\nkind = "summarize"\nprivacy = "personal"\n'
    answer, calls = answered_in_turn(tmp_path, "  ", task=task)
    assert (answer.value, len(calls)) == (None, 1)


def test_a_repair_is_an_egress_of_its_own(tmp_path: Path) -> None:
    """The text leaves the device again, so it is noted again before it does."""
    said = ["four", GOOD]
    with Upstream(answer=lambda call: said.pop(0)) as upstream:
        rung = openai_rung("near", upstream.url, where="site")
        task = EXTRACT.replace('"personal"', '"internal"')
        config = write_project(tmp_path, rung, ("near",), task=task)

        async def climb() -> Answer:
            async with await Ladder.open(config) as ladder:
                return await ladder.run(Request("triage", "a table for 4"))

        answer = run_blocking(climb())
    with reading("sqlite:///rung.db", root=tmp_path) as connection:
        found = find(connection, answer.receipt.id)
    assert answer.answered
    assert [left.rung for left in found.egress] == ["near", "near"]


def test_the_least_sure_field_is_the_confidence_of_a_record(tmp_path: Path) -> None:
    """Without a calibrator it is the engine's own probability, field by field."""
    tokens = [
        Token('{"people":', -0.01),
        Token("4", math.log(0.8)),
        Token(',"day":"', -0.01),
        Token('Friday"', math.log(0.6)),
        Token("}", -0.01),
    ]
    answer, calls = answered_in_turn(tmp_path, tokens)
    (only,) = answer.receipt.attempts
    assert calls[0].body["logprobs"] is True
    assert only.confidence == pytest.approx(0.6 * math.exp(-0.01), rel=1e-6)
    assert answer.value == {"people": 4, "day": "Friday"}


def test_a_record_without_token_evidence_has_no_confidence(tmp_path: Path) -> None:
    """That its values stand in the source is support and no probability."""
    answer, _ = answered_in_turn(tmp_path, GOOD, logprobs=None)
    assert answer.receipt.attempts[0].confidence is None


CALL = """format = 1
kind = "call"
privacy = "personal"
allow_none = true
[[tools]]
name = "book"
[tools.parameters]
type = "object"
required = ["people"]
properties.people.type = "integer"
"""


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('{"name":"book","arguments":{"people":4}}', {"name": "book", "arguments": {"people": 4}}),
        ('{"name":null,"arguments":{}}', {"name": None, "arguments": {}}),
        ('{"name":"cancel","arguments":{}}', None),
        ('{"name":"book","arguments":{"people":"four"}}', None),
    ],
    ids=["a call", "no tool", "no such tool", "wrong arguments"],
)
def test_a_call_names_a_tool_and_keeps_its_arguments(
    tmp_path: Path, said: str, value: dict[str, Any] | None
) -> None:
    """Anything else is invalid, after one repair."""
    answer, calls = answered_in_turn(tmp_path, said, said, task=CALL)
    assert answer.value == value
    assert len(calls) == (1 if value else 2)
    schema = calls[0].body["response_format"]["json_schema"]["schema"]
    assert [part["properties"]["name"]["const"] for part in schema["anyOf"]] == ["book", None]


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
