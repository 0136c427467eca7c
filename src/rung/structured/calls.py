"""The JSON Schema of a tool call: one object that names a tool and holds arguments which keep that tool's schema."""

from __future__ import annotations

from collections.abc import Mapping

from rung.receipt import JsonValue
from rung.structured.pointers import Pointer, shown

NO_CALL: dict[str, JsonValue] = {"name": None, "arguments": {}}
"""The answer "no tool", where a task allows it: an object like any other call, so that programs read one shape."""

FIELDS = ("name", "arguments")
"""The members of every call, in the order they are written."""

_DATA = frozenset({"enum", "const", "default", "examples"})


def call_schema(
    tools: Mapping[str, Mapping[str, JsonValue]], *, allow_none: bool
) -> dict[str, JsonValue]:
    """The schema of a call of one of `tools`.

    Args:
        tools: name to the JSON Schema of its arguments; references within one stay within it.
        allow_none: whether `NO_CALL` is an answer too.
    """
    branches: list[JsonValue] = []
    for name, parameters in tools.items():
        at = ("anyOf", str(len(branches)), "properties", "arguments")
        branches.append(_branch({"const": name}, _moved(dict(parameters), at)))
    if allow_none:
        branches.append(_branch({"const": None}, {"const": {}}))
    return {"anyOf": branches}


def _branch(name: JsonValue, arguments: JsonValue) -> JsonValue:
    return {
        "type": "object",
        "properties": {"name": name, "arguments": arguments},
        "required": list(FIELDS),
        "additionalProperties": False,
    }


def _moved(node: JsonValue, to: Pointer) -> JsonValue:
    """A schema as it reads when its root stands at `to`: its own references lead there."""
    if isinstance(node, list):
        return [_moved(part, to) for part in node]
    if not isinstance(node, dict):
        return node
    moved = {
        key: value if key in _DATA else _moved(value, to)
        for key, value in node.items()
        if key not in {"$schema", "$id"} or not isinstance(value, str)
    }
    ref = node.get("$ref")
    if isinstance(ref, str) and (ref == "#" or ref.startswith("#/")):
        moved["$ref"] = "#" + shown(to) + ref[1:]
    return moved
