"""Whether a schema can be finished: references that lead nowhere, and values that would have to hold themselves."""

from __future__ import annotations

from collections.abc import Iterator

from rung.receipt import JsonValue
from rung.structured.pointers import Pointer, parsed, shown

_IN_PLACE = ("allOf", "anyOf", "oneOf")
_SCALARS = frozenset({"string", "number", "integer", "boolean", "null"})
_TYPES = _SCALARS | {"object", "array"}


class Loop:
    """Finds the places of a rewritten schema (`weakening`) that never end.

    Args:
        root: the schema; its references are `#` or `#/$defs/NAME`.
    """

    def __init__(self, root: JsonValue) -> None:
        self._root = root
        self._places = dict(_places(root, ()))
        self._ends: dict[Pointer, bool] = dict.fromkeys(self._places, False)

    def unguarded(self) -> str | None:
        """A place that refers to itself without a value in between; None when there is none."""
        done: set[Pointer] = set()
        for start in self._places:
            path: list[tuple[Pointer, Iterator[Pointer]]] = [(start, self._in_place(start))]
            while path:
                at, following = path[-1]
                step = next(following, None)
                if step is None:
                    done.add(at)
                    path.pop()
                elif step in [place for place, _ in path]:
                    return shown(step)
                elif step not in done:
                    path.append((step, self._in_place(step)))
        return None

    def endless(self) -> str | None:
        """A place no finite value can fill, because its value would have to hold itself; None when there is none."""
        changed = True
        while changed:
            changed = False
            for at in self._places:
                if not self._ends[at] and self._can_end(at):
                    self._ends[at] = changed = True
        return next((shown(at) for at, ends in self._ends.items() if not ends), None)

    def _in_place(self, at: Pointer) -> Iterator[Pointer]:
        """The schemas that hold the same value as the one at `at`."""
        node = self._places[at]
        if isinstance(node, dict):
            if "$ref" in node:
                yield parsed(node["$ref"][1:])
            for keyword in _IN_PLACE:
                for index in range(len(node.get(keyword, ()))):
                    yield (*at, keyword, str(index))

    def _can_end(self, at: Pointer) -> bool:
        node = self._places[at]
        if isinstance(node, bool) or "enum" in node or "const" in node:
            return True
        if "$ref" in node and not self._ends[parsed(node["$ref"][1:])]:
            return False
        if not all(self._ends[(*at, "allOf", str(i))] for i in range(len(node.get("allOf", ())))):
            return False
        for keyword in ("anyOf", "oneOf"):
            parts = [(*at, keyword, str(i)) for i in range(len(node.get(keyword, ())))]
            if parts and not any(self._ends[part] for part in parts):
                return False
        named = node.get("type", list(_TYPES))
        types = {named} if isinstance(named, str) else set(named)
        return (
            bool(types & _SCALARS)
            or ("object" in types and self._object_ends(node, at))
            or ("array" in types and self._array_ends(node, at))
        )

    def _object_ends(self, node: dict[str, JsonValue], at: Pointer) -> bool:
        properties = node.get("properties", {})
        needed = [
            (*at, "properties", name) if name in properties else (*at, "additionalProperties")
            for name in node.get("required", ())
        ]
        return all(self._ends.get(place, True) for place in needed)

    def _array_ends(self, node: dict[str, JsonValue], at: Pointer) -> bool:
        first, least = len(node.get("prefixItems", ())), node.get("minItems", 0)
        needed = [(*at, "prefixItems", str(index)) for index in range(min(first, least))]
        if least > first:
            needed.append((*at, "items"))
        return all(self._ends.get(place, True) for place in needed)


def _places(node: JsonValue, at: Pointer) -> Iterator[tuple[Pointer, JsonValue]]:
    """Every schema within a rewritten schema, with its place."""
    yield at, node
    if not isinstance(node, dict):
        return
    for keyword in ("additionalProperties", "items"):
        if keyword in node:
            yield from _places(node[keyword], (*at, keyword))
    for keyword in ("properties", "patternProperties", "$defs"):
        for name, part in node.get(keyword, {}).items():
            yield from _places(part, (*at, keyword, name))
    for keyword in (*_IN_PLACE, "prefixItems"):
        for index, part in enumerate(node.get(keyword, ())):
            yield from _places(part, (*at, keyword, str(index)))
