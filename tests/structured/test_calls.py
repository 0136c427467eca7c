"""Tool calls: public rows through the real loaders, and a schema that holds each tool to its own arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from grammar_acceptance import Acceptor

from rung.prompts import messages
from rung.rows.example import matches
from rung.structured import llguidance_grammar, plan
from rung.structured.calls import NO_CALL, call_schema
from rung.suite import iter_examples
from rung.task import Text
from rung.userfiles.tasks import load_task

TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
"""The data's Python-like names to JSON Schema's."""


class Row(NamedTuple):
    """One question with its tools and a right call."""

    id: str
    question: str
    tools: list[dict[str, Any]]
    call: dict[str, Any]


def as_json_schema(node: Any) -> Any:
    """A description of arguments with JSON Schema's names of types."""
    if isinstance(node, list):
        return [as_json_schema(part) for part in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: as_json_schema(value) for key, value in node.items()}
    if isinstance(node.get("type"), str):
        renamed["type"] = TYPES.get(node["type"], node["type"])
        if renamed["type"] is None:
            del renamed["type"]
    return renamed


def rows(folder: Path, name: str) -> Iterator[Row]:
    """The rows of one file whose right call can be written as plain JSON."""
    questions = (folder / f"{name}.json").read_text("utf-8").splitlines()
    truths = (folder / "possible_answer" / f"{name}.json").read_text("utf-8").splitlines()
    for asked, answered in zip(map(json.loads, questions), map(json.loads, truths), strict=True):
        ((tool, arguments),) = answered["ground_truth"][0].items()
        given = {key: values[0] for key, values in arguments.items() if values[0] != ""}
        if not any(isinstance(value, dict | list) for value in given.values()):
            question = asked["question"][0][-1]["content"]
            call = {"name": tool, "arguments": given}
            yield Row(asked["id"], question, as_json_schema(asked["function"]), call)


def written_task(folder: Path, row: Row) -> Path:
    """A task file for the row's tools, the arguments of each in a file beside it."""
    lines = ["format = 1", 'kind = "call"', "allow_none = true"]
    for index, tool in enumerate(row.tools):
        (folder / f"{index}.json").write_text(json.dumps(tool["parameters"]))
        lines += ["[[tools]]", f"name = {json.dumps(tool['name'])}"]
        lines += [f"description = {json.dumps(tool['description'])}"]
        lines += [f'parameters_file = "{index}.json"']
    path = folder / "calling.toml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("name", ["BFCL_v4_simple_python", "BFCL_v4_multiple"])
def test_public_calls_are_held_to_their_tools(name: str, shared_data: Path, tmp_path: Path) -> None:
    """The right call keeps the contract and can be decoded; one of an unknown tool or with a missing argument not."""
    chosen = list(rows(shared_data / "bfcl", name))[::12]
    assert len(chosen) > 10
    for row in chosen:
        task = load_task(written_task(tmp_path, row))
        suite = tmp_path / "suite.jsonl"
        suite.write_text(json.dumps({"input": row.question, "expected": row.call}) + "\n")
        (example,) = iter_examples(suite, task)
        held = Acceptor(llguidance_grammar(plan(task.output_schema or "")))
        broken = {"name": row.call["name"], "arguments": {}}
        unknown = {"name": "no_such_tool", "arguments": row.call["arguments"]}
        assert matches(example, row.call)
        assert not matches(example, unknown)
        assert task.contract.violation(row.call) is None
        assert held.accepts(row.call)
        assert held.accepts(NO_CALL)
        assert task.contract.violation(unknown) == "the answer names no tool of the task"
        assert not held.accepts(unknown)
        first = row.tools[0]["parameters"]
        if first.get("required") and row.call["name"] == row.tools[0]["name"]:
            assert task.contract.violation(broken) is not None
            assert not held.accepts(broken)


def test_references_stay_within_their_tool() -> None:
    """Two tools may define the same name differently."""
    tools = {
        name: {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/x"}, "again": {"$ref": "#"}},
            "required": ["x"],
            "additionalProperties": False,
            "$defs": {"x": {"const": name}},
        }
        for name in ("a", "b")
    }
    held = Acceptor(llguidance_grammar(plan(json.dumps(call_schema(tools, allow_none=False)))))
    assert held.accepts({"name": "a", "arguments": {"x": "a", "again": {"x": "a"}}})
    assert not held.accepts({"name": "a", "arguments": {"x": "b"}})
    assert held.accepts({"name": "b", "arguments": {"x": "b"}})
    assert not held.accepts(NO_CALL)


def test_the_prompt_lists_the_tools(shared_data: Path, tmp_path: Path) -> None:
    """Names, what they do and their arguments; the text comes last and alone."""
    row = next(rows(shared_data / "bfcl", "BFCL_v4_multiple"))
    task = load_task(written_task(tmp_path, row))
    system, user = messages(task, Text(row.question))
    for tool in row.tools:
        assert f"- {tool['name']}: {tool['description']}" in system.content
    assert '"name": null' in system.content
    assert user.content == row.question
