"""What a plan enforces, what it relaxes by name, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grammar_acceptance import Acceptor

from rung.errors import ConfigError
from rung.structured import SchemaPlan, llguidance_grammar, plan


def planned(schema: Any) -> SchemaPlan:
    """The plan of a schema given as a value."""
    return plan(json.dumps(schema))


def acceptor(schema: Any) -> Acceptor:
    """What the engine's grammar for a schema accepts."""
    return Acceptor(llguidance_grammar(planned(schema)))


OBJECT = {"type": "object", "additionalProperties": False}

ENFORCED: dict[str, tuple[Any, Any, Any]] = {
    "type": ({"type": "integer"}, 3, "3"),
    "required": ({**OBJECT, "properties": {"a": {}}, "required": ["a"]}, {"a": 1}, {}),
    "enum": ({"enum": ["a", 1]}, "a", "b"),
    "const": ({"const": {"a": 1}}, {"a": 1}, {"a": 2}),
    "minLength": ({"type": "string", "minLength": 2}, "ab", "a"),
    "maxLength": ({"type": "string", "maxLength": 2}, "ab", "abc"),
    "pattern": ({"type": "string", "pattern": "^[a-z]+$"}, "ab", "A"),
    "pattern with digits": ({"type": "string", "pattern": r"^\d{4}$"}, "2026", "26"),
    "pattern unanchored": ({"type": "string", "pattern": "b"}, "abc", "ac"),
    "minItems": ({"type": "array", "minItems": 1}, [1], []),
    "maxItems": ({"type": "array", "maxItems": 1}, [1], [1, 2]),
    "items": ({"type": "array", "items": {"type": "null"}}, [None], [1]),
    "prefixItems": ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, [1], [2]),
    "additionalProperties false": ({**OBJECT, "properties": {"a": {}}}, {"a": 1}, {"b": 1}),
    "additionalProperties schema": (
        {"type": "object", "additionalProperties": {"type": "null"}},
        {"a": None},
        {"a": 1},
    ),
    "patternProperties": (
        {**OBJECT, "patternProperties": {"^a": {"type": "null"}}},
        {"ab": None},
        {"b": None},
    ),
    "anyOf": ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, None, "a"),
    "allOf": ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, 3, 2),
    "oneOf, told apart": ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, 1, "a"),
    "$ref": ({"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}, 1, 2),
    "recursive $ref": (
        {**OBJECT, "properties": {"next": {"$ref": "#"}}},
        {"next": {"next": {}}},
        {"next": 1},
    ),
    "$anchor": ({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "const": 1}}}, 1, 2),
    "format date": ({"type": "string", "format": "date"}, "2026-11-21", "2026-13-21"),
    "format date-time": (
        {"type": "string", "format": "date-time"},
        "2026-11-21T10:00:00Z",
        "2026-11-21",
    ),
    "format uuid": (
        {"type": "string", "format": "uuid"},
        "2eb8aa08-aa98-11ea-b4aa-73b441d16380",
        "2eb8",
    ),
    "format email": ({"type": "string", "format": "email"}, "a@example.org", "a"),
    "format ipv4": ({"type": "string", "format": "ipv4"}, "10.0.0.1", "10.0.0"),
    "minimum": ({"type": "integer", "minimum": 3}, 3, 2),
    "maximum": ({"type": "integer", "maximum": 3}, 3, 4),
    "exclusiveMinimum": ({"type": "integer", "exclusiveMinimum": 3}, 4, 3),
    "minimum of a number": ({"type": "number", "minimum": 0.5}, 0.75, 0.25),
    "multipleOf": ({"type": "integer", "multipleOf": 3}, 6, 7),
    "multipleOf 0.01": ({"type": "number", "multipleOf": 0.01}, 0.02, 0.005),
    "minProperties": ({"type": "object", "minProperties": 1}, {"a": 1}, {}),
    "maxProperties": ({"type": "object", "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}),
    "only required": ({"type": "object", "required": ["a"]}, {"a": 1}, {}),
    "text beyond ASCII": ({"enum": ["Zürich", "東京"]}, "東京", "Tokyo"),
}


@pytest.mark.parametrize("name", ENFORCED)
def test_a_keyword_that_a_grammar_can_hold_is_held(name: str) -> None:
    """Nothing is relaxed, the right value can be written, the wrong one cannot."""
    schema, right, wrong = ENFORCED[name]
    assert planned(schema).relaxed == ()
    held = acceptor(schema)
    assert (held.accepts(right), held.accepts(wrong)) == (True, False)


RELAXED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "uniqueItems": ({"type": "array", "uniqueItems": True}, ("/uniqueItems",)),
    "contains": ({"contains": {"const": 1}, "minContains": 2}, ("/contains", "/minContains")),
    "not": ({"type": "string", "not": {"const": "a"}}, ("/not",)),
    "if": ({"if": {"type": "null"}, "then": True, "else": {}}, ("/if", "/then", "/else")),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, ("/dependentRequired",)),
    "dependentSchemas": ({"dependentSchemas": {"a": {}}}, ("/dependentSchemas",)),
    "propertyNames": ({"propertyNames": {"maxLength": 3}}, ("/propertyNames",)),
    "unevaluated": ({"unevaluatedProperties": False}, ("/unevaluatedProperties",)),
    "oneOf that overlaps": ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, ("/oneOf",)),
    "a pattern that looks ahead": (
        {"type": "string", "pattern": "^(?!x)", "minLength": 1},
        ("/pattern",),
    ),
    "text that draft 7 decodes": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "contentEncoding": "base64",
            "contentMediaType": "application/json",
        },
        ("/contentEncoding", "/contentMediaType"),
    ),
    "a format only new llguidance knows": ({"type": "string", "format": "uri"}, ("/format",)),
    "a word that is no keyword": ({"type": "string", "minimun": 3}, ("/minimun",)),
    "minProperties with a choice": (
        {**OBJECT, "properties": {"a": {}, "b": {}}, "minProperties": 2},
        ("/minProperties",),
    ),
    "a count beyond any answer": ({"type": "array", "maxItems": 10**9}, ("/maxItems",)),
    "$dynamicRef": (
        {"$dynamicRef": "#a", "$defs": {"x": {"$dynamicAnchor": "a"}}},
        ("/$dynamicRef",),
    ),
    "a pattern of names beside a name it covers": (
        {**OBJECT, "properties": {"ab": {}}, "patternProperties": {"^a": {"type": "null"}}},
        ("/patternProperties", "/additionalProperties"),
    ),
}


@pytest.mark.parametrize("name", RELAXED)
def test_a_keyword_that_no_grammar_holds_is_named(name: str) -> None:
    """What is not enforced is told by its JSON pointer."""
    schema, relaxed = RELAXED[name]
    assert planned(schema).relaxed == relaxed


def test_only_what_must_go_is_relaxed() -> None:
    """One pattern out of reach leaves every other keyword enforced."""
    names = {"a": "^x", "b": "^(?!x)", "c": "^y"}
    schema = {
        **OBJECT,
        "properties": {
            **{name: {"type": "string", "pattern": p} for name, p in names.items()},
            "n": {"oneOf": [{"type": "number"}, {"type": "integer"}]},
            "m": {"oneOf": [{"type": "null"}, {"type": "integer"}]},
        },
    }
    assert planned(schema).relaxed == ("/properties/b/pattern", "/properties/n/oneOf")
    held = acceptor(schema)
    assert held.accepts({"a": "x", "b": "x", "c": "y", "n": 1})
    assert not held.accepts({"a": "y"})


def test_a_relaxation_behind_a_reference_is_named_where_it_stands() -> None:
    """Pointers lead into the schema as it was written."""
    schema = {
        **OBJECT,
        "properties": {"tags": {"$ref": "#/$defs/tag~1list"}},
        "$defs": {"tag/list": {"type": "array", "uniqueItems": True}, "unused": {"not": {}}},
    }
    assert planned(schema).relaxed == ("/$defs/tag~1list/uniqueItems",)


def test_keywords_without_effect_are_not_named() -> None:
    """Titles, `x-` keys, and checks that check nothing relax nothing."""
    schema = {
        "type": "array",
        "title": "Tags",
        "x-order": 3,
        "uniqueItems": False,
        "minContains": 1,
        "then": {},
        "x-guidance": {"lenient": True},
        "contentEncoding": "base64",
    }
    assert planned(schema) == SchemaPlan('{"type":"array"}')


def test_older_drafts_mean_what_they_say() -> None:
    """Tuples of draft 7, exclusive bounds of draft 4, and keywords beside a $ref."""
    seven = "http://json-schema.org/draft-07/schema#"
    pair = {
        "$schema": seven,
        "items": [{"type": "null"}],
        "additionalItems": False,
        "type": "array",
    }
    assert planned(pair) == SchemaPlan(
        '{"prefixItems":[{"type":"null"}],"items":false,"type":"array"}'
    )
    four = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "integer",
        "minimum": 3,
        "exclusiveMinimum": True,
    }
    assert planned(four) == SchemaPlan('{"type":"integer","exclusiveMinimum":3}')
    beside = {"$schema": seven, "$ref": "#/definitions/a", "definitions": {"a": {"const": 1}}}
    assert acceptor(beside | {"maximum": 0}).accepts(1)


@pytest.mark.parametrize("count", range(1, 4))
def test_absent_members_may_be_absent(count: int) -> None:
    """Every subset of optional members can be written, in the schema's order."""
    names = ("b", "a", "c")[:count]
    held = acceptor({**OBJECT, "properties": {name: {"type": "null"} for name in names}})
    for chosen in range(2**count):
        members = {name: None for bit, name in enumerate(names) if chosen >> bit & 1}
        assert held.accepts_text(json.dumps(members, separators=(",", ":")))


REFUSED: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "not JSON"),
    "no schema": ("3", "an object, true or false, not int"),
    "no such type": ('{"type":"strng"}', "not a valid JSON Schema"),
    "no such pattern": ('{"pattern":"(("}', "not a valid JSON Schema"),
    "no such draft": ('{"$schema":"https://example.org/x"}', "no draft of JSON Schema"),
    "a format nothing checks": (
        '{"properties":{"a":{"not":{"format":"iban"}}}}',
        "/properties/a/not/format is 'iban', a format that nothing checks",
    ),
    "a part of another draft": (
        '{"properties":{"a":{"$schema":"http://json-schema.org/draft-07/schema#"}}}',
        "the schema around it is of another draft",
    ),
    "a remote reference": ('{"$ref":"https://example.org/x"}', "not part of this schema"),
    "a file": ('{"$ref":"file:///etc/passwd"}', "not part of this schema"),
    "a neighbour": ('{"$ref":"other.json"}', "not part of this schema"),
    "a dangling reference": ('{"$ref":"#/$defs/a"}', "holds nothing at '/$defs'"),
    "a dangling anchor": ('{"$ref":"#a"}', "no part of the schema has that $anchor"),
    "an address inside": (
        '{"$ref":"#/$defs/a","$defs":{"a":{"$id":"https://example.org/a"}}}',
        "/$defs/a/$id gives a part of the schema an address of its own",
    ),
    "itself": ('{"$ref":"#"}', "refers back to itself"),
    "a circle of references": (
        '{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"$ref":"#/$defs/a"}}}',
        "refers back to itself",
    ),
    "a cycle with no way out": (
        '{"type":"object","properties":{"n":{"$ref":"#"}},"required":["n"]}',
        "the $ref cycle has no way out",
    ),
    "a list that holds itself": (
        '{"type":"array","items":{"$ref":"#"},"minItems":1}',
        "the $ref cycle has no way out",
    ),
    "an endless part": (
        '{"properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":"array",'
        '"prefixItems":[{"$ref":"#/$defs/a"}],"minItems":1}}}',
        "would have to hold itself",
    ),
    "false": ("false", "no value can keep the schema"),
    "an empty range": (
        '{"type":"integer","minimum":3,"maximum":2}',
        "no value can keep the schema",
    ),
    "an empty pattern": (
        '{"type":"string","pattern":"^a$","minLength":3}',
        "no value can keep the schema",
    ),
    "a member that may not be": (
        '{"type":"object","required":["a"],"additionalProperties":false}',
        "no value can keep the schema",
    ),
    "deep": ('{"items":' * 70 + "{}" + "}" * 70, "deeper than 64"),
    "very deep": ("[" * 100_000, "deeper than 64"),
    "long": ('{"title":"' + "x" * 140_000 + '"}', "bytes long"),
    "wide": (
        json.dumps({"properties": {f"p{n}": {} for n in range(300)}}),
        "/properties has 300 entries",
    ),
    "a product of choices": (
        json.dumps(
            {
                "allOf": [
                    {
                        "anyOf": [
                            {
                                "type": "object",
                                "properties": {f"{x}{n}": {}},
                                "required": [f"{x}{n}"],
                            }
                            for x in "ab"
                        ]
                    }
                    for n in range(12)
                ]
            }
        ),
        "cannot be turned into a grammar: schema too large",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_planned_is_refused_in_one_sentence(name: str) -> None:
    """A clear error before anything runs; never a traceback of another library."""
    schema, said = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        plan(schema)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


def test_the_grammar_is_compact_json() -> None:
    """No white space outside strings: models fill answers with it where they may."""
    schema = {**OBJECT, "properties": {"a": {"type": "string"}, "b": {"type": "array"}}}
    held = acceptor(schema)
    assert held.accepts_text('{"a":"x y","b":[1,2]}')
    assert not held.accepts_text('{"a": "x y"}')
    assert not held.accepts_text('{"a":"x y","b":[1, 2]}')
    assert llguidance_grammar(planned(schema)).startswith("%llguidance {}\nstart: %json {")
