"""Per-field probabilities: which token counts for which field, and when nothing can be said."""

from __future__ import annotations

import math

import pytest

from rung.structured.fields import field_probabilities, least_field

NAMES = ("people", "day", "time")


def tokens(*parts: tuple[str, float]) -> list[tuple[str, float]]:
    """Tokens given with their probabilities."""
    return [(text, math.log(probability)) for text, probability in parts]


def spelled(given: list[tuple[str, float]]) -> str:
    """The text the tokens make."""
    return "".join(text for text, _ in given)


def test_a_field_is_the_product_of_its_tokens() -> None:
    """From the end of the value before it to the end of its own; the last segment closes."""
    given = tokens(
        ('{"', 1.0), ("people", 0.9), ('":', 1.0), ("4", 0.8),
        (',"', 0.5), ("day", 0.9), ('":', 1.0), ('"Fri', 0.6), ('day"', 0.5), ("}", 0.7),
    )  # fmt: skip
    found = field_probabilities(spelled(given), given, ("people", "day"))
    assert found is not None
    assert found.fields == pytest.approx({"people": 0.72, "day": 0.5 * 0.9 * 0.6 * 0.5})
    assert found.closing == pytest.approx(0.7)
    assert found.least == pytest.approx(0.135)


def test_an_absent_field_has_the_probability_of_what_passed_it_over() -> None:
    """The next field's segment, or the closing."""
    given = tokens(('{"day":', 0.4), ('"Friday"', 0.9), ("}", 0.3))
    found = field_probabilities(spelled(given), given, NAMES)
    assert found is not None
    assert found.fields == pytest.approx({"people": 0.36, "day": 0.36, "time": 0.3})


def test_an_empty_record_is_all_closing() -> None:
    """Every field was passed over at once."""
    given = tokens(("{", 1.0), ("}", 0.6))
    found = field_probabilities("{}", given, NAMES)
    assert found is not None
    assert found.fields == pytest.approx(dict.fromkeys(NAMES, 0.6))
    assert least_field("{}", given, NAMES) == pytest.approx(0.6)


def test_a_token_in_two_segments_counts_in_both() -> None:
    """The end of a value and the begin of the next field are one choice."""
    given = tokens(('{"people":"4', 1.0), ('","', 0.5), ('day":"x"', 1.0), ("}", 1.0))
    found = field_probabilities(spelled(given), given, ("people", "day"))
    assert found is not None
    assert found.fields == pytest.approx({"people": 0.5, "day": 0.5})


def test_the_token_that_ends_the_answer_counts_as_closing() -> None:
    """Some servers list it after the text's last one."""
    given = tokens(('{"day":1', 1.0), ("}", 0.5), ("<|im_end|>", 0.5))
    found = field_probabilities('{"day":1}', given, ("day",))
    assert found is not None
    assert (found.fields, found.closing) == ({"day": 1.0}, pytest.approx(0.25))


def test_values_inside_and_blanks_between_do_not_mislead() -> None:
    """Nested records, escapes and white space belong to the field they stand in."""
    text = ' { "a" : {"b": [1, "}"]} , "c" : "\\"," } '
    given = [(letter, -0.01) for letter in text]
    found = field_probabilities(text, given, ("a", "c"))
    assert found is not None
    first, second = text.index(' , "c"'), text.rindex('"') + 1
    assert found.fields == pytest.approx(
        {"a": math.exp(-0.01 * first), "c": math.exp(-0.01 * (second - first))}
    )
    assert found.closing == pytest.approx(math.exp(-0.01 * (len(text) - second)))


def test_a_value_that_is_no_object_is_all_closing() -> None:
    """There are no fields to tell apart."""
    given = tokens(("[1", 0.5), (",2]", 0.5))
    found = field_probabilities("[1,2]", given, ())
    assert found is not None
    assert (found.fields, found.closing) == ({}, pytest.approx(0.25))


def test_fields_beyond_the_schema_and_out_of_order_are_told_too() -> None:
    """What a server without constraints wrote is still evidence."""
    given = tokens(('{"time":1', 0.5), (',"other":2', 0.25), (',"people":3', 0.9), ("}", 1.0))
    found = field_probabilities(spelled(given), given, NAMES)
    assert found is not None
    assert found.fields == pytest.approx({"time": 0.5, "other": 0.25, "people": 0.9, "day": 0.5})


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ('{"day":"€"}', [('{"day":"', -0.1), ('"}', -0.1)]),
        ('{"day":1}', []),
        ('{"day":1}', [('{"day":1}', float("nan"))]),
        ('{"day":1}', [('{"day":1} and', -0.1)]),
        ('{"day":', [('{"day":', -0.1)]),
        ('{"day":1,"day":2}', [('{"day":1,"day":2}', -0.1)]),
        ("[" * 100_000, [("[" * 100_000, -0.1)]),
    ],
    ids=["a token is missing", "none", "no number", "cut inside", "no JSON", "twice", "too deep"],
)
def test_nothing_is_said_without_evidence(text: str, given: list[tuple[str, float]]) -> None:
    """Tokens that do not spell the text are evidence of nothing."""
    assert field_probabilities(text, given, ("day",)) is None
    assert least_field(text, None, ("day",)) is None
