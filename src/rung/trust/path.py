"""The thresholds that certification will try, fixed before any label is read.

Only unlabelled confidences come in: the calibrator's own out-of-fold ones, or those of past
traffic. The result is an ordered list of points (one threshold a rung) and the positions at which
testing starts. Which point passes is `certification`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS = 400
"""Grid points tried; neighbours share almost all rows, so a fine grid costs no power."""

STARTS = 4
"""Places where testing starts, each with a quarter of delta (reference: routing, section 4.2)."""

UPPER_SHARE = 0.4
"""Least share of its own rows the last rung of a ladder accepts at the strict end of a walk.

A stricter last rung would hardly add coverage, and each such point is one more chance to stop
early.
"""


HELD = (0.5, 0.7, 0.9)
"""Parts of the share a lower rung promises at which it is held while the last rung is walked."""

CLOSED = 1.0
"""A threshold that no confidence exceeds: the rung accepts nothing."""


@dataclass(frozen=True, slots=True)
class ThresholdPath:
    """Candidate thresholds in the order in which they are tested.

    Attributes:
        thresholds: shape (points, rungs), bottom rung first; a row is accepted by the first rung
            whose confidence is strictly above its threshold.
        starts: positions where testing starts, ascending.
    """

    thresholds: NDArray[np.float64]
    starts: tuple[int, ...]


def threshold_path(
    references: Sequence[ArrayLike],
    *,
    rows: int,
    max_error: float,
    delta: float,
    points: int = POINTS,
) -> ThresholdPath:
    """The candidates for one rung or for a ladder, from strict to loose.

    One rung: quantiles of its reference confidences, equally spaced in coverage, with the starts at
    0, 1/4, 1/2 and 3/4 of the list. A ladder: four walks, each with a start. First the bottom rung
    alone, from strict to everything, so that a useless upper rung cannot spoil a good lower one.
    Then, for each f of `HELD`, every rung but the last is held where it accepts f of the share
    that its own confidences promise to answer within `max_error`, and the last rung goes from
    strict to everything. So a weak bottom rung is offered little, a strong one much, and what the
    promise is worth is left to the labels.

    Args:
        references: one array of unlabelled confidences a rung, bottom first; NaN (missing evidence)
            counts as never accepted. The arrays need not have the same length nor be of the same
            rows.
        rows: how many labelled rows will certify.
        max_error: the error to be certified.
        delta: the chance of a false certificate that may be spent.
        points: candidates wanted; equal ones are merged, so there may be fewer.

    Raises:
        ValueError: there is no rung, a rung has no confidence at all, or `points` is below 200.
    """
    if points < 200:
        raise ValueError(f"points must be 200 or more, not {points!r}")
    columns = [_descending(reference) for reference in references]
    if not columns:
        raise ValueError("a path needs the confidences of at least one rung")
    low = lowest_coverage(rows, max_error, delta)
    if len(columns) == 1:
        return _single(columns[0], low, points)
    return _ladder(columns, low, max_error, points)


def lowest_coverage(rows: int, max_error: float, delta: float) -> float:
    """The share accepted at the strict end: 20 % above what an error-free start needs, at least 5
    %.

    With fewer rows than even full coverage needs, it is 1: a single candidate that accepts
    everything.
    """
    error_free = math.ceil(math.log(delta / STARTS) / math.log1p(-max_error))
    return min(1.0, max(0.05, 1.05 * error_free / max(rows, 1)))


def _single(column: NDArray[np.float64], low: float, points: int) -> ThresholdPath:
    thresholds = _descending_thresholds(column, low, points)
    size = len(thresholds)
    starts = sorted({quarter * size // STARTS for quarter in range(STARTS)})
    return ThresholdPath(thresholds[:, None], tuple(starts))


def _ladder(
    columns: list[NDArray[np.float64]], low: float, max_error: float, points: int
) -> ThresholdPath:
    *lower, last = columns
    each = points // STARTS
    alone = _descending_thresholds(columns[0], low, each)
    blocks = [np.column_stack([alone, np.full((len(alone), len(lower)), CLOSED)])]
    promised = [_promised_share(column, max_error) for column in lower]
    walk = _descending_thresholds(last, max(low, UPPER_SHARE), each)
    for part in HELD:
        held = [
            _at_share(column, np.array([share * part]))[0]
            for column, share in zip(lower, promised, strict=True)
        ]
        blocks.append(np.column_stack([np.tile(held, (len(walk), 1)), walk]))
    lengths = [len(block) for block in blocks]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    return ThresholdPath(np.concatenate(blocks), tuple(starts))


def _descending_thresholds(
    column: NDArray[np.float64], low: float, points: int
) -> NDArray[np.float64]:
    """Different thresholds at equally spaced shares of a column, from strict to loose."""
    return np.unique(_at_share(column, np.linspace(low, 1.0, points)))[::-1]


def _promised_share(column: NDArray[np.float64], max_error: float) -> float:
    """The largest share whose mean confidence, taken at its word, is at least 1 - max_error."""
    finite = column[np.isfinite(column)]
    doubt = np.cumsum(1.0 - finite) / np.arange(1, len(finite) + 1)
    within = np.flatnonzero(doubt <= max_error)
    return (int(within[-1]) + 1) / len(column) if len(within) else 0.0


def _at_share(column: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds above which lie the given shares of a descending column (NaN at its end)."""
    known = int(np.isfinite(column).sum())
    wanted = np.ceil(shares * len(column)).astype(np.intp)
    everything = np.nextafter(column[known - 1], -np.inf)
    return np.where(wanted >= known, everything, column[np.minimum(wanted, known - 1)])


def _descending(reference: ArrayLike) -> NDArray[np.float64]:
    """The confidences from high to low, missing ones last."""
    column = np.asarray(reference, dtype=np.float64).ravel()
    if not np.isfinite(column).any():
        raise ValueError("a rung has no reference confidence at all")
    finite = np.sort(column[np.isfinite(column)])[::-1]
    return np.concatenate([finite, np.full(len(column) - len(finite), np.nan)])
