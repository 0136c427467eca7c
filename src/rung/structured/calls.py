"""The JSON Schema of a tool call: one object that names a tool and holds arguments which keep that tool's schema."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from urllib.parse import quote

from rung.errors import ConfigError
from rung.receipt import JsonValue
from rung.structured.keywords import ANNOTATIONS, NEWEST, UNLIKE
from rung.structured.places import anchors, fragment, places
from rung.structured.pointers import Pointer, shown
from rung.structured.weakening import draft_of

NO_CALL: dict[str, JsonValue] = {"name": None, "arguments": {}}
"""The answer "no tool", where a task allows it: an object like any other call, so that programs read one shape."""

FIELDS = ("name", "arguments")
"""The members of every call, in the order they are written."""

_BESIDE_REF = ANNOTATIONS | {"$ref"}
"""Keywords beside a `$ref` that say nothing in draft 2020-12 either; draft 7 passed over all of them."""


def call_schema(
    tools: Mapping[str, Mapping[str, JsonValue]], *, allow_none: bool
) -> dict[str, JsonValue]:
    """The schema of a call of one of `tools`.

    Args:
        tools: name to the JSON Schema of its arguments, an object; references and anchors within one stay within it.
        allow_none: whether `NO_CALL` is an answer too.

    Returns:
        A schema of draft 2020-12. Arguments of an older draft are taken over where both drafts read them alike; other
        ones keep their `$schema`, by which planning and validation refuse the whole.
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


def _moved(parameters: JsonValue, to: Pointer) -> JsonValue:
    """A schema as it reads when its root stands at `to`: its own references lead there."""
    root = copy.deepcopy(parameters)
    found = places(root)
    named = anchors(found)
    alike = _reads_alike(root, found)
    for node in found.values():
        if isinstance(node, dict):
            _redirect(node, root, named, to)
    if isinstance(root, dict):
        for key in ("$schema", "$id", "id") if alike else ("$id", "id"):
            root.pop(key, None)
    return root


def _redirect(
    node: dict[str, JsonValue], root: JsonValue, named: Mapping[str, Pointer], to: Pointer
) -> None:
    """Make the references of one schema lead to where `root` will stand; those that lead nowhere stay as they are."""
    for key in ("$ref", "$dynamicRef"):
        said = fragment(node.get(key), root)
        if said is None:
            continue
        if said[:1] in {"", "/"}:
            node[key] = "#" + shown(to) + said
        elif said in named:
            node[key] = "#" + quote(shown((*to, *named[said])))
    for key in ("$anchor", "$dynamicAnchor"):
        node.pop(key, None)


def _reads_alike(root: JsonValue, found: Mapping[Pointer, JsonValue]) -> bool:
    """Whether a schema says in draft 2020-12 what it says in its own draft."""
    try:
        draft = draft_of(root)
    except ConfigError:
        return False
    if draft == NEWEST:
        return True
    unlike = UNLIKE.get(draft)
    return unlike is not None and not any(
        isinstance(node, dict)
        and (
            not unlike.isdisjoint(node)
            or isinstance(node.get("items"), list)
            or (draft <= 7 and "$ref" in node and not node.keys() <= _BESIDE_REF)
        )
        for node in found.values()
    )
