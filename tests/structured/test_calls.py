"""Tool calls: public rows through the real loaders, and a schema that holds each tool to its own arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from grammar_acceptance import Acceptor

from rung.errors import ConfigError
from rung.prompts import messages
from rung.rows.example import matches
from rung.structured import llguidance_grammar, plan
from rung.structured.calls import NO_CALL, call_schema
from rung.suite import iter_examples
from rung.task import Kind, Task, Text, Tool
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


DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def call_task(*parameters: dict[str, Any]) -> Task:
    """A task with the tools a, b and so on."""
    tools = (
        Tool(name, "", json.dumps(part)) for name, part in zip("abc", parameters, strict=False)
    )
    return Task(name="calling", kind=Kind.CALL, tools=tuple(tools))


def takes(task: Task, tool: str, arguments: Any) -> bool:
    """Whether the call can be decoded and keeps the contract; the two must agree."""
    call = {"name": tool, "arguments": arguments}
    decoded = Acceptor(llguidance_grammar(plan(task.output_schema or ""))).accepts(call)
    assert decoded == (task.contract.violation(call) is None)
    return decoded


@pytest.mark.parametrize("name", ["default", "enum", "const", "examples", "$ref", "$schema", "$id"])
def test_a_property_may_have_the_name_of_a_keyword(name: str) -> None:
    """What stands under it is a schema all the same, and its references stay within the tool."""
    tool = {
        "type": "object",
        "properties": {name: {"$ref": "#/$defs/x"}, "again": {"$ref": "#"}},
        "required": [name],
        "additionalProperties": False,
        "$defs": {"x": {"type": "integer"}},
    }
    task = call_task(tool)
    assert takes(task, "a", {name: 1})
    assert takes(task, "a", {name: 1, "again": {name: 2}})
    assert not takes(task, "a", {name: "one"})
    assert not takes(task, "a", {name: 1, "again": {"name": "a", "arguments": {name: 1}}})


def test_data_that_looks_like_a_reference_stays_as_it_is() -> None:
    """What is allowed under `enum` and `const` is not rewritten."""
    same = {"$ref": "#/$defs/x"}
    task = call_task(
        {
            "type": "object",
            "properties": {"x": {"const": same}, "y": {"enum": [same]}},
            "additionalProperties": False,
        }
    )
    assert takes(task, "a", {"x": same, "y": same})


def test_each_tool_has_its_own_anchors() -> None:
    """Two tools may define the same anchor differently; the root's own address works as well."""
    tools = [
        {
            "$id": "https://example.org/tool",
            "type": "object",
            "properties": {
                "x": {"$ref": "#x"},
                "y": {"$ref": "https://example.org/tool#/$defs/a%20b"},
            },
            "additionalProperties": False,
            "$defs": {"a b": {"$anchor": "x", "const": own}},
        }
        for own in (1, 2)
    ]
    task = call_task(*tools)
    for tool, own, other in (("a", 1, 2), ("b", 2, 1)):
        assert takes(task, tool, {"x": own, "y": own})
        assert not takes(task, tool, {"x": other})
        assert not takes(task, tool, {"y": other})


def test_a_reference_may_lead_to_where_no_schema_is_looked_for() -> None:
    """What it leads to is a schema then, and so is what that refers to."""
    task = call_task(
        {
            "type": "object",
            "properties": {"x": {"$ref": "#/x-types/one"}},
            "additionalProperties": False,
            "x-types": {"one": {"$ref": "#/x-types/two"}, "two": {"type": "integer"}},
        }
    )
    assert takes(task, "a", {"x": 1})
    assert not takes(task, "a", {"x": "1"})


def test_an_older_draft_that_reads_the_same_is_taken_over() -> None:
    """Tools from other programs often say draft 7 and mean nothing by it."""
    task = call_task(
        {
            "$schema": DRAFT_7,
            "type": "object",
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "n": {"$ref": "#/definitions/n", "description": "how many"},
            },
            "additionalProperties": False,
            "definitions": {"n": {"type": "integer", "exclusiveMinimum": 0}},
        }
    )
    assert takes(task, "a", {"id": "2eb8aa08-aa98-11ea-b4aa-73b441d16380", "n": 1})
    assert not takes(task, "a", {"n": 0})
    assert not takes(task, "a", {"id": "2eb8"})


OTHERWISE: dict[str, dict[str, Any]] = {
    "a tuple": {"properties": {"x": {"items": [{"const": 1}]}}},
    "a keyword beside a reference": {"properties": {"x": {"$ref": "#/x", "maximum": 3}}, "x": {}},
    "a keyword that draft 7 ignores": {"properties": {"x": {"prefixItems": [{"const": 1}]}}},
    "dependencies": {"dependencies": {"x": ["y"]}},
    "encoded text": {"properties": {"x": {"contentEncoding": "base64"}}},
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_an_older_draft_that_reads_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    """In one sentence that names the place, whether the task comes from a file or not; alone it is fine."""
    tool = {"$schema": DRAFT_7, "type": "object", **OTHERWISE[name]}
    plan(json.dumps(tool))
    said = "/anyOf/1/properties/arguments/$schema is 'http://json-schema.org/draft-07/schema#'"
    with pytest.raises(ConfigError, match=re.escape(said)):
        _ = call_task({"type": "object"}, tool).contract
    row = Row("", "", [{"name": n, "description": "", "parameters": tool} for n in "ab"], {})
    with pytest.raises(ConfigError, match=r"calling.toml:4: tools: /anyOf/0/.*draft 2020-12"):
        load_task(written_task(tmp_path, row))


def test_the_prompt_lists_the_tools(shared_data: Path, tmp_path: Path) -> None:
    """Names, what they do and their arguments; the text comes last and alone."""
    row = next(rows(shared_data / "bfcl", "BFCL_v4_multiple"))
    task = load_task(written_task(tmp_path, row))
    system, user = messages(task, Text(row.question))
    for tool in row.tools:
        assert f"- {tool['name']}: {tool['description']}" in system.content
    assert '"name": null' in system.content
    assert user.content == row.question
