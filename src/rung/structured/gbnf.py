"""Writing a planned schema as GBNF, for models whose tokenizer llguidance masks wrongly.

GBNF is llama.cpp's own grammar language. It is slower and can say less: `gbnf_plan` therefore relaxes more than
`planning.plan` does, by name, and `gbnf` refuses what is left over. The grammar writes compact JSON, properties in the
schema's order and none that the schema does not name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import msgspec

from rung.errors import EngineUnsupported
from rung.receipt import JsonValue
from rung.structured.checking import refusal
from rung.structured.planning import SchemaPlan, plan
from rung.structured.pointers import Pointer, parsed, shown
from rung.structured.weakening import weaken

LARGEST_COUNT = 2000
"""llama.cpp refuses longer repetitions."""

_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_HELD = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"prefixItems", "items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength"}),
}
_KNOWN = frozenset().union(*_HELD.values(), {"type", "$defs"})

_BASE = {
    "value": "object | array | string | number | boolean | null",
    "object": '"{" ( string ":" value ( "," string ":" value )* )? "}"',
    "array": '"[" ( value ( "," value )* )? "]"',
    # No \u escapes and no surrogates: half a pair is no text. Not "everything but", which lets numbers through that
    # are no characters. No "\x7f", as llguidance.
    "char": r'[ !#-\[\]-~\u0080-\uD7FF\uE000-\U0010FFFF] | "\\" ["\\/bfnrt]',
    "string": r'"\"" char* "\""',
    # Bounded, because a model that likes digits never stops.
    "integer": '"-"? ( "0" | [1-9] [0-9]{0,15} )',
    "number": 'integer ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )?',
    "boolean": '"true" | "false"',
    "null": '"null"',
}


@functools.lru_cache(maxsize=256)
def gbnf_plan(schema: str) -> SchemaPlan:
    """What decoding with GBNF enforces of `schema`: ranges, patterns, formats and long counts are relaxed too.

    Args:
        schema: as `plan` takes it.

    Raises:
        ConfigError: as `plan`.
    """
    held = plan(schema)  # which refuses what must be refused
    original = msgspec.json.decode(schema)
    suspects = weaken(original).suspects
    left_out = frozenset(
        place
        for place in suspects
        if place in held.relaxed or not _writable(parsed(place), original)
    )
    weakened = weaken(original, left_out)
    if refusal(weakened.schema) is not None:  # branches that only ranges or patterns told apart
        choices = frozenset(place for place in suspects if place.endswith("/oneOf"))
        weakened = weaken(original, left_out | choices)
    return SchemaPlan(msgspec.json.encode(weakened.schema).decode(), weakened.relaxed)


def gbnf(plan: SchemaPlan) -> str:
    """A grammar whose texts all keep `plan.enforced`; members that are not required may be absent.

    Args:
        plan: from `gbnf_plan`, or from `plan` where nothing more needs to be relaxed.

    Raises:
        EngineUnsupported: the schema says something that GBNF here cannot: a keyword beyond types, members, items,
            lengths, `enum`, `const`, `anyOf` and `$ref`, or several of these about one value.
    """
    return _Grammar(msgspec.json.decode(plan.enforced)).text()


def _writable(place: Pointer, original: JsonValue) -> bool:
    """Whether the suspect at `place` can stay: short counts and the choices that `anyOf` writes as well."""
    if place[-1] == "oneOf":
        return True
    count = functools.reduce(
        lambda value, step: value[int(step) if isinstance(value, list) else step], place, original
    )
    return place[-1] in _COUNTS and count <= LARGEST_COUNT


class _Grammar:
    """One grammar: its rules by name, made from the schema's places on first use."""

    def __init__(self, root: JsonValue) -> None:
        self._root = root
        self._definitions: dict[str, JsonValue] = (
            root.get("$defs", {}) if isinstance(root, dict) else {}
        )
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def text(self) -> str:
        start = self._reference("#", ())
        rules = {"root": start, **self._rules, **_BASE}
        return "".join(f"{name} ::= {body}\n" for name, body in rules.items())

    def _reference(self, ref: str, at: Pointer) -> str:
        """The rule of a `$ref` target."""
        if ref not in self._names:
            self._names[ref] = f"schema-{len(self._names)}"
            target = parsed(ref[1:])
            node = self._definitions[target[1]] if target else self._root
            self._rules[self._names[ref]] = self._value(node, target)
        return self._names[ref]

    def _rule(self, body: str) -> str:
        name = f"part-{len(self._rules)}"
        self._rules[name] = body
        return name

    def _value(self, node: JsonValue, at: Pointer) -> str:
        """An expression for the values of `node`."""
        if node is True:
            return "value"
        if node is False:
            raise _cannot(at, "a schema that is false")
        if "enum" in node or "const" in node:
            return self._literals(node, at)
        choices = [key for key in ("$ref", "allOf", "anyOf", "oneOf") if key in node]
        if choices:
            return self._choice(node, choices[0], at)
        strange = node.keys() - _KNOWN
        if strange:
            raise _cannot(at, ", ".join(sorted(strange)))
        named = node.get("type", list(_TYPES))
        types = [named] if isinstance(named, str) else list(named)
        if "number" in types and "integer" in types:
            types.remove("integer")
        return self._rule(" | ".join(self._of_type(kind, node, at) for kind in types))

    def _choice(self, node: dict[str, JsonValue], keyword: str, at: Pointer) -> str:
        beside = node.keys() - {keyword, "$defs"}
        if beside and not (beside == {"type"} and keyword != "$ref"):
            raise _cannot(at, f"{keyword} together with {', '.join(sorted(beside))}")
        if keyword == "$ref":
            return self._reference(node["$ref"], at)
        parts = node[keyword]
        if keyword == "allOf" and len(parts) > 1:
            raise _cannot((*at, keyword), "allOf of several schemas")
        # A `oneOf` in a plan has branches that exclude each other: any of them is one of them.
        typed = [_typed(part, node, at) for part in parts]
        bodies = [
            self._value(part, (*at, keyword, str(index)))
            for index, part in enumerate(typed)
            if part is not False
        ]
        if not bodies:
            raise _cannot((*at, keyword), "a choice none of which is possible")
        return self._rule(" | ".join(bodies))

    def _literals(self, node: dict[str, JsonValue], at: Pointer) -> str:
        """The values listed that keep the rest of `node`."""
        import jsonschema_rs  # noqa: PLC0415 - 20 ms that only structured output needs

        given = node["enum"] if "enum" in node else [node["const"]]
        checked = jsonschema_rs.validator_for(node | {"$defs": self._definitions})
        kept = [value for value in given if checked.is_valid(value)]
        if not kept:
            raise _cannot(at, "a list of values none of which keeps the schema")
        return self._rule(" | ".join(_quoted(msgspec.json.encode(v).decode()) for v in kept))

    def _of_type(self, kind: str, node: dict[str, JsonValue], at: Pointer) -> str:
        writers: dict[str, Callable[[dict[str, JsonValue], Pointer], str]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
        }
        if kind in writers and node.keys() & _HELD[kind]:
            return writers[kind](node, at)
        return kind

    def _string(self, node: dict[str, JsonValue], at: Pointer) -> str:
        return rf'"\"" char{_times(node.get("minLength", 0), node.get("maxLength"), at)} "\""'

    def _object(self, node: dict[str, JsonValue], at: Pointer) -> str:
        required = set(node.get("required", ()))
        members = list(self._members(node, at))
        if not members and node.get("properties"):
            return '"{}"'
        if not members:
            return self._map(node.get("additionalProperties", True), at)
        rest = ""  # what may follow once a member is written
        none_yet: list[str] = []  # ways to begin where none is, outermost last
        can_be_empty = True
        for name, body in reversed(members):
            first = f"{body} {rest}".strip()
            if name in required:
                none_yet, can_be_empty = [first], False
                follow = f'"," {body} {rest}'
            else:
                none_yet = [first, *none_yet]
                follow = f'( "," {body} )? {rest}'
            rest = self._rule(follow.strip())
        inside = self._rule(" | ".join(none_yet))
        return f'"{{" {inside}{"?" if can_be_empty else ""} "}}"'

    def _members(self, node: dict[str, JsonValue], at: Pointer) -> Iterator[tuple[str, str]]:
        """Each member with its expression: those named, then those only required."""
        properties = node.get("properties", {})
        others = node.get("additionalProperties", True)
        unnamed = {name: others for name in node.get("required", ()) if name not in properties}
        for name, schema in (properties | unnamed).items():
            if schema is False and name not in node.get("required", ()):
                continue
            key = _quoted(msgspec.json.encode(name).decode() + ":")
            yield name, f"{key} {self._value(schema, (*at, 'properties', name))}"

    def _map(self, values: JsonValue, at: Pointer) -> str:
        if values is False:
            return '"{}"'
        pair = self._rule(f'string ":" {self._value(values, (*at, "additionalProperties"))}')
        return f'"{{" ( {pair} ( "," {pair} )* )? "}}"'

    def _array(self, node: dict[str, JsonValue], at: Pointer) -> str:
        least, most = node.get("minItems", 0), node.get("maxItems")
        first = [
            self._value(part, (*at, "prefixItems", str(index)))
            for index, part in enumerate(node.get("prefixItems", ()))
        ]
        items = node.get("items", True)
        if items is False:
            most = len(first) if most is None else min(most, len(first))
        first = first[:most]
        tail = ""
        if most is None or most > len(first):
            item = self._value(items, (*at, "items"))
            tail = self._tail(item, len(first), least, most, at)
        return f'"[" {self._sequence(first, tail, least)} "]"'

    def _tail(self, item: str, before: int, least: int, most: int | None, at: Pointer) -> str:
        """The items after `before` others."""
        left, more = max(0, least - before), None if most is None else most - before
        if before:
            return f'( "," {item} ){_times(left, more, at)}'
        rest = f'( "," {item} ){_times(max(0, left - 1), None if more is None else more - 1, at)}'
        return f"{item} {rest}" if left else f"( {item} {rest} )?"

    def _sequence(self, first: Sequence[str], tail: str, least: int) -> str:
        """The leading items, each with what may follow it."""
        rest = tail
        for index in reversed(range(len(first))):
            comma = '"," ' if index else ""
            part = f"{comma}{first[index]} {rest}".strip()
            rest = part if index < least else f"( {part} )?"
        return rest


def _typed(part: JsonValue, outer: dict[str, JsonValue], at: Pointer) -> JsonValue:
    """A branch with the `type` that stands beside the choice."""
    if "type" not in outer:
        return part
    table = {} if part is True else part
    if "$ref" in table:
        raise _cannot(at, "a type beside a choice with $ref")
    kept = [
        kind for kind in _TYPES if _covers(outer["type"], kind) and _covers(table.get("type"), kind)
    ]
    return table | {"type": kept} if kept else False


def _covers(named: JsonValue, kind: str) -> bool:
    """Whether the value of a `type` keyword (None: any type) takes in `kind`."""
    if named is None:
        return True
    types = [named] if isinstance(named, str) else named
    return kind in types or (kind == "integer" and "number" in types)


def _times(least: int, most: int | None, at: Pointer) -> str:
    if max(least, most or 0) > LARGEST_COUNT:
        raise _cannot(at, f"a count above {LARGEST_COUNT:,}")
    return f"{{{least},{'' if most is None else most}}}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _cannot(at: Pointer, what: str) -> EngineUnsupported:
    return EngineUnsupported(
        f"{shown(at) or 'the schema'} cannot be written as GBNF: {what}",
        hint="simplify the schema, or use a model whose tokenizer llguidance can mask",
    )
