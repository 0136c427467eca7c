"""What routed rows with known answers say: risk by coverage, reliability, latency. Arrays in, values out.

Nothing here reads a file or draws; `report` does. Intervals come from `trust.bounds` and are exact.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rung.trust.bounds import interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INTERVAL_CONFIDENCE = 0.95
"""Two-sided confidence of every interval shown beside a measured rate."""


class RiskCoverage(msgspec.Struct, frozen=True, eq=False):
    """Errors among the most confident rows, from strict to loose; rows of equal confidence enter together.

    Attributes:
        threshold: lowest confidence accepted at each point, falling.
        accepted: rows accepted there.
        errors: how many of those were wrong.
        scored: rows that the whole curve rests on.
        aurc: mean risk over the curve (area under risk by coverage); 0 without rows. Lower is better.
    """

    threshold: Floats
    accepted: Ints
    errors: Ints
    scored: int
    aurc: float

    def thinned(self, points: int) -> RiskCoverage:
        """At most `points` of the points, evenly spread over coverage, both ends kept; `aurc` stays exact.

        Raises:
            ValueError: `points` is below 2.
        """
        if points < 2:
            raise ValueError(f"points must be 2 or more, not {points!r}")
        if len(self.accepted) <= points:
            return self
        wanted = np.linspace(self.accepted[0], self.accepted[-1], points)
        kept = np.unique(np.searchsorted(self.accepted, wanted))
        return msgspec.structs.replace(
            self,
            threshold=self.threshold[kept],
            accepted=self.accepted[kept],
            errors=self.errors[kept],
        )


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """The risk-coverage curve of `confidence` (n,) and `correct` (n,), a point for each distinct confidence.

    Area as in Geifman, Uziel and El-Yaniv (2019), with each row of a tie counted at the risk of its whole block.

    Raises:
        ValueError: the two differ in length, or some confidence is not a number.
    """
    score, right = _pairs(confidence, correct)
    order = np.argsort(-score, kind="stable")
    score, wrong = score[order], ~right[order]
    if not len(score):
        nothing = np.zeros(0, np.int64)
        return RiskCoverage(score, nothing, nothing, 0, 0.0)
    last_of_block = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    accepted = last_of_block.astype(np.int64) + 1
    errors = np.cumsum(wrong, dtype=np.int64)[last_of_block]
    block = np.diff(accepted, prepend=0)
    area = float(np.sum(errors / accepted * block) / len(score))
    return RiskCoverage(score[last_of_block], accepted, errors, len(score), area)


class ReliabilityBin(msgspec.Struct, frozen=True):
    """Rows of about equal confidence: how sure Rung was, and how often it was right.

    Attributes:
        rows: how many; `correct` of them were right.
        confidence: their mean confidence.
        low, high: exact 95 % interval of the share right.
    """

    rows: int
    correct: int
    confidence: float
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """Share right."""
        return self.correct / self.rows


class Reliability(msgspec.Struct, frozen=True):
    """How far confidences can be read as probabilities.

    Attributes:
        bins: from least to most confident, of equal mass as far as ties allow.
        ece: expected calibration error, the mean of |share right - mean confidence| over rows.
        brier: mean squared difference of confidence and outcome.
        rows: rows it rests on.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    brier: float
    rows: int


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> Reliability:
    """Equal-mass reliability bins of `confidence` (n,) and `correct` (n,), at most `bins`; ties stay together.

    Raises:
        ValueError: the two differ in length, some confidence is not a number, or `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, not {bins!r}")
    score, right = _pairs(confidence, correct)
    if not len(score):
        return Reliability((), 0.0, 0.0, 0)
    ordered = np.sort(score)
    cuts = np.unique(ordered[np.arange(1, bins) * len(score) // bins])
    place = np.searchsorted(cuts, score, side="right")
    rows = np.bincount(place, minlength=len(cuts) + 1)
    hits = np.bincount(place, weights=right, minlength=len(cuts) + 1)
    sums = np.bincount(place, weights=score, minlength=len(cuts) + 1)
    used = rows > 0
    rows, hits, sums = rows[used], hits[used], sums[used]
    low, high = interval(hits, rows, INTERVAL_CONFIDENCE)
    made = tuple(
        ReliabilityBin(int(n), int(k), float(total / n), float(bottom), float(top))
        for n, k, total, bottom, top in zip(rows, hits, sums, low, high, strict=True)
    )
    ece = float(np.sum(np.abs(hits - sums)) / len(score))
    brier = float(np.mean((score - right) ** 2))
    return Reliability(made, ece, brier, len(score))


class Latencies(msgspec.Struct, frozen=True):
    """Milliseconds a row took, counted on a logarithmic scale.

    Attributes:
        edges: bin edges in ms, one more than `counts`.
        counts: rows in each bin.
        p50, p95, p99: percentiles in ms; `longest` is the slowest row.
        rows: rows counted.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    p50: float
    p95: float
    p99: float
    longest: float
    rows: int


SHORTEST_MS = 1e-4
"""Faster counts as this: a logarithm needs a floor, and no clock here tells such times apart."""


def latency_histogram(milliseconds: ArrayLike, per_decade: int = 8) -> Latencies | None:
    """Latencies (n,) in `per_decade` bins per factor of ten; None without rows.

    Percentiles are of the values, not of the bins.

    Raises:
        ValueError: some latency is negative or not a number.
    """
    values = np.asarray(milliseconds, dtype=np.float64)
    if not len(values):
        return None
    if not np.all(np.isfinite(values)) or values.min() < 0:
        raise ValueError("latencies must be finite and not negative")
    steps = np.floor(np.log10(np.maximum(values, SHORTEST_MS)) * per_decade).astype(np.int64)
    first = int(steps.min())
    counts = np.bincount(steps - first)
    edges = 10.0 ** (np.arange(first, first + len(counts) + 1) / per_decade)
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    return Latencies(
        edges=tuple(map(float, edges)),
        counts=tuple(map(int, counts)),
        p50=p50,
        p95=p95,
        p99=p99,
        longest=float(values.max()),
        rows=len(values),
    )


def _pairs(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    score = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(correct, dtype=np.bool_)
    if score.shape != right.shape or score.ndim != 1:
        raise ValueError(
            f"confidence {score.shape} and correct {right.shape} must be equally long lists"
        )
    if np.isnan(score).any():
        raise ValueError("some confidence is not a number")
    return score, right
