"""Certification on made-up ladders whose true risk is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController, precision
from numpy.typing import NDArray

from rung.trust.bounds import binomial_p_value
from rung.trust.certification import FREE_SLACK, certify, choose, first_accepting
from rung.trust.path import CLOSED, lowest_coverage, threshold_path

Floats = NDArray[np.float64]


def world(rows: int, seed: int, hardness: float = 0.2) -> tuple[Floats, NDArray[np.bool_]]:
    """Confidences and mistakes of one rung; confidence u is right with probability u ** hardness."""
    rng = np.random.default_rng(seed)
    u = rng.random(rows)
    return u, rng.random(rows) > u**hardness


def true_risk(threshold: float, hardness: float = 0.2) -> float:
    """P(wrong | u > threshold) in that world."""
    power = hardness + 1.0
    return 1.0 - (1.0 - threshold**power) / power / (1.0 - threshold)


def test_acceptance_is_strict_and_missing_evidence_never_accepted() -> None:
    """A score equal to the threshold, or NaN, climbs; the lowest rung above its own answers."""
    scores = np.array([[0.5, 0.9], [0.6, 0.9], [np.nan, 0.9], [0.5, np.nan]])
    taken = first_accepting(scores, np.array([0.5, 0.8]))
    assert taken.tolist() == [[False, True], [True, False], [False, True], [False, False]]


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, float("nan")]), min_size=300, max_size=320))
@settings(max_examples=20, deadline=None)
def test_ties_go_together_and_missing_rows_count_in_coverage(values: list[float]) -> None:
    """However rows tie, a block is accepted whole, and coverage is a share of all rows."""
    scores = np.array(values)
    path = threshold_path([np.array([0.1, 0.5, 0.9])], rows=300, max_error=0.1, delta=0.05)
    found = certify(scores, np.zeros(len(scores), bool), path, max_error=0.1, delta=0.05)
    blocks = [int((scores > t).sum()) for t in path.thresholds[:, 0]]
    assert [point.accepted for point in found.curve] == blocks
    assert set(blocks) <= {0, *(int((scores >= v).sum()) for v in (0.1, 0.5, 0.9))}
    if found.thresholds is not None:
        assert found.coverage == found.accepted / len(scores)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=500), st.integers(50, 5_000))
@settings(max_examples=40, deadline=None)
def test_a_path_goes_from_strict_to_loose(reference: list[float], rows: int) -> None:
    """Thresholds of one rung fall strictly, the last accepts every reference row."""
    path = threshold_path([np.array(reference)], rows=rows, max_error=0.05, delta=0.05)
    thresholds = path.thresholds[:, 0]
    assert np.all(np.diff(thresholds) < 0)
    assert np.all(np.array(reference) > thresholds[-1])
    assert path.starts[0] == 0
    assert path.starts[-1] < len(thresholds)


def test_a_ladder_tries_its_bottom_rung_alone_and_then_its_last_rung_three_times() -> None:
    """The first walk closes the last rung; the others hold the first one ever looser."""
    rng = np.random.default_rng(0)
    path = threshold_path([rng.random(500) ** 0.1] * 2, rows=1_000, max_error=0.05, delta=0.05)
    alone, *others = path.starts
    first, last = path.thresholds.T
    assert alone == 0
    assert np.all(last[: others[0]] == CLOSED)
    assert np.all(np.diff(first[others]) < 0)
    assert np.all(last[others] == last[others[0]])


def test_a_rung_without_any_confidence_has_no_path() -> None:
    """All-NaN references, no rung, and a coarse grid are refused."""
    with pytest.raises(ValueError, match="no reference"):
        threshold_path([np.full(3, np.nan)], rows=100, max_error=0.05, delta=0.05)
    with pytest.raises(ValueError, match="at least one rung"):
        threshold_path([], rows=100, max_error=0.05, delta=0.05)
    with pytest.raises(ValueError, match="200"):
        threshold_path([np.ones(3)], rows=100, max_error=0.05, delta=0.05, points=40)


def test_the_strict_end_is_where_an_error_free_start_can_pass() -> None:
    """86 error-free rows pass 5 % at a quarter of .05, so 300 rows begin just above 29 %."""
    assert lowest_coverage(300, 0.05, 0.05) == pytest.approx(1.05 * 86 / 300)
    assert lowest_coverage(20, 0.05, 0.05) == 1.0
    assert lowest_coverage(10**6, 0.05, 0.05) == 0.05


def test_certified_thresholds_are_false_no_more_often_than_promised() -> None:
    """Over 400 draws at most 5 % (plus noise) of certificates are false; the plug-in breaks."""
    reference = np.random.default_rng(99).random(2_000)
    path = threshold_path([reference], rows=400, max_error=0.1, delta=0.05)
    false, plug_in, coverage = 0, 0, []
    for seed in range(400):
        scores, wrong = world(400, seed)
        found = certify(scores, wrong, path, max_error=0.1, delta=0.05)
        coverage.append(found.coverage)
        if found.thresholds is not None:
            false += true_risk(found.thresholds[0]) > 0.1
        loose = [p.thresholds[0] for p in found.curve if p.errors <= 0.1 * p.accepted]
        plug_in += bool(loose) and true_risk(loose[-1]) > 0.1
    assert false <= 29  # 5 % of 400 and two standard deviations
    assert plug_in > 80  # the empirical rule, which the product never uses, fails here
    assert np.mean(coverage) > 0.3


def test_a_ladder_is_certified_on_its_pooled_risk() -> None:
    """Two rungs cover more than one, the parts add up, and the pooled bound holds."""
    rng = np.random.default_rng(3)
    scores, wrong = world(1_000, 5)
    top, top_wrong = world(1_000, 6, hardness=0.05)
    references = [rng.random(1_000), rng.random(1_000)]
    one = certify(
        scores,
        wrong,
        threshold_path(references[:1], rows=1_000, max_error=0.1, delta=0.05),
        max_error=0.1,
        delta=0.05,
    )
    two = certify(
        np.column_stack([scores, top]),
        np.column_stack([wrong, top_wrong]),
        threshold_path(references, rows=1_000, max_error=0.1, delta=0.05),
        max_error=0.1,
        delta=0.05,
    )
    assert two.coverage > one.coverage > 0.0
    assert two.upper <= 0.1
    assert sum(rung.accepted for rung in two.rungs) == two.accepted
    assert sum(rung.errors for rung in two.rungs) == two.errors
    assert two.rungs[1].reached == 1_000 - two.rungs[0].accepted
    assert two.coverage_low < two.coverage <= two.coverage_high


def test_when_nothing_passes_the_smallest_certifiable_error_is_told() -> None:
    """A rung that is wrong half the time: no threshold at 5 %, but one a little above a half."""
    rng = np.random.default_rng(0)
    scores, wrong = rng.random(500), rng.random(500) < 0.5
    path = threshold_path([rng.random(500)], rows=500, max_error=0.05, delta=0.05)
    found = certify(scores, wrong, path, max_error=0.05, delta=0.05)
    assert (found.thresholds, found.accepted, found.upper) == (None, 0, 1.0)
    assert found.smallest is not None
    assert 0.4 < found.smallest < 0.65
    again = certify(scores, wrong, path, max_error=found.smallest, delta=0.05)
    assert again.thresholds is not None


def test_mapie_computes_the_same_p_values_for_a_precision_target() -> None:
    """Controlling precision at 95 % is certifying 5 %: MAPIE's p-values are ours at each candidate.

    MAPIE rebuilds the count of errors from the rate by rounding up, so where the division left a
    crumb its p-value is up to that of one error more; elsewhere it is exactly ours.
    """
    scores, wrong = world(600, 11, hardness=0.1)
    reference = np.random.default_rng(1).random(400)
    path = threshold_path([reference], rows=600, max_error=0.05, delta=0.05)
    ours = certify(scores, wrong, path, max_error=0.05, delta=0.05)
    controller = BinaryClassificationController(
        predict_function=lambda x: np.column_stack([1.0 - x[:, 0], x[:, 0]]),
        risk=precision,
        target_level=0.95,
        confidence_level=0.95,
        list_predict_params=path.thresholds[:, 0],
        best_predict_param_choice=precision,
        fwer_method="bonferroni",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether MAPIE's own correction finds any is not the point
        controller.calibrate(scores[:, None], (~wrong).astype(int))
    theirs = np.ravel(controller.p_values)
    accepted = np.array([point.accepted for point in ours.curve])
    errors = np.array([point.errors for point in ours.curve])
    exact = np.array([point.p_value for point in ours.curve])
    one_more = binomial_p_value(errors + 1, accepted, 0.05)
    same = np.isclose(theirs, exact, rtol=1e-6)
    below = errors + 1 < 0.05 * accepted
    assert below.sum() > 50
    assert same[below].sum() > 20
    assert np.all(theirs[below] >= exact[below] * (1.0 - 1e-6))
    assert np.all(theirs[below] <= one_more[below] * (1.0 + 1e-6))


def test_shapes_that_do_not_match_are_refused() -> None:
    """Scores and mistakes must have one column a rung and at least one row."""
    path = threshold_path([np.array([0.1, 0.9])], rows=10, max_error=0.5, delta=0.05)
    with pytest.raises(ValueError, match="must both be"):
        certify(np.zeros((3, 2)), np.zeros((3, 2), bool), path, max_error=0.5, delta=0.05)
    with pytest.raises(ValueError, match="must both be"):
        certify(np.zeros(0), np.zeros(0, bool), path, max_error=0.5, delta=0.05)


def test_a_little_coverage_is_given_up_for_lower_rungs_where_upper_ones_cost() -> None:
    """A hundredth by default; next to nothing where the upper rung is free and on the device."""
    accepted = np.array([[90, 0], [80, 11]])
    both = np.array([True, True])
    assert choose(accepted, both, 100) == 0
    assert choose(accepted, both, 100, FREE_SLACK) == 1
