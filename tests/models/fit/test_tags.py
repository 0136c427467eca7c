"""Sums of memory are as sure as their least sure part."""

from __future__ import annotations

from rung.models.fit.tags import NOTHING, Amount, Tag


def test_a_sum_is_as_sure_as_its_less_sure_part() -> None:
    """And keeps each note once."""
    exact, rule = Amount(1, Tag.EXACT, "a"), Amount(2, Tag.RULE, "b", low_confidence=True)
    assert exact + rule == Amount(3, Tag.RULE, "a; b", low_confidence=True)
    assert exact + NOTHING == exact
    assert (rule + rule).note == "b"
    assert (rule + Amount(4, Tag.UNKNOWN)).tag is Tag.UNKNOWN
