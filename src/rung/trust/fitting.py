"""Fitting a calibrator, from rows that certify nothing.

Three candidates are compared by cross-fitted log loss on the fitting rows themselves: a logistic
model, the same with shrunk class-conditional terms, and from `TREES_FROM` rows on monotone boosted
trees over both. No certifying label is read here, so the choice costs no confidence. Only this
module needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from rung.errors import EvidenceError, InternalError
from rung.trust.calibrator import Calibrator, ClassTerms, selected, spread, standardised
from rung.trust.signals import FALLING, RISING, SCORE, SignalColumns
from rung.trust.trees import Tree, sum_of_trees

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TREES_FROM = 1_000
"""Fitting rows from which boosted trees are tried (reference: routing, section 5)."""

LEAST_OF_EACH = 5
"""Right and wrong answers without which nothing can be fitted."""

FOLDS = 5
CLASS_SHRINKAGE = 0.3
"""Scale of the class columns before the L2 penalty: about three times less free than the rest."""

_DEPTH = 3
_NEVER = 1e300


def fit_calibrator(
    signals: SignalColumns, correct: ArrayLike, *, source: str, seed: int = 0
) -> Calibrator:
    """Fit the candidates and keep the one with the lowest cross-fitted log loss.

    Args:
        signals: of rows whose scores were not made by a model that saw their labels (out-of-fold
            scores of the fit split, held-out rows, or unlabelled rows judged by an upper rung);
            rows with missing evidence are left out.
        correct: whether each answer is right, or agrees with the upper rung.
        source: `out-of-fold`, `held-out` or `agreement:RUNG`; kept, because it is what the numbers
            mean.
        seed: of the folds.

    Raises:
        EvidenceError: fewer than five right or five wrong answers have complete signals.
        ValueError: not one flag a row.
    """
    right = np.asarray(correct, dtype=np.bool_)
    if right.shape != (len(signals),):
        raise ValueError(f"correct must be one flag for each of {len(signals)} rows")
    names = _usable_columns(signals)
    complete = np.isfinite(selected(signals, names)).all(axis=0)
    if signals.classes:
        complete &= signals.predicted >= 0
    signals, right = signals.take(complete), right[complete]
    if not names or min(int(right.sum()), int((~right).sum())) < LEAST_OF_EACH:
        raise EvidenceError(
            f"cannot fit a calibrator: of {len(right)} rows with signals {int((~right).sum())} are"
            f" wrong and {int(right.sum())} right; at least {LEAST_OF_EACH} of each are needed",
            hint="add labelled examples, or use the rung's own probability",
        )
    fold = _folds(right, seed)
    best: tuple[float, str, Floats] | None = None
    losses: dict[str, float] = {}
    candidates = _candidates(signals, names, len(right), source, seed)
    for name, fit in candidates.items():
        with threadpool_limits(1):  # small problems: threads only wait for each other
            held_out = _cross_fitted(fit, signals, right, fold)
        losses[name] = _log_loss(held_out, right)
        if best is None or losses[name] < best[0]:
            best = losses[name], name, held_out
    assert best is not None  # noqa: S101  there is always the plain logistic
    with threadpool_limits(1):
        final = candidates[best[1]](signals, right)
    return msgspec.structs.replace(final, log_loss=losses, quantiles=spread(best[2]))


_Fit = Callable[[SignalColumns, Flags], Calibrator]


def _candidates(
    signals: SignalColumns, names: tuple[str, ...], rows: int, source: str, seed: int
) -> dict[str, _Fit]:
    plain = _Logistic(names, source, class_terms=False)
    found: dict[str, _Fit] = {"logistic": plain}
    richest = plain
    if signals.classes > 1:
        richest = _Logistic(names, source, class_terms=True)
        found["class-conditional"] = richest
    if rows >= TREES_FROM:
        found["boosted"] = _Boosted(richest, seed)
    return found


@dataclass(frozen=True, slots=True)
class _Logistic:
    """L2-penalised logistic regression on standardised columns."""

    names: tuple[str, ...]
    source: str
    class_terms: bool

    def __call__(self, signals: SignalColumns, right: Flags) -> Calibrator:
        raw = selected(signals, self.names)
        centers = tuple(raw.mean(axis=1).tolist())
        scales = tuple(np.maximum(raw.std(axis=1), 1e-12).tolist())
        columns = standardised(signals, self.names, centers, scales)
        size = len(self.names)
        design = _class_design(signals, self.names, columns) if self.class_terms else columns.T
        model = LogisticRegression(C=1.0, max_iter=1_000).fit(design, right)
        weights = model.coef_[0]
        terms = _class_terms(weights[size:] * CLASS_SHRINKAGE, signals.classes)
        return Calibrator(
            kind="logistic",
            source=self.source,
            classes=signals.classes,
            columns=self.names,
            centers=centers,
            scales=scales,
            intercept=float(model.intercept_[0]),
            weights=tuple(weights[:size].tolist()),
            class_terms=terms if self.class_terms else None,
            fitted_on=len(signals),
            log_loss={},
            quantiles=(),
        )


def _class_design(signals: SignalColumns, names: tuple[str, ...], columns: Floats) -> Any:
    """The columns, then one indicator a label, then the score within each label (sparse)."""
    rows = np.arange(len(signals))
    shape = (len(signals), signals.classes)
    blocks = [sparse.csr_array(columns.T)]
    parts = [np.ones(len(signals))]
    if SCORE in names:
        parts.append(columns[names.index(SCORE)])
    for part in parts:
        cells = (part * CLASS_SHRINKAGE, (rows, signals.predicted))
        blocks.append(sparse.csr_array(cells, shape=shape))
    return sparse.hstack(blocks, format="csr")


def _class_terms(weights: Floats, classes: int) -> ClassTerms:
    slopes = weights[classes:].tolist() or [0.0] * classes
    return ClassTerms(tuple(weights[:classes].tolist()), tuple(slopes))


@dataclass(frozen=True, slots=True)
class _Boosted:
    """Monotone boosted trees over the columns and the log odds of a logistic fit."""

    base: _Logistic
    seed: int

    def __call__(self, signals: SignalColumns, right: Flags) -> Calibrator:
        base = self.base(signals, right)
        columns = standardised(signals, base.columns, base.centers, base.scales)
        features = np.vstack([columns, base.log_odds(signals, columns)])
        model = HistGradientBoostingClassifier(
            max_iter=60,
            max_depth=_DEPTH,
            max_leaf_nodes=2**_DEPTH,
            min_samples_leaf=20,
            l2_regularization=1.0,
            early_stopping=False,
            monotonic_cst=[*map(_direction, base.columns), 1],
            random_state=self.seed,
        ).fit(features.T, right)
        # scikit-learn has no public export of its trees; the comparison below guards this use.
        grown = [iteration[0].nodes for iteration in model._predictors]
        trees = tuple(_complete(nodes) for nodes in grown)
        offset = float(np.ravel(model._baseline_prediction)[0])
        ours = offset + sum_of_trees(trees, features)
        if not np.allclose(ours, model.decision_function(features.T), rtol=0.0, atol=1e-9):
            raise InternalError("exported trees differ from those scikit-learn grew")
        return msgspec.structs.replace(base, kind="boosted", offset=offset, trees=trees)


def _direction(name: str) -> int:
    return 1 if name in RISING else -1 if name in FALLING else 0


def _complete(nodes: Any) -> Tree:
    """A grown tree (scikit-learn's node table) filled up to full depth; short branches repeat."""
    features: list[int] = []
    thresholds: list[float] = []
    level = [0]
    for _ in range(_DEPTH):
        below: list[int] = []
        for index in level:
            node = nodes[index]
            leaf = bool(node["is_leaf"])
            features.append(0 if leaf else int(node["feature_idx"]))
            thresholds.append(_NEVER if leaf else float(node["num_threshold"]))
            below += [index, index] if leaf else [int(node["left"]), int(node["right"])]
        level = below
    values = tuple(float(nodes[index]["value"]) for index in level)
    return Tree(tuple(features), tuple(thresholds), values)


def _usable_columns(signals: SignalColumns) -> tuple[str, ...]:
    """Columns known on at least half of the rows and not constant there."""
    found = []
    for name, column in zip(signals.names, signals.values.T, strict=True):
        known = column[np.isfinite(column)]
        if 2 * len(known) >= len(column) and len(known) and np.ptp(known) > 0.0:
            found.append(name)
    return tuple(found)


def _folds(right: Flags, seed: int) -> NDArray[np.intp]:
    """Fold of each row, with right and wrong answers spread evenly."""
    shuffled = np.random.default_rng(seed).permutation(len(right))
    dealt = shuffled[np.argsort(right[shuffled], kind="stable")]
    fold = np.empty(len(right), dtype=np.intp)
    fold[dealt] = np.arange(len(right)) % FOLDS
    return fold


def _cross_fitted(
    fit: _Fit, signals: SignalColumns, right: Flags, fold: NDArray[np.intp]
) -> Floats:
    held_out = np.empty(len(right))
    for part in range(FOLDS):
        inside = fold != part
        model = fit(signals.take(inside), right[inside])
        held_out[~inside] = model.confidence(signals.take(~inside))
    return held_out


def _log_loss(confidence: Floats, right: Flags) -> float:
    p = np.clip(confidence, 1e-12, 1.0 - 1e-12)
    return float(-np.mean(np.where(right, np.log(p), np.log1p(-p))))
