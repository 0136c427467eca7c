"""Where the schemas are inside a schema: by the meaning of each keyword, never by the look of a name.

A property may be called `default` or `$ref`; what stands under `enum` or `examples` is data, whatever it looks like.
What a keyword asks of a value is nothing to this module.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from rung.receipt import JsonValue
from rung.structured.keywords import HOLDS_LIST, HOLDS_ONE, HOLDS_TABLE
from rung.structured.pointers import Pointer, parsed, reached


def parts(schema: JsonValue) -> Iterator[tuple[Pointer, JsonValue]]:
    """The schemas directly inside a schema of any draft, each with the steps that lead to it."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in HOLDS_ONE and isinstance(value, dict | bool):
            yield (key,), value
        elif key in HOLDS_LIST and isinstance(value, list):
            yield from (((key, str(index)), part) for index, part in enumerate(value))
        elif key in HOLDS_TABLE and isinstance(value, dict):
            for name, part in value.items():
                if isinstance(part, dict | bool):  # `dependencies` may list names instead
                    yield (key, name), part


def places(root: JsonValue) -> dict[Pointer, JsonValue]:
    """Every schema within `root` with its place, what its own references lead to included.

    A part with an address of its own (`$id`) is left out, and what is inside it.
    """
    found: dict[Pointer, JsonValue] = {}
    waiting: deque[tuple[Pointer, JsonValue]] = deque([((), root)])
    while waiting:
        at, node = waiting.popleft()
        if at in found or (at and isinstance(node, dict) and isinstance(node.get("$id"), str)):
            continue
        found[at] = node
        waiting += (((*at, *steps), part) for steps, part in parts(node))
        target = _target(node, root)
        if target is not None:
            waiting += ((target, part) for part in reached(root, target))
    return found


def anchors(found: dict[Pointer, JsonValue]) -> dict[str, Pointer]:
    """Every `$anchor` (and `$dynamicAnchor`, which is one too) among `places`, with its place."""
    return {
        node[key]: at
        for at, node in found.items()
        if isinstance(node, dict)
        for key in ("$anchor", "$dynamicAnchor")
        if isinstance(node.get(key), str)
    }


def property_names(root: JsonValue) -> Iterator[str]:
    """Every property that the schema names, at any depth."""
    for node in places(root).values():
        if isinstance(node, dict) and isinstance(node.get("properties"), dict):
            yield from node["properties"]


def fragment(ref: JsonValue, root: JsonValue) -> str | None:
    """What a reference says behind its `#` when it leads into `root` itself; None when it leads elsewhere."""
    if not isinstance(ref, str):
        return None
    own = root.get("$id") if isinstance(root, dict) else None
    local = ref.removeprefix(own.rstrip("#")) if isinstance(own, str) else ref
    return local.removeprefix("#") if not local or local.startswith("#") else None


def _target(node: JsonValue, root: JsonValue) -> Pointer | None:
    """Where the schema's `$ref` leads when it is written as a pointer."""
    said = fragment(node.get("$ref"), root) if isinstance(node, dict) else None
    return parsed(said) if said is not None and said[:1] in {"", "/"} else None
