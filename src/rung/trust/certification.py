"""Certification: which thresholds keep the error among accepted answers below a target, with
confidence.

The statement. Rows are drawn like future traffic and labelled; the thresholds to try were fixed
before (`path`). A row's answer is that of the lowest rung whose confidence lies strictly above its
threshold; the rest abstain. For each candidate the wrong flags of accepted rows are independent
draws with the candidate's true risk, so P(Bin(accepted, max_error) <= errors) is an exact p-value
of "the risk is above max_error". `sequence.rejected` keeps the chance that any candidate is passed
falsely at delta, whichever of the passed ones is then used.

The headline is the pooled, end-to-end risk over all answers accepted anywhere in the ladder. Each
rung's own risk is reported beside it with an exact interval that is not corrected for the choice.

Everything is a function of arrays. The certificate file, fingerprints and the count of attempts are
`certificate`'s.
"""

from __future__ import annotations

import math
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rung.trust.bounds import binomial_p_value, interval, upper_bound
from rung.trust.path import ThresholdPath
from rung.trust.sequence import rejected

_Scalar = TypeVar("_Scalar", bound=np.generic)

LOCAL_FIRST_SLACK = 0.01
"""Coverage, as a share of rows, given up at most for answering more on the lower rungs."""

FREE_SLACK = 0.001
"""The same where the upper rungs cost nothing and keep the text on the device: only their time is saved."""


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of the path: what it accepted of the certifying rows and how it fared.

    Attributes:
        thresholds: one a rung, bottom first.
        accepted, errors: rows accepted anywhere, and how many of them were answered wrongly.
        p_value: of "the risk is above the target".
        certified: whether it passed.
    """

    thresholds: tuple[float, ...]
    accepted: int
    errors: int
    p_value: float
    certified: bool


class RungRisk(msgspec.Struct, frozen=True, kw_only=True):
    """How one rung did on the certifying rows that reached it, at the chosen thresholds.

    Attributes:
        reached: rows that no rung below accepted.
        accepted, errors: of those, accepted here, and answered wrongly.
        risk_low, risk_high: exact 95 % interval of its own error, not corrected for the choice.
        upper: exact one-sided upper bound of its own error at confidence 1 - delta, likewise.
    """

    reached: int
    accepted: int
    errors: int
    risk_low: float
    risk_high: float
    upper: float


class Certification(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one ladder, one target and one set of labelled rows.

    Attributes:
        max_error: the target; with `thresholds` set, the pooled risk is below it with probability 1
            - `delta`.
        delta: the chance of a false certificate that was spent.
        rows: labelled rows, including those without evidence.
        thresholds: one a rung, bottom first, to be exceeded strictly; None when nothing passed.
        accepted, errors: pooled over all rungs, at the chosen thresholds; 0 when nothing passed.
        upper: exact one-sided upper bound of the pooled risk at confidence 1 - delta for the chosen
            point alone; never above `max_error`, which is the statement that allows for the choice.
            1 when nothing passed.
        p_value: of the chosen point; 1 when nothing passed.
        coverage, coverage_low, coverage_high: share of rows accepted and its exact 95 % interval.
        rungs: each rung's own part; empty when nothing passed.
        curve: all candidates in testing order.
        smallest: the smallest error that these rows could have certified by the same procedure,
            rounded up to 0.0001, when nothing passed and there is one below 1. A hint for planning:
            using it is another attempt.
    """

    max_error: float
    delta: float
    rows: int
    thresholds: tuple[float, ...] | None
    accepted: int
    errors: int
    upper: float
    p_value: float
    coverage: float
    coverage_low: float
    coverage_high: float
    rungs: tuple[RungRisk, ...]
    curve: tuple[CurvePoint, ...]
    smallest: float | None


def certify(
    scores: ArrayLike,
    wrong: ArrayLike,
    path: ThresholdPath,
    *,
    max_error: float,
    delta: float,
    slack: float = LOCAL_FIRST_SLACK,
) -> Certification:
    """Certify a ladder (or one rung) on labelled rows that had no part in anything before.

    Args:
        scores: confidences, shape (rows, rungs) or (rows,) for one rung, bottom first; NaN where
            there is no evidence (an invalid, refused or truncated answer, a rung that was not run):
            never accepted, yet counted in coverage.
        wrong: whether the rung's answer is wrong, same shape; read only where the rung accepts.
        path: the candidates, fixed without these labels.
        max_error: the error to be certified, in (0, 1).
        delta: the chance of a false certificate to spend, in (0, 1).
        slack: see `choose`.

    Raises:
        ValueError: shapes do not match, there is no row, or a number is out of range.
    """
    score = _columns(np.asarray(scores, dtype=np.float64))
    mistake = _columns(np.asarray(wrong, dtype=np.bool_))
    rungs = path.thresholds.shape[1]
    if score.shape != mistake.shape or score.shape[1] != rungs or not len(score):
        raise ValueError(
            f"scores {score.shape} and wrong {mistake.shape} must both be (rows, {rungs}), rows > 0"
        )
    accepted, errors = tally(score, mistake, path)
    p_values = binomial_p_value(errors.sum(axis=1), accepted.sum(axis=1), max_error)
    passed = rejected(p_values, path.starts, delta)
    curve = _curve(path, accepted, errors, p_values, passed)
    if not passed.any():
        smallest = _smallest_certifiable(accepted, errors, path, max_error, delta)
        return _nothing(len(score), curve, max_error, delta, smallest)
    best = choose(accepted, passed, len(score), slack)
    n, k = int(accepted[best].sum()), int(errors[best].sum())
    low, high = interval(n, len(score))
    return Certification(
        max_error=max_error,
        delta=delta,
        rows=len(score),
        thresholds=curve[best].thresholds,
        accepted=n,
        errors=k,
        upper=float(upper_bound(k, n, 1.0 - delta)),
        p_value=float(p_values[best]),
        coverage=n / len(score),
        coverage_low=float(low),
        coverage_high=float(high),
        rungs=_per_rung(accepted[best], errors[best], len(score), delta),
        curve=curve,
        smallest=None,
    )


def tally(
    scores: NDArray[np.float64], wrong: NDArray[np.bool_], path: ThresholdPath
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows accepted, and accepted wrongly, by each rung at each candidate.

    Args:
        scores, wrong: shape (rows, rungs).

    Returns:
        Two arrays of shape (points, rungs).
    """
    accepted = np.zeros(path.thresholds.shape, dtype=np.int64)
    errors = np.zeros_like(accepted)
    for point, thresholds in enumerate(path.thresholds):
        taken = first_accepting(scores, thresholds)
        accepted[point] = taken.sum(axis=0)
        errors[point] = (taken & wrong).sum(axis=0)
    return accepted, errors


def first_accepting(
    scores: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which rung answers which row, shape (rows, rungs); at most one a row, and never on NaN."""
    above = scores > thresholds
    reached = np.ones(len(scores), dtype=np.bool_)
    for rung in range(above.shape[1]):
        above[:, rung] &= reached
        reached &= ~above[:, rung]
    return above


def choose(
    accepted: NDArray[np.int64],
    passed: NDArray[np.bool_],
    rows: int,
    slack: float = LOCAL_FIRST_SLACK,
) -> int:
    """The certified point to use: widest coverage, and within a little of it the most local one.

    Every passed point may be used, since all of them hold at once. Among those within
    `slack` of the widest coverage the one that answers most on the bottom rung is taken
    (then the second, and so on), then the wider.

    Args:
        accepted: shape (points, rungs).
        passed: shape (points,), at least one True.
        rows: labelled rows.
        slack: coverage to give up for it, as a share of rows.
    """
    pooled = accepted.sum(axis=1)
    enough = pooled[passed].max() - slack * rows
    candidates = np.flatnonzero(passed & (pooled >= enough))
    if accepted.shape[1] == 1:
        candidates = candidates[pooled[candidates] == pooled[candidates].max()]
    return int(max(candidates, key=lambda point: (*accepted[point], -point)))


def _curve(
    path: ThresholdPath,
    accepted: NDArray[np.int64],
    errors: NDArray[np.int64],
    p_values: NDArray[np.float64],
    passed: NDArray[np.bool_],
) -> tuple[CurvePoint, ...]:
    columns = (
        path.thresholds.tolist(),
        accepted.sum(axis=1).tolist(),
        errors.sum(axis=1).tolist(),
        p_values.tolist(),
        passed.tolist(),
    )
    return tuple(
        CurvePoint(thresholds=tuple(t), accepted=n, errors=k, p_value=p, certified=ok)
        for t, n, k, p, ok in zip(*columns, strict=True)
    )


def _per_rung(
    accepted: NDArray[np.int64], errors: NDArray[np.int64], rows: int, delta: float
) -> tuple[RungRisk, ...]:
    low, high = interval(errors, accepted)
    upper = upper_bound(errors, accepted, 1.0 - delta)
    reached = rows - np.concatenate([[0], np.cumsum(accepted)[:-1]])
    return tuple(
        RungRisk(
            reached=int(reached[rung]),
            accepted=int(accepted[rung]),
            errors=int(errors[rung]),
            risk_low=float(low[rung]),
            risk_high=float(high[rung]),
            upper=float(upper[rung]),
        )
        for rung in range(len(accepted))
    )


def _smallest_certifiable(
    accepted: NDArray[np.int64],
    errors: NDArray[np.int64],
    path: ThresholdPath,
    max_error: float,
    delta: float,
) -> float | None:
    """Bisect for the smallest target that passes; p-values only fall as the target rises."""
    n, k = accepted.sum(axis=1), errors.sum(axis=1)

    def passes(ten_thousandths: int) -> bool:
        p_values = binomial_p_value(k, n, ten_thousandths / 10_000)
        return bool(rejected(p_values, path.starts, delta).any())

    fails, holds = math.floor(max_error * 10_000), 9_999
    if not passes(holds):
        return None
    while holds - fails > 1:
        middle = (fails + holds) // 2
        fails, holds = (fails, middle) if passes(middle) else (middle, holds)
    return holds / 10_000


def _nothing(
    rows: int,
    curve: tuple[CurvePoint, ...],
    max_error: float,
    delta: float,
    smallest: float | None,
) -> Certification:
    _, high = interval(0, rows)
    return Certification(
        max_error=max_error,
        delta=delta,
        rows=rows,
        thresholds=None,
        accepted=0,
        errors=0,
        upper=1.0,
        p_value=1.0,
        coverage=0.0,
        coverage_low=0.0,
        coverage_high=float(high),
        rungs=(),
        curve=curve,
        smallest=smallest,
    )


def _columns(values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """One rung's values given as a plain array become a matrix of one column."""
    return values[:, None] if values.ndim == 1 else values
