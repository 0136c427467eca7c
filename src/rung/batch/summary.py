"""What became of a batch, in figures: a value made from its checkpoint, for people and programs to read."""

from __future__ import annotations

import msgspec

from rung.batch.store import Checkpoint, Run
from rung.batch.tally import RungTally, Tally
from rung.structured.figures import StructuredFigures


class RungSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one rung did.

    Attributes:
        name: as in `rung.toml`; `where` it runs.
        answered: rows it answered; `share` of all rows that were asked.
        attempts, failed: calls made to it, and those of them that failed.
        mean_ms, p95_ms: latency of its attempts, None when there were none; the p95 is right to 2.5 %.
        cost: nano-units.
        failures: what went wrong, with counts.
    """

    name: str
    where: str
    answered: int
    share: float
    attempts: int
    failed: int
    mean_ms: float | None
    p95_ms: float | None
    cost: int
    failures: dict[str, int]

    @property
    def down(self) -> bool:
        """Whether not one call to it worked."""
        return self.failed == self.attempts > 0


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """`count` of `n` attempts with the exact two-sided 95 % interval of their share."""

    count: int
    n: int
    share: float
    low: float
    high: float


class StructuredPart(msgspec.Struct, frozen=True, kw_only=True):
    """How the records came out of `n` attempts that wrote something (see `structured.figures.StructuredFigures`).

    Attributes:
        parsed, schema_valid, truncated: each told apart from the others.
        executable: calls that name a tool with arguments it takes, of the attempts that did not rightly call nothing;
            None for tasks that call nothing.
        repaired: attempts in which the model was shown its mistake once; they count as they ended.
    """

    n: int
    parsed: Rate
    schema_valid: Rate
    truncated: Rate
    executable: Rate | None
    repaired: int


class CertifiedPart(msgspec.Struct, frozen=True, kw_only=True):
    """Rows answered under one certificate, and what it promises of them (see `receipt.Bound`)."""

    certificate: str
    rows: int
    max_error: float
    confidence: float
    labels: int
    truth: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all rows of a run.

    Attributes:
        run: its id; `finished` is False when it was stopped and can be taken up again.
        rows: rows read: answered, abstained and rejected.
        answered: rows with an answer; `answered_on_device` of them on this device.
        abstained: rows for review; `failed` of them because an engine failed.
        rejected: rows that could not be asked; `rejected_by` says why.
        local_share: answered on this device, of all rows that were asked; None when there were none.
        certified: answers under a certificate.
        uncertified: why other rows are not certified, with counts.
        structured: for records: how often they parsed, kept their schema, were cut; None for other kinds of task.
        cost: nano-units of `currency` at prices of `price_date`.
        top_cost: estimate: nano-units had the top rung alone answered every row; None when it has no price.
        open_cost: the part of it for rows without an answer, which have still to be answered somewhere.
        seconds: wall time of the whole run; `rows_per_second` is that of this process.
        output, rejects: where the rows are.
    """

    format: int = 1
    run: str
    task: str
    target: float
    finished: bool
    rows: int
    answered: int
    answered_on_device: int
    abstained: int
    failed: int
    rejected: int
    rejected_by: dict[str, int]
    local_share: float | None
    rungs: tuple[RungSummary, ...]
    certified: tuple[CertifiedPart, ...]
    uncertified: dict[str, int]
    structured: StructuredPart | None
    cost: int
    top_cost: int | None
    open_cost: int | None
    currency: str
    price_date: str | None
    seconds: float
    rows_now: int
    rows_per_second: float | None
    last_row: int
    output: str
    rejects: str

    @classmethod
    def of(cls, run: Run, checkpoint: Checkpoint, *, rows_now: int, seconds_now: float) -> Summary:
        """Sum up a run as far as it is.

        Args:
            run: what was asked of what.
            checkpoint: how far it is.
            rows_now, seconds_now: what this process has done of it, and in how long.
        """
        tally = checkpoint.tally
        rejected = sum(tally.rejected.values())
        return cls(
            run=run.id,
            task=run.task,
            target=run.target,
            finished=checkpoint.finished,
            rows=tally.rows,
            answered=tally.answered,
            answered_on_device=tally.on_device,
            abstained=tally.abstained,
            failed=tally.failed,
            rejected=rejected,
            rejected_by=_most_first(tally.rejected),
            local_share=tally.on_device / tally.asked if tally.asked else None,
            rungs=tuple(_rung(name, rung, tally.asked) for name, rung in tally.rungs.items()),
            certified=_certified(tally),
            uncertified=_most_first(tally.uncertified),
            structured=_structured(tally.structured) if tally.structured is not None else None,
            cost=tally.cost,
            top_cost=tally.top_cost if tally.top_known == tally.asked > 0 else None,
            open_cost=tally.open_cost if tally.top_known == tally.asked > 0 else None,
            currency=tally.currency,
            price_date=tally.price_date,
            seconds=checkpoint.seconds,
            rows_now=rows_now,
            rows_per_second=rows_now / seconds_now if rows_now else None,
            last_row=checkpoint.row,
            output=run.output,
            rejects=run.rejects,
        )

    @property
    def saving(self) -> int | None:
        """Estimate: nano-units less than the top rung alone would have cost, what is open not counted as saved."""
        if self.top_cost is None or self.open_cost is None:
            return None
        return self.top_cost - self.cost - self.open_cost

    @property
    def exit_code(self) -> int:
        """3 when a row could not be asked or an engine failed on it, else 0; abstaining is no error."""
        return 3 if self.rejected or self.failed else 0


def _rung(name: str, rung: RungTally, asked: int) -> RungSummary:
    return RungSummary(
        name=name,
        where=rung.where,
        answered=rung.answered,
        share=rung.answered / asked,
        attempts=rung.attempts,
        failed=rung.failed,
        mean_ms=rung.total_ms / rung.attempts if rung.attempts else None,
        p95_ms=rung.latencies.quantile(0.95),
        cost=rung.cost,
        failures=_most_first(rung.failures),
    )


def _certified(tally: Tally) -> tuple[CertifiedPart, ...]:
    return tuple(
        CertifiedPart(
            certificate=certificate,
            rows=bound.rows,
            max_error=bound.max_error,
            confidence=bound.confidence,
            labels=bound.labels,
            truth=bound.truth,
        )
        for certificate, bound in tally.bounds.items()
    )


def _structured(figures: StructuredFigures) -> StructuredPart:
    return StructuredPart(
        n=figures.n,
        parsed=_share(figures.parsed, figures.n),
        schema_valid=_share(figures.schema_valid, figures.n),
        truncated=_share(figures.truncated, figures.n),
        executable=_share(figures.executable, figures.wanted) if figures.calls else None,
        repaired=figures.repaired,
    )


def _share(count: int, n: int) -> Rate:
    from rung.trust.bounds import interval  # noqa: PLC0415 - scipy, which only records' figures need

    low, high = interval(count, n)
    return Rate(count=count, n=n, share=count / n if n else 0.0, low=float(low), high=float(high))


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
