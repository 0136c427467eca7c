"""From signals to confidence, with the rung below as a witness."""

from __future__ import annotations

import math

import numpy as np

from rung.evidence import Below, Outcome, Performed, below_of, weigh
from rung.receipt import Verdict
from rung.trust.fitting import fit_calibrator
from rung.trust.signals import SUPPORT, classification_signals


def performed(rows: int = 2) -> Performed:
    """Answers "a" with probability 0.8."""
    return Performed([Outcome("a")] * rows, classification_signals([[0.8, 0.2]] * rows))


def test_without_a_calibrator_confidence_is_the_models_own_probability() -> None:
    """And there is no word of a rung below where none stands."""
    found = weigh(performed(), None)
    assert found.signals is not None
    assert SUPPORT not in found.signals.names
    assert [round(o.confidence or 0, 6) for o in found.outcomes] == [0.8, 0.8]


def test_a_row_that_the_rung_below_did_not_answer_has_no_word_of_it() -> None:
    """Missing is not disagreement."""
    found = weigh(performed(3), None, [Below("a", 0.9), Below("b", 0.9), None])
    assert found.signals is not None
    support = found.signals.values[:, found.signals.names.index(SUPPORT)]
    np.testing.assert_allclose(support, [math.log(10), -math.log(10), math.nan])


def test_a_calibrator_that_heard_a_rung_below_gives_no_confidence_without_it() -> None:
    """Missing evidence is never confidence."""
    draw = np.random.default_rng(0)
    right = draw.random(400) < 0.7
    p = draw.uniform(0.5, 0.9, 400)
    rows = Performed([Outcome("a")] * 400, classification_signals(np.column_stack([p, 1 - p])))
    heard = weigh(rows, None, [Below("a" if ok else "b", 0.8) for ok in right])
    assert heard.signals is not None
    calibrator = fit_calibrator(heard.signals, right, source="held-out")
    assert SUPPORT in calibrator.columns
    alone = weigh(rows, calibrator)
    assert [outcome.confidence for outcome in alone.outcomes] == [None] * 400


def test_only_an_answer_with_evidence_is_a_witness() -> None:
    """A failure says nothing of the row, nor does an answer without confidence."""
    assert below_of(Outcome("a", confidence=0.9)) == Below("a", 0.9)
    assert below_of(Outcome("a")) is None
    assert below_of(Outcome(verdict=Verdict.TIMEOUT)) is None
