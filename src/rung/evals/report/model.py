"""What the report shows: routed rows as they come in, and the aggregates that are kept of them.

`aggregation` makes the aggregates from rows; `page` draws them. Nothing here reads a file.
"""

from __future__ import annotations

import msgspec

from rung.evals.metrics import Latencies, Reliability, RiskCoverage
from rung.receipt import JsonValue
from rung.trust.certificate import Certificate, CertifiedSet


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One routed row.

    Attributes:
        row: its number in the input, from 1; `id` the caller's own.
        answer: what was answered, None when Rung abstained.
        expected: the known answer, None when there is none.
        correct: whether the last attempt's answer was right, also where it was not accepted and that is known;
            None when it is not known.
        rung: the rung that answered, None when Rung abstained.
        confidence: of the last attempt.
        path: what was tried, in order, as (rung, verdict).
        latency_ms: from request to answer.
        cost: nano-units.
        text: what was asked, None when it is not to be shown.
    """

    row: int
    id: str | None = None
    answer: JsonValue | None = None
    expected: JsonValue | None = None
    correct: bool | None = None
    rung: str | None = None
    confidence: float | None = None
    path: tuple[tuple[str, str], ...] = ()
    latency_ms: float = 0.0
    cost: int = 0
    text: str | None = None


class TargetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a certificate states for the rungs the rows could meet.

    Attributes:
        max_error, confidence: at most `max_error` of the accepted answers are wrong, with probability `confidence`.
        certificate: its id; `created` its date.
        thresholds: confidence each rung must exceed, None where it may accept nothing.
        rows: certifying rows; `accepted` of them were accepted, `errors` of those wrong.
        upper: exact one-sided upper bound of the error at the chosen thresholds.
        coverage, coverage_low, coverage_high: share of certifying rows accepted, with its exact 95 % interval.
        attempt: which try at the claim; `delta` is the error probability this statement spent.
        truth: `human` or `agreement:<rung>`.
        sampling: `stated` or `assumed`.
        grid: (accepted, errors) of the tested candidates on the certifying rows, strict to loose.
    """

    max_error: float
    confidence: float
    certificate: str
    created: str
    thresholds: tuple[tuple[str, float | None], ...]
    rows: int
    accepted: int
    errors: int
    upper: float | None
    coverage: float
    coverage_low: float
    coverage_high: float
    attempt: int
    delta: float
    truth: str
    sampling: str
    grid: tuple[tuple[int, int], ...] = ()


def target_facts(certificate: Certificate, statement: CertifiedSet) -> TargetFacts:
    """The facts of one statement of a certificate; `statement.certified` must hold."""
    return TargetFacts(
        max_error=certificate.max_error,
        confidence=certificate.confidence,
        certificate=certificate.id,
        created=certificate.created,
        thresholds=tuple((rule.rung, rule.threshold) for rule in statement.rules),
        rows=statement.rows,
        accepted=statement.accepted,
        errors=statement.errors,
        upper=statement.upper,
        coverage=statement.coverage,
        coverage_low=statement.coverage_low,
        coverage_high=statement.coverage_high,
        attempt=certificate.attempt,
        delta=statement.delta,
        truth=certificate.truth,
        sampling=certificate.sampling,
        grid=tuple((point.accepted, point.errors) for point in statement.grid),
    )


class RungPath(msgspec.Struct, frozen=True):
    """What became of the rows that one rung tried: accepted there, passed up, or ended there without an answer."""

    rung: str
    accepted: int
    passed_up: int
    held_back: int

    @property
    def tried(self) -> int:
        """Rows the rung tried."""
        return self.accepted + self.passed_up + self.held_back


class Confusion(msgspec.Struct, frozen=True):
    """One way of being wrong among the answers given.

    Attributes:
        expected, answered: as they are shown.
        rows: how often.
        of_expected: answered rows whose known answer is `expected`; None where too many differ to count them.
        example: a text or an id of such a row, None when neither may be shown.
    """

    expected: str
    answered: str
    rows: int
    of_expected: int | None
    example: str | None


class Aggregates(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is kept of the rows: small, however many there were.

    Attributes:
        rows: all of them; `answered` by a rung, the rest held back.
        answered_by: answers of each rung.
        known: rows whose answer is known; `known_answered` of them were answered, `wrong` of those wrongly.
        curve: risk by coverage over rows with a confidence and a known outcome.
        reliability: of the same rows.
        paths: for each rung, in the order met.
        verdicts: (rung, verdict, rows), most frequent first within a rung.
        confusions: the most frequent ones; `confusions_left_out` wrong answers are of other kinds.
        latencies: None without rows.
        cost: nano-units spent.
    """

    rows: int
    answered: int
    answered_by: tuple[tuple[str, int], ...]
    known: int
    known_answered: int
    wrong: int
    curve: RiskCoverage
    reliability: Reliability
    paths: tuple[RungPath, ...]
    verdicts: tuple[tuple[str, str, int], ...]
    confusions: tuple[Confusion, ...]
    confusions_left_out: int
    latencies: Latencies | None
    cost: int

    @property
    def held_back(self) -> int:
        """Rows that got no answer."""
        return self.rows - self.answered

    @property
    def measured(self) -> bool:
        """Whether an error could be measured: some answered row has a known answer."""
        return self.known_answered > 0


class TargetReport(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One run of the rows at one target.

    Attributes:
        max_error: the target.
        facts: what is certified, None when nothing is; `reason` then says why.
        rows: aggregates of this run.
        wall_seconds: time the run took, None when it is not known.
        top_cost: estimated nano-units had the top rung answered all rows alone, None when it has no price.
        held_back_cost: estimated nano-units for the top rung to answer the rows held back, None likewise.
    """

    max_error: float
    facts: TargetFacts | None
    reason: str = ""
    rows: Aggregates
    wall_seconds: float | None = None
    top_cost: int | None = None
    held_back_cost: int | None = None

    @property
    def rows_per_second(self) -> float | None:
        """Throughput of the run, None when its time is not known."""
        return self.rows.rows / self.wall_seconds if self.wall_seconds else None

    @property
    def saving(self) -> int | None:
        """Nano-units saved against the top rung alone, the rows held back still to be paid there; an estimate."""
        if self.top_cost is None or (self.rows.held_back and self.held_back_cost is None):
            return None
        return self.top_cost - self.rows.cost - (self.held_back_cost or 0)


class ReportData(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything on the page.

    Attributes:
        title: heading; `task` the task's name.
        generated: date and time, as it is to be shown.
        targets: one or more, the headline's first.
        on_device: rungs that run on this machine.
        currency: of every amount; `price_date` when the prices were noted.
        notes: limits a reader must know, one sentence each.
        provenance: (name, value) pairs: digests, versions, files.
    """

    title: str
    task: str
    generated: str
    targets: tuple[TargetReport, ...]
    on_device: tuple[str, ...] = ()
    currency: str = "USD"
    price_date: str | None = None
    notes: tuple[str, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
