"""Calibrators: fitted on made-up rows whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rung.errors import EvidenceError, InputError, ModelError
from rung.trust.calibrator import Calibrator, raw_calibrator
from rung.trust.fitting import fit_calibrator
from rung.trust.signals import SignalColumns, answer_signals, classification_signals


def labelled(rows: int, seed: int = 0) -> tuple[SignalColumns, NDArray[np.bool_]]:
    """Answers over three labels, whose last label is wrong far more often than it says."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], rows)
    signals = classification_signals(probabilities)
    p = probabilities.max(axis=1) * np.where(signals.predicted == 2, 0.6, 1.0)
    return signals, rng.random(rows) < p


def bent(rows: int) -> tuple[SignalColumns, NDArray[np.bool_]]:
    """One confidence that means nothing below a step and everything above it."""
    rng = np.random.default_rng(1)
    confidence = rng.random(rows)
    right = rng.random(rows) < np.where(confidence > 0.6, 0.97, 0.4)
    return answer_signals(confidence, rng.integers(0, 2, rows), 2), right


@pytest.fixture(scope="module")
def fitted() -> Calibrator:
    """A calibrator of the three labels."""
    return fit_calibrator(*labelled(900), source="out-of-fold")


@pytest.fixture(scope="module")
def boosted() -> Calibrator:
    """A calibrator of the step, which a line cannot follow."""
    return fit_calibrator(*bent(3_000), source="agreement:mid")


def test_confidence_means_probability(fitted: Calibrator) -> None:
    """On fresh rows each third by confidence is right about as often as it says."""
    signals, right = labelled(6_000, seed=9)
    confidence = fitted.confidence(signals)
    for part in np.array_split(np.argsort(confidence), 3):
        assert confidence[part].mean() == pytest.approx(right[part].mean(), abs=0.04)


def test_class_conditional_terms_are_chosen_where_labels_differ(fitted: Calibrator) -> None:
    """The cross-fitted loss is lowest with class terms, and the bad label is trusted less."""
    assert min(fitted.log_loss, key=fitted.log_loss.__getitem__) == "class-conditional"
    same = classification_signals([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    good, bad = fitted.confidence(same)
    assert good > bad + 0.1


def test_trees_are_chosen_where_a_line_cannot_follow(boosted: Calibrator) -> None:
    """A step in the truth goes to the trees, which stay monotone in the score."""
    assert boosted.kind == "boosted"
    grid = answer_signals(np.linspace(0.0, 1.0, 200), np.zeros(200, int), 2)
    confidence = boosted.confidence(grid)
    assert np.all(np.diff(confidence) >= 0)
    assert confidence[-40] - confidence[80] > 0.3


def test_few_rows_get_no_trees(fitted: Calibrator) -> None:
    """Below 1,000 rows only the logistic candidates are compared."""
    assert set(fitted.log_loss) == {"logistic", "class-conditional"}


@pytest.mark.parametrize("which", ["fitted", "boosted"])
def test_a_row_has_the_same_confidence_whatever_stands_beside_it(
    which: str, request: pytest.FixtureRequest
) -> None:
    """Alone, in a slice or in the whole batch: the same to the last bit."""
    calibrator = request.getfixturevalue(which)
    signals, _ = labelled(257, seed=4) if which == "fitted" else bent(257)
    whole = calibrator.confidence(signals)
    alone = [calibrator.confidence(signals.take([row]))[0] for row in range(257)]
    assert np.array_equal(whole, alone)
    assert np.array_equal(whole[50:113], calibrator.confidence(signals.take(np.arange(50, 113))))


@pytest.mark.parametrize("which", ["fitted", "boosted"])
def test_the_file_gives_the_same_calibrator_back(
    which: str, request: pytest.FixtureRequest
) -> None:
    """JSON keeps every bit, and the digest with it."""
    calibrator = request.getfixturevalue(which)
    again = Calibrator.from_json(calibrator.to_json())
    assert again == calibrator
    assert again.digest == calibrator.digest


def test_fitting_twice_gives_the_same_numbers(fitted: Calibrator) -> None:
    """The same rows and seed give the same digest."""
    assert fit_calibrator(*labelled(900), source="out-of-fold").digest == fitted.digest


def test_missing_evidence_is_never_confidence(fitted: Calibrator, boosted: Calibrator) -> None:
    """A row without signals has no confidence, and leaves the others alone."""
    found = fitted.confidence(classification_signals([[np.nan] * 3, [0.6, 0.3, 0.1]]))
    assert np.isnan(found).tolist() == [True, False]
    assert np.isnan(boosted.confidence(answer_signals([2.0, 0.9], [0, 0], 2))).tolist() == [
        True,
        False,
    ]
    raw = raw_calibrator(answer_signals([0.5, 0.9], [0, 1], 2), source="held-out")
    np.testing.assert_allclose(
        raw.confidence(answer_signals([np.nan, 0.9], [0, 1], 2)), [np.nan, 0.9]
    )


def test_quantiles_span_its_own_cross_fitted_confidences(fitted: Calibrator) -> None:
    """401 ascending values in 0..1, the reference for candidate thresholds."""
    assert len(fitted.quantiles) == 401
    assert list(fitted.quantiles) == sorted(fitted.quantiles)
    assert 0.0 <= fitted.quantiles[0] < fitted.quantiles[-1] <= 1.0


def test_one_sided_evidence_cannot_be_fitted() -> None:
    """Without five wrong answers there is nothing to learn doubt from."""
    signals, _ = labelled(100)
    with pytest.raises(EvidenceError, match="0 are wrong and 100 right"):
        fit_calibrator(signals, np.ones(100, bool), source="out-of-fold")
    with pytest.raises(ValueError, match="one flag"):
        fit_calibrator(signals, np.ones(99, bool), source="out-of-fold")


def test_signals_of_another_shape_are_refused(fitted: Calibrator) -> None:
    """Another number of labels, or a column that is not there, is named."""
    with pytest.raises(InputError, match="3 labels"):
        fitted.confidence(answer_signals([0.5], [0], 2))
    with pytest.raises(InputError, match="margin"):
        fitted.confidence(answer_signals([0.5], [0], 3))


def test_damaged_and_foreign_files_are_refused(fitted: Calibrator) -> None:
    """Broken JSON, an unknown key and another format each say so."""
    good = fitted.to_json()
    for bad in (b"{", good.replace(b'"kind"', b'"sort"')):
        with pytest.raises(ModelError, match="damaged"):
            Calibrator.from_json(bad)
    with pytest.raises(ModelError, match="format 2"):
        Calibrator.from_json(good.replace(b'"format":1', b'"format":2'))
