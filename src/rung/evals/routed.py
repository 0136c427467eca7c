"""From the output of a batch, and the known answers where there are any, to what a report shows."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from rung.batch.output import OutputRow
from rung.batch.summary import Summary
from rung.evals.report.aggregation import aggregate
from rung.evals.report.model import ReportData, ReportRow, TargetReport, target_facts
from rung.policy import Place
from rung.project import Project
from rung.rows.example import Example
from rung.suite import Suite, matches
from rung.task import Task
from rung.trust.certificate import Certificate
from rung.version import __version__


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One run to be reported.

    Attributes:
        summary: of the run; None when only its output is at hand.
        target: the error bound it ran under.
        certificate: what held at that target, None when nothing did.
        rows: starts a pass over the output.
        truth: known answers, None when there are none.
        observed: row id to (confidence, right) of the bottom rung, also where its answer was not accepted; makes the
            curves whole.
        texts: whether texts of wrong answers may be shown; ids are shown otherwise.
    """

    summary: Summary | None
    target: float
    certificate: Certificate | None
    rows: Callable[[], Iterable[OutputRow]]
    truth: Suite | None = None
    observed: Mapping[str, tuple[float, bool]] = {}
    texts: bool = False


def report_data(
    project: Project,
    task: Task,
    runs: Sequence[Facts],
    *,
    title: str,
    notes: tuple[str, ...] = (),
    again: str,
) -> ReportData:
    """Everything a report shows.

    Args:
        project: supplies prices and where rungs run.
        task: what was asked.
        runs: one a target, the headline's first.
        title: heading of the page.
        notes: limits a reader must know.
        again: the command that makes the report once more.
    """
    settings = project.settings
    ladder = settings.ladder(task.ladder)
    price = ladder[-1].price or settings.frontier
    provenance = [
        ("task", f"{task.name}, {task.digest[:16]}"),
        ("rung", f"{__version__} on Python {platform.python_version()}, {platform.machine()}"),
        ("again", again),
    ]
    for run in runs:
        if run.certificate is not None:
            provenance.append((f"certificate {run.certificate.id}", run.certificate.suite[:16]))
            for name, value in run.certificate.sets[0].fingerprint.items():
                provenance.append((f"{run.certificate.id} {name}", value))
        if run.summary is not None:
            provenance.append(("run", run.summary.run))
    return ReportData(
        title=title,
        task=task.name,
        generated=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        targets=tuple(_target(run, task) for run in runs),
        on_device=tuple(rung.name for rung in ladder if rung.where is Place.DEVICE),
        currency=price.currency if price is not None else "USD",
        price_date=price.date if price is not None else None,
        notes=notes,
        provenance=tuple(provenance),
    )


def _target(run: Facts, task: Task) -> TargetReport:
    costs = _TopCosts()
    rows = aggregate(costs.watch(report_rows(run)))
    statement = None
    if run.certificate is not None:
        statement = next(
            (s for s in run.certificate.sets if s.certified and task.privacy in s.labels), None
        )
    facts = None
    if run.certificate is not None and statement is not None:
        facts = target_facts(run.certificate, statement)
    return TargetReport(
        max_error=run.target,
        facts=facts,
        reason="" if facts is not None else "there is no certificate at this target",
        rows=rows,
        wall_seconds=run.summary.seconds if run.summary is not None else None,
        top_cost=costs.all if costs.known else None,
        held_back_cost=costs.held_back if costs.known else None,
    )


def report_rows(run: Facts) -> Iterator[tuple[ReportRow, int | None]]:
    """Rows of a run as the report sees them, each with the estimate of its cost on the top rung."""
    true: dict[str, Example] = (
        {example.id: example for example in run.truth.examples} if run.truth is not None else {}
    )
    for row in run.rows():
        example = true.get(row.id)
        confidence, correct = row.confidence, None
        if example is not None and row.rung is not None:
            correct = matches(example, row.answer)
        elif row.id in run.observed:
            confidence, correct = run.observed[row.id]
        yield (
            ReportRow(
                row=row.row,
                id=row.id,
                answer=row.answer,
                expected=example.expected if example is not None else None,
                correct=correct,
                rung=row.rung,
                confidence=confidence,
                path=tuple((name, verdict.value) for name, verdict in row.path),
                latency_ms=row.latency_ms,
                cost=row.cost,
                text=example.text if example is not None and run.texts else None,
            ),
            row.top_cost,
        )


class _TopCosts:
    """Adds up estimates while rows pass by; unknown as soon as one row has none."""

    def __init__(self) -> None:
        self.all = 0
        self.held_back = 0
        self.known = True

    def watch(self, rows: Iterable[tuple[ReportRow, int | None]]) -> Iterator[ReportRow]:
        """The rows, counted."""
        for row, cost in rows:
            if cost is None:
                self.known = False
            else:
                self.all += cost
                self.held_back += cost if row.rung is None else 0
            yield row
