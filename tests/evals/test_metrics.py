"""`rung.evals.metrics` against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rung.evals.metrics import latency_histogram, reliability, risk_coverage


def test_the_curve_counts_errors_from_the_most_confident_row_on() -> None:
    """Each point holds the rows at or above its confidence, and how many of them are wrong."""
    curve = risk_coverage([0.2, 0.9, 0.5, 0.7], [False, True, True, False])
    assert curve.threshold.tolist() == [0.9, 0.7, 0.5, 0.2]
    assert curve.accepted.tolist() == [1, 2, 3, 4]
    assert curve.errors.tolist() == [0, 1, 1, 2]
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_rows_of_equal_confidence_enter_together() -> None:
    """A tie is one point, and its order in the input changes nothing."""
    one = risk_coverage([0.9, 0.5, 0.5], [True, True, False])
    other = risk_coverage([0.5, 0.5, 0.9], [False, True, True])
    assert one.accepted.tolist() == other.accepted.tolist() == [1, 3]
    assert one.errors.tolist() == other.errors.tolist() == [0, 1]
    assert one.aurc == other.aurc == pytest.approx((0 + 2 * (1 / 3)) / 3)


def test_a_thinned_curve_keeps_both_ends_and_its_area() -> None:
    """Fewer points, all of them from the whole curve."""
    random = np.random.default_rng(1)
    whole = risk_coverage(random.random(5000), random.random(5000) < 0.9)
    thin = whole.thinned(100)
    assert len(thin.accepted) == 100
    assert (thin.accepted[0], thin.accepted[-1]) == (whole.accepted[0], whole.accepted[-1])
    assert set(zip(thin.accepted, thin.errors, strict=True)) <= set(
        zip(whole.accepted, whole.errors, strict=True)
    )
    assert (thin.aurc, thin.scored) == (whole.aurc, whole.scored)


def test_without_rows_there_is_no_curve_no_bin_and_no_histogram() -> None:
    """Nothing measured is said as nothing, not as zero."""
    assert risk_coverage([], []).scored == 0
    assert reliability([], []).bins == ()
    assert latency_histogram([]) is None


def test_reliability_by_hand() -> None:
    """Two bins of two rows: mean confidence, share right, ECE and Brier as computed on paper."""
    made = reliability([0.1, 0.3, 0.8, 1.0], [False, True, True, True], bins=2)
    assert [(b.rows, b.correct) for b in made.bins] == [(2, 1), (2, 2)]
    assert [b.confidence for b in made.bins] == pytest.approx([0.2, 0.9])
    assert made.ece == pytest.approx((2 * 0.3 + 2 * 0.1) / 4)
    assert made.brier == pytest.approx((0.01 + 0.49 + 0.04 + 0.0) / 4)
    assert all(b.low <= b.accuracy <= b.high for b in made.bins)


def test_bins_hold_equal_shares_and_never_part_a_tie() -> None:
    """15 bins of distinct confidences differ by at most one row; one value only is one bin."""
    confidence = np.linspace(0, 1, 1000)
    rows = [b.rows for b in reliability(confidence, confidence > 0.5).bins]
    assert len(rows) == 15 and max(rows) - min(rows) <= 1
    assert [b.rows for b in reliability([0.7] * 50, [True] * 50).bins] == [50]


def test_latencies_fall_into_logarithmic_bins() -> None:
    """Every row is counted once, inside the edges; percentiles are of the values."""
    values = [0.0, 0.05, 0.05, 3.0, 900.0]
    made = latency_histogram(values)
    assert made is not None
    assert sum(made.counts) == made.rows == 5
    assert made.edges[0] <= 1e-4 and made.edges[-1] > 900.0
    assert np.allclose(np.diff(np.log10(made.edges)), 1 / 8)
    assert (made.p50, made.longest) == (0.05, 900.0)


@pytest.mark.parametrize("values", [[-1.0], [float("nan")], [float("inf")]])
def test_an_impossible_latency_is_refused(values: list[float]) -> None:
    """A negative, missing or endless time is an error, not a bar."""
    with pytest.raises(ValueError, match="latencies must be finite"):
        latency_histogram(values)


def test_pairs_must_match_and_be_numbers() -> None:
    """Lists of different length and confidences that are no numbers are refused."""
    with pytest.raises(ValueError, match="equally long"):
        risk_coverage([0.5], [])
    with pytest.raises(ValueError, match="not a number"):
        reliability([float("nan")], [True])
