"""Running totals of a batch: what its progress and its summary are made from, in memory that does not grow.

They count rows that have been written, so a checkpoint that holds them and the size of the output is always right.
"""

from __future__ import annotations

import math

import msgspec

from rung.policy import Place
from rung.receipt import OPERATIONAL, Answer, Attempt, Receipt, Standing, Verdict
from rung.structured.figures import StructuredFigures
from rung.task import RECORD_KINDS, Kind

FAILURES = OPERATIONAL | {Verdict.TRUNCATED}
"""Verdicts of attempts that failed; an answer that was cut may be a connection that was dropped."""

REASONS = 20
"""Most reasons that are kept apart; further ones are counted together."""

_WIDTH = math.log(1.05)
_LEAST_MS = 1e-4


class Histogram(msgspec.Struct):
    """Durations in buckets that grow by 5 %: a quantile is right to 2.5 %, from 0.1 µs up."""

    buckets: dict[int, int] = {}

    def add(self, ms: float) -> None:
        """Count one duration."""
        bucket = int(math.log(max(ms, _LEAST_MS) / _LEAST_MS) / _WIDTH)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def quantile(self, share: float) -> float | None:
        """Milliseconds that `share` of the durations do not exceed; None when there are none."""
        wanted = share * sum(self.buckets.values())
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return _LEAST_MS * math.exp((bucket + 0.5) * _WIDTH)
        return None


class RungTally(msgspec.Struct):
    """What one rung did.

    Attributes:
        where: where it runs.
        attempts: calls made to it, failed ones included.
        answered: rows it answered.
        cost: nano-units.
        total_ms: latency of all attempts together.
        latencies: of the attempts.
        verdicts: attempts by verdict.
        failures: failed attempts by what the engine said, at most `REASONS` of them.
    """

    where: str
    attempts: int = 0
    answered: int = 0
    cost: int = 0
    total_ms: float = 0.0
    latencies: Histogram = msgspec.field(default_factory=Histogram)
    verdicts: dict[str, int] = {}
    failures: dict[str, int] = {}

    def add(self, attempt: Attempt) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.cost += attempt.cost
        self.total_ms += attempt.latency_ms
        self.latencies.add(attempt.latency_ms)
        verdict = attempt.verdict.value
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        if attempt.verdict in FAILURES:
            _count(self.failures, attempt.reason)

    @property
    def failed(self) -> int:
        """Attempts that failed."""
        return sum(self.verdicts.get(verdict.value, 0) for verdict in FAILURES)


class BoundTally(msgspec.Struct):
    """Rows answered under one certificate, and what it promises (see `receipt.Bound`)."""

    max_error: float
    confidence: float
    truth: str
    labels: int
    rows: int = 0


class Tally(msgspec.Struct):
    """What has become of the rows so far.

    Attributes:
        answered: rows with an answer; `abstained`: rows without, which are for review.
        failed: abstained rows of which an attempt failed.
        rejected: rows that could not be asked, by code.
        rungs: by name, in the order they were first tried.
        bounds: by certificate.
        uncertified: why rows that were answered or might have been are not certified.
        cost, top_cost: nano-units of `currency`; `top_known` counts rows that have a `top_cost`.
        open_cost: the part of `top_cost` for rows without an answer: still to be paid somewhere.
        structured: of the attempts at records; None for tasks of other kinds.
    """

    answered: int = 0
    abstained: int = 0
    failed: int = 0
    rejected: dict[str, int] = {}
    rungs: dict[str, RungTally] = {}
    bounds: dict[str, BoundTally] = {}
    uncertified: dict[str, int] = {}
    cost: int = 0
    top_cost: int = 0
    open_cost: int = 0
    top_known: int = 0
    currency: str = "USD"
    price_date: str | None = None
    structured: StructuredFigures | None = None

    @property
    def asked(self) -> int:
        """Rows that could be asked."""
        return self.answered + self.abstained

    @property
    def rows(self) -> int:
        """All rows."""
        return self.asked + sum(self.rejected.values())

    def reject(self, code: str) -> None:
        """Count a row that could not be asked."""
        self.rejected[code] = self.rejected.get(code, 0) + 1

    def add(self, answer: Answer, kind: Kind | None = None) -> None:
        """Count a row that was asked.

        Args:
            answer: what came of it.
            kind: of its task; without one its records are not counted as such.
        """
        receipt = answer.receipt
        if kind in RECORD_KINDS:
            self.structured = self.structured or StructuredFigures(calls=kind is Kind.CALL)
            for attempt in receipt.attempts:
                given = attempt.verdict is Verdict.ACCEPTED and attempt.rung == receipt.answered_by
                self.structured.add(attempt, answer.value if given else None)
        self.cost += receipt.cost
        self.currency = receipt.currency
        self.price_date = receipt.price_date
        if receipt.top_cost is not None:
            self.top_cost += receipt.top_cost
            self.open_cost += receipt.top_cost if receipt.answered_by is None else 0
            self.top_known += 1
        last = self._add_attempts(receipt)
        if receipt.answered_by is None:
            self.abstained += 1
            self.failed += any(attempt.verdict in FAILURES for attempt in receipt.attempts)
            if last is not None and last.verdict is Verdict.UNSURE and last.threshold is None:
                _count(self.uncertified, last.reason)
            return
        self.answered += 1
        self.rungs[receipt.answered_by].answered += 1
        if receipt.standing is Standing.CERTIFIED:
            self._add_bound(receipt)
        else:
            _count(self.uncertified, receipt.standing_reason)

    def _add_attempts(self, receipt: Receipt) -> Attempt | None:
        """Count the attempts that were made; the last of them."""
        last = None
        for attempt in receipt.attempts:
            if attempt.verdict is Verdict.FORBIDDEN:
                continue
            last = attempt
            rung = self.rungs.get(attempt.rung)
            if rung is None:
                rung = self.rungs[attempt.rung] = RungTally(attempt.where)
            rung.add(attempt)
        return last

    def _add_bound(self, receipt: Receipt) -> None:
        bound = receipt.bound
        if bound is None:
            return
        tally = self.bounds.get(bound.certificate)
        if tally is None:
            tally = BoundTally(bound.max_error, bound.confidence, bound.truth, bound.labels)
            self.bounds[bound.certificate] = tally
        tally.rows += 1

    @property
    def on_device(self) -> int:
        """Rows that were answered on this device."""
        return sum(r.answered for r in self.rungs.values() if r.where == Place.DEVICE.value)


def _count(reasons: dict[str, int], reason: str) -> None:
    """Count a reason, under "other reasons" when there are too many kinds already."""
    if reason not in reasons and len(reasons) >= REASONS:
        reason = "other reasons"
    reasons[reason] = reasons.get(reason, 0) + 1
