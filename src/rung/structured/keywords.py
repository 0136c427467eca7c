"""What each JSON Schema keyword is to constrained decoding: words only, checked, or beyond any grammar.

The tables say what is worth trying; whether a grammar compiler really takes a schema is asked of it (`checking`).
"""

from __future__ import annotations

from collections.abc import Mapping

from rung.receipt import JsonValue

NEWEST = 2020
"""The draft a schema has when it does not say: 2020-12."""

DRAFTS: dict[str, int] = {
    "http://json-schema.org/draft-04/schema": 4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
"""`$schema` without its `#` to the draft's number, or its year from 2019 on."""

SINCE: dict[str, int] = {"const": 6, "prefixItems": 2020}
"""Keywords that older drafts do not know, and so do not check."""

ANNOTATIONS = frozenset(
    {
        "$schema",
        "$id",
        "id",
        "$anchor",
        "$dynamicAnchor",
        "$recursiveAnchor",
        "$vocabulary",
        "$comment",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
    }
)
"""Keywords that no value can break; so can no key that begins with `x-`."""

CONTENT = frozenset({"contentEncoding", "contentMediaType"})
CONTENT_DRAFTS = frozenset({6, 7})
"""Drafts in which validation holds text to `CONTENT`; in the others these are words only."""

NEVER = frozenset(
    {
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$recursiveRef",
    }
)
"""Keywords that a grammar over the text from left to right does not hold."""

PLAIN = frozenset(
    {
        "type",
        "enum",
        "const",
        "required",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    }
)
"""Keywords whose value is kept as it stands."""

ONE_SCHEMA = frozenset({"additionalProperties", "items"})
SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
SCHEMA_TABLES = frozenset({"properties", "patternProperties"})

HOLDS_ONE = ONE_SCHEMA | {
    "additionalItems",
    "contains",
    "contentSchema",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
}
HOLDS_LIST = SCHEMA_LISTS | {"items"}
HOLDS_TABLE = SCHEMA_TABLES | {"$defs", "definitions", "dependencies", "dependentSchemas"}
"""Keywords of every draft whose value is a schema, a list of schemas, or schemas by name; under others it is data."""

_UNLIKE_2019 = frozenset(
    {
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveAnchor",
        "$recursiveRef",
        "additionalItems",
        "dependencies",
        "prefixItems",
        "unevaluatedItems",
    }
)
_UNLIKE_7 = _UNLIKE_2019 | {
    "$anchor",
    "contentEncoding",
    "contentMediaType",
    "dependentRequired",
    "dependentSchemas",
    "maxContains",
    "minContains",
    "unevaluatedProperties",
}
UNLIKE: Mapping[int, frozenset[str]] = {
    6: _UNLIKE_7 | {"else", "if", "then"},
    7: _UNLIKE_7,
    2019: _UNLIKE_2019,
}
"""Keywords that a draft does not know or reads otherwise than draft 2020-12 does."""

SUSPECTS = (PLAIN - {"type", "enum", "const", "required"}) | {"oneOf", "patternProperties"}
"""Keywords that a compiler takes in some schemas and not in others; without one, a schema only allows more."""

LARGEST: dict[str, int] = {
    "minItems": 4096,
    "maxItems": 4096,
    "minProperties": 4096,
    "maxProperties": 4096,
    "minLength": 100_000,
    "maxLength": 100_000,
}
"""Counts beyond these are left to validation: in a grammar they cost memory by the gigabyte."""

FORMATS = frozenset(
    {
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
    }
)
"""Formats that every llguidance in use holds text to: the wheel's, and the older one inside the engine."""

CHECKED_FORMATS = FORMATS | {
    "idn-email",
    "idn-hostname",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "uri",
    "uri-reference",
    "uri-template",
}
"""Formats that the finished answer is held to: those of draft 2020-12."""


def asserts_nothing(keyword: str, table: Mapping[str, JsonValue]) -> bool:
    """Whether a `NEVER` keyword says nothing in the schema `table`, so that leaving it out relaxes nothing."""
    value = table[keyword]
    if keyword == "uniqueItems":
        return value is False
    if keyword.startswith("unevaluated"):
        return value is True
    if keyword in {"minContains", "maxContains"}:
        return "contains" not in table
    if keyword in {"then", "else"}:
        return "if" not in table
    if keyword == "if":
        return not {"then", "else"} & set(table)
    return keyword.startswith("depend") and value == {}
