"""The validator of finished answers checks every format, in every draft, or says that it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grammar_acceptance import Acceptor

from rung.errors import ConfigError
from rung.structured import llguidance_grammar, plan
from rung.structured.keywords import CHECKED_FORMATS, DRAFTS, FORMATS
from rung.structured.validation import validator_of
from rung.task import Kind, Task

RIGHT = {
    "date": "2024-02-29",
    "date-time": "2026-11-21T10:00:00Z",
    "duration": "P1DT2H",
    "email": "a@example.org",
    "hostname": "example.org",
    "idn-email": "ä@example.org",
    "idn-hostname": "bücher.example",
    "ipv4": "10.0.0.1",
    "ipv6": "::1",
    "iri": "https://example.org/ü",
    "iri-reference": "/ü",
    "json-pointer": "/a/0",
    "regex": "^a+$",
    "relative-json-pointer": "1/a",
    "time": "10:00:00Z",
    "uri": "https://example.org/a",
    "uri-reference": "../a",
    "uri-template": "/a/{b}",
    "uuid": "2eb8aa08-aa98-11ea-b4aa-73b441d16380",
}
WRONG = {"date": "2025-02-29", "date-time": "2025-02-29T10:00:00Z", "json-pointer": "a"}
NEVER_RIGHT = "(\\ {"
"""Breaks every other format."""


@pytest.mark.parametrize("draft", DRAFTS)
def test_every_format_is_checked_in_every_draft(draft: str) -> None:
    """A value of the right form passes, another does not, and what is no text is not looked at."""
    assert RIGHT.keys() == CHECKED_FORMATS
    for name, right in RIGHT.items():
        validator = validator_of({"$schema": draft, "format": name})
        assert validator.is_valid(right), name
        assert not validator.is_valid(WRONG.get(name, NEVER_RIGHT)), name
        assert validator.is_valid(3), name


def test_what_decoding_may_write_of_a_format_can_be_right() -> None:
    """Both take the same example; validation alone knows which years have a 29 February."""
    for name in FORMATS:
        held = Acceptor(llguidance_grammar(plan(json.dumps({"type": "string", "format": name}))))
        assert held.accepts(RIGHT[name]), name
    assert Acceptor(llguidance_grammar(plan('{"type":"string","format":"date"}'))).accepts(
        WRONG["date"]
    )


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [("date", "2024-02-29", "2025-02-29"), ("uri", "https://example.org", "example org")],
)
def test_a_contract_holds_answers_to_their_formats(form: str, right: str, wrong: str) -> None:
    """Those that decoding holds in part and those that it does not hold at all."""
    schema = {"type": "object", "properties": {"x": {"type": "string", "format": form}}}
    contract = Task(name="t", kind=Kind.EXTRACT, schema=json.dumps(schema)).contract
    assert contract.violation({"x": right}) is None
    assert contract.violation({"x": wrong}) == "x does not match the schema (properties/x/format)"


@pytest.mark.parametrize(
    "schema",
    [
        {"format": "iban"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": {"format": "iban"}},
        {"properties": {"default": {"if": {"format": "iban"}}}},
        {"$ref": "#/x/y", "x": {"y": {"format": "iban"}}},
    ],
)
def test_a_format_that_nothing_checks_is_refused(schema: dict[str, Any]) -> None:
    """By its name and place, before any answer is held to it."""
    with pytest.raises(ConfigError, match="format is 'iban', a format that nothing checks"):
        validator_of(schema)
    with pytest.raises(ConfigError, match=r"task 't': .*'iban'") as caught:
        _ = Task(name="t", kind=Kind.EXTRACT, schema=json.dumps(schema)).contract
    assert caught.value.hint == "leave it out, or say it as a pattern"


def test_a_property_called_format_and_data_are_no_formats() -> None:
    """Only the keyword is one."""
    schema = {
        "properties": {"format": {"const": {"format": "iban"}}},
        "default": {"format": "iban"},
    }
    assert validator_of(schema).is_valid({"format": {"format": "iban"}})
