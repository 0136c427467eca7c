"""A schema rewritten into the part that decoding can hold: one dialect, local references, no keyword beyond a grammar.

The rewritten schema allows all that the original allows. What it allows more is named by the JSON pointers of the
keywords left out. Every `$ref` target becomes an entry of the new schema's own `$defs`, so nothing dangles when a
keyword goes. Which of the doubtful keywords must go is the caller's choice (`planning` finds it by trying).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from rung.errors import ConfigError
from rung.receipt import JsonValue
from rung.structured.keywords import (
    ANNOTATIONS,
    CONTENT,
    CONTENT_DRAFTS,
    DRAFTS,
    FORMATS,
    LARGEST,
    NEVER,
    NEWEST,
    ONE_SCHEMA,
    PLAIN,
    SCHEMA_LISTS,
    SCHEMA_TABLES,
    SINCE,
    SUSPECTS,
    asserts_nothing,
)
from rung.structured.places import anchors, fragment, places, property_names
from rung.structured.pointers import Pointer, parsed, shown, value_at

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
Table = dict[str, JsonValue]


class Weakened(msgspec.Struct, frozen=True):
    """A rewritten schema.

    Attributes:
        schema: draft 2020-12; references are `#` or `#/$defs/NAME`.
        relaxed: JSON pointers into the original of what it does not hold, in order.
        suspects: pointers of the kept keywords that a compiler may yet refuse.
        origins: name in `$defs` to the original's pointer.
    """

    schema: JsonValue
    relaxed: tuple[str, ...]
    suspects: tuple[str, ...]
    origins: Mapping[str, str]


def weaken(original: JsonValue, left_out: frozenset[str] = frozenset()) -> Weakened:
    """Rewrite `original` without the keywords at the pointers of `left_out`.

    Args:
        original: a valid JSON Schema, nested no deeper than Python's stack allows.
        left_out: pointers of suspects; `oneOf` becomes `anyOf`, every other one goes.

    Raises:
        ConfigError: a `$ref` is remote, points at nothing, or at something that is no schema.
    """
    return _Writer(original, left_out).write()


def draft_of(original: JsonValue) -> int:
    """The schema's draft by its `$schema`: 4, 6, 7, 2019 or 2020; the newest when it does not say.

    Raises:
        ConfigError: it names a draft nobody here knows.
    """
    named = original.get("$schema") if isinstance(original, dict) else None
    if named is None:
        return NEWEST
    draft = DRAFTS.get(str(named).rstrip("#"))
    if draft is None:
        raise ConfigError(
            f"'$schema' {named!r} is no draft of JSON Schema that Rung knows",
            hint="leave $schema out for draft 2020-12",
        )
    return draft


class _Writer:
    """One rewriting: what is named, what is suspected, which targets still wait to be written."""

    def __init__(self, root: JsonValue, left_out: frozenset[str]) -> None:
        self._root = root
        self._draft = draft_of(root)
        self._left_out = left_out
        self._anchors = anchors(places(root))
        self._property_names = frozenset(property_names(root))
        self._names: dict[Pointer, str] = {}
        self._waiting: list[Pointer] = []
        self._relaxed: dict[str, None] = {}
        self._suspects: dict[str, None] = {}

    def write(self) -> Weakened:
        top = self._schema(self._root, ())
        definitions: Table = {}
        while self._waiting:
            target = self._waiting.pop(0)
            definitions[self._names[target]] = self._schema(value_at(self._root, target), target)
        if definitions:
            top["$defs"] = definitions
        origins = {name: shown(target) for target, name in self._names.items()}
        return Weakened(top, tuple(self._relaxed), tuple(self._suspects), origins)

    def _schema(self, node: JsonValue, at: Pointer) -> JsonValue:
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise ConfigError(f"the schema at {shown(at)!r} is neither a table nor true or false")
        if at and any(isinstance(node.get(key), str) for key in ("$id", "id")):
            raise ConfigError(
                f"{shown(at)}/$id gives a part of the schema an address of its own",
                hint="leave $id out below the root and refer to parts as #/$defs/NAME",
            )
        out: Table = {}
        for keyword, written, value in _modern(node, self._draft):
            self._keyword(out, node, keyword, value, (*at, written))
        self._settle_patterns(out, at)
        return out

    def _keyword(
        self, out: Table, node: Table, keyword: str, value: JsonValue, at: Pointer
    ) -> None:
        """Write one keyword into `out`, or name it as relaxed."""
        if keyword in CONTENT and self._draft in CONTENT_DRAFTS:
            self._relax(at)
        elif keyword in ANNOTATIONS or keyword.startswith("x-"):
            return
        elif keyword == "$ref":
            out[keyword] = self._reference(value, at)
        elif keyword in ONE_SCHEMA:
            out[keyword] = self._schema(value, at)
        elif keyword in SCHEMA_TABLES:
            self._table(out, keyword, value, at)
        elif keyword in SCHEMA_LISTS:
            self._list(out, keyword, value, at)
        elif keyword in PLAIN and SINCE.get(keyword, 0) <= self._draft:
            self._plain(out, keyword, value, at)
        elif keyword not in NEVER or not asserts_nothing(keyword, node):
            self._relax(at)

    def _plain(self, out: Table, keyword: str, value: JsonValue, at: Pointer) -> None:
        largest = LARGEST.get(keyword)
        if largest is not None and isinstance(value, float) and value.is_integer():
            value = int(value)
        too_large = largest is not None and value > largest
        unknown = keyword == "format" and value not in FORMATS
        if too_large or unknown or self._goes(keyword, at):
            self._relax(at)
        else:
            out[keyword] = value

    def _list(self, out: Table, keyword: str, value: JsonValue, at: Pointer) -> None:
        if not isinstance(value, list):
            raise ConfigError(f"{shown(at)} must be a list of schemas")
        schemas = [self._schema(part, (*at, str(index))) for index, part in enumerate(value)]
        if self._goes(keyword, at):
            self._relax(at)
            out.setdefault("allOf", []).append({"anyOf": schemas})
        elif keyword == "allOf":
            out.setdefault("allOf", []).extend(schemas)
        else:
            out[keyword] = schemas

    def _table(self, out: Table, keyword: str, value: JsonValue, at: Pointer) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{shown(at)} must be a table of schemas")
        schemas = {name: self._schema(part, (*at, name)) for name, part in value.items()}
        overlap = keyword == "patternProperties" and _any_matches(value, self._property_names)
        if overlap or self._goes(keyword, at):
            self._relax(at)
            out[keyword] = None  # settled when the whole table is known
        else:
            out[keyword] = schemas

    def _settle_patterns(self, out: Table, at: Pointer) -> None:
        """Without its patterns, a table's rule for all *other* names would hold too many of them."""
        if "patternProperties" in out and out["patternProperties"] is None:
            del out["patternProperties"]
            if out.pop("additionalProperties", True) is not True:
                self._relax((*at, "additionalProperties"))

    def _reference(self, ref: JsonValue, at: Pointer) -> str:
        target = self._target(str(ref), at)
        if not target:
            return "#"
        if target not in self._names:
            value_at(self._root, target)
            plain = _UNSAFE.sub("_", target[-1])
            self._names[target] = _free(plain, set(self._names.values()))
            self._waiting.append(target)
        return f"#/$defs/{self._names[target]}"

    def _target(self, ref: str, at: Pointer) -> Pointer:
        said = fragment(ref, self._root)
        if said is None:
            raise ConfigError(
                f"{shown(at)} is {ref!r}, which is not part of this schema",
                hint="nothing is fetched: put the definition under $defs and refer to it as #/$defs/NAME",
            )
        if not said or said.startswith("/"):
            return parsed(said)
        if said not in self._anchors:
            raise ConfigError(f"{shown(at)} is {ref!r}, and no part of the schema has that $anchor")
        return self._anchors[said]

    def _goes(self, keyword: str, at: Pointer) -> bool:
        """Whether the keyword is to be left out; one that stays is noted as a suspect."""
        if keyword not in SUSPECTS:
            return False
        place = shown(at)
        if place in self._left_out:
            return True
        self._suspects[place] = None
        return False

    def _relax(self, at: Pointer) -> None:
        self._relaxed[shown(at)] = None


def _modern(node: Table, draft: int) -> Iterator[tuple[str, str, JsonValue]]:
    """The keywords of a schema of any draft as (2020-12's name, name as written, value)."""
    if "$ref" in node and draft <= 7:  # there, keywords beside a $ref say nothing
        yield "$ref", "$ref", node["$ref"]
        return
    tuples = draft < 2020 and isinstance(node.get("items"), list)
    for key, value in node.items():
        if draft == 4 and key in {"exclusiveMinimum", "exclusiveMaximum"}:
            continue
        if draft == 4 and key in {"minimum", "maximum"}:
            exclusive = "exclusive" + key.capitalize()
            yield (exclusive if node.get(exclusive) is True else key), key, value
        elif key == "items" and tuples:
            yield "prefixItems", key, value
        elif key == "additionalItems" and draft < 2020:
            if tuples:
                yield "items", key, value
        elif key == "prefixItems" and draft < 2020:
            yield "x-prefixItems", key, value
        else:
            yield key, key, value


def _any_matches(patterns: Iterable[str], names: Iterable[str]) -> bool:
    """Whether a name falls under a pattern; llguidance before 1.1 then forgets the pattern's schema."""
    import jsonschema_rs  # noqa: PLC0415 - 20 ms that only structured output needs

    tests = [jsonschema_rs.validator_for({"pattern": pattern}) for pattern in patterns]
    return any(test.is_valid(name) for test in tests for name in names)


def _free(wanted: str, taken: set[str]) -> str:
    """`wanted`, or with the first number that makes it new."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
