"""Signals: evidence as numbers, and missing evidence as NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rung.trust.signals import (
    SCORE,
    answer_signals,
    classification_signals,
    extraction_signals,
    share_in_source,
    with_support,
)


def test_label_probabilities_become_score_margin_and_entropy() -> None:
    """The columns are -log(1 - p), log(p1 / p2) and normalised entropy, after normalising."""
    found = classification_signals([[1.4, 0.4, 0.2]])
    p = np.array([0.7, 0.2, 0.1])
    assert found.names == (SCORE, "margin", "entropy")
    expected = [-math.log(0.3), math.log(3.5), -(p * np.log(p)).sum() / math.log(3)]
    np.testing.assert_allclose(found.values[0], expected)
    assert found.predicted.tolist() == [0]


@pytest.mark.parametrize("row", [[0.0, 0.0], [math.nan, 0.5], [math.inf, 0.5], [-0.1, 1.1]])
def test_probabilities_that_are_none_are_missing_evidence(row: list[float]) -> None:
    """Zero mass, NaN, infinity or a negative number: every column NaN, and no label."""
    found = classification_signals([row, [0.5, 0.5]])
    assert np.isnan(found.values[0]).all()
    assert np.isfinite(found.values[1]).all()
    assert found.predicted.tolist() == [-1, 0]


def test_certainty_stays_finite() -> None:
    """A probability of 1 is clipped at a doubt of one in a thousand million."""
    found = classification_signals([[1.0, 0.0]])
    assert found.values[0, 0] == pytest.approx(math.log(1e9))
    assert np.isfinite(found.values).all()


def test_questions_add_columns_of_their_own() -> None:
    """Length, words, digits and characters beyond ASCII follow the answer's own columns."""
    found = classification_signals([[0.5, 0.5], [0.5, 0.5]], ["né 12", ""])
    assert found.names[3:] == ("query_chars", "query_words", "query_digits", "query_non_ascii")
    expected = [math.log1p(5), math.log1p(2), 0.4, 0.2]
    np.testing.assert_allclose(found.values[0, 3:], expected)
    np.testing.assert_allclose(found.values[1, 3:], 0.0)


def test_a_service_that_tells_one_confidence_has_one_column() -> None:
    """Confidences outside 0..1 and unlabelled answers are missing."""
    found = answer_signals([0.9, 1.5, math.nan, 0.5], [2, 1, 0, -1], 3)
    assert np.isnan(found.values[:, 0]).tolist() == [False, True, True, True]
    assert found.predicted.tolist() == [2, -1, -1, -1]


def test_an_invalid_record_has_no_signals_at_all() -> None:
    """Schema validity is a gate, whatever else the record shows."""
    found = extraction_signals([True, False], [1.0, 1.0], [2, 2], [0.9, 0.9])
    assert found.names == ("in_source", "claims", SCORE)
    assert np.isfinite(found.values[0]).all()
    assert np.isnan(found.values[1]).all()
    assert found.classes == 0


def test_values_are_looked_for_in_the_source_without_case_or_spacing() -> None:
    """Two of three values stand in the text; with no value there is nothing to say."""
    text = "Invoice of  ACME\nLtd, 12 May"
    assert share_in_source(["acme ltd", "12 May", "Paris", " "], text) == pytest.approx(2 / 3)
    assert share_in_source([], text) == 1.0  # what claims nothing is not contradicted


def test_a_lower_rung_speaks_for_or_against_and_is_replaced_when_asked_again() -> None:
    """Support is its own score, negative where it answered otherwise, missing where it was not asked."""
    signals = classification_signals([[0.7, 0.3]] * 3)
    first = with_support(signals, [True, False, False], [0.9, 0.9, math.nan])
    assert first.names == (SCORE, "margin", "entropy", "support")
    np.testing.assert_allclose(first.values[:, 3], [math.log(10), -math.log(10), math.nan])
    again = with_support(first, [True] * 3, [0.5] * 3)
    assert again.names == first.names
    np.testing.assert_allclose(again.values[:, 3], [math.log(2)] * 3)


def test_rows_can_lose_their_evidence() -> None:
    """What is known of another answer is not known of this one."""
    signals = classification_signals([[0.7, 0.3]] * 2).without(np.array([True, False]))
    assert np.isnan(signals.values[0]).all()
    assert np.isfinite(signals.values[1]).all()


def test_lengths_that_differ_are_refused() -> None:
    """One text, one label and one flag a row, and at least two labels."""
    with pytest.raises(ValueError, match="labels >= 2"):
        classification_signals([[1.0]])
    with pytest.raises(ValueError, match="texts"):
        classification_signals([[0.5, 0.5]], ["a", "b"])
    with pytest.raises(ValueError, match="one a row"):
        answer_signals([0.5], [0, 1], 2)
    with pytest.raises(ValueError, match="of only"):
        answer_signals([0.5], [2], 2)
    with pytest.raises(ValueError, match="one a row"):
        extraction_signals([True], [1.0, 0.5], [1])
