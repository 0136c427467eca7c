"""The tiles at the head of a task's report: rows, coverage, bound, measured error, saving, speed."""

from __future__ import annotations

from rung.evals.report.figures import (
    count,
    duration_ms,
    percent,
    rate,
    rate_evidence,
    seconds,
    speed,
)
from rung.evals.report.markup import Markup, tag
from rung.evals.report.model import ReportData, TargetReport
from rung.evals.report.sections import why_unmeasured
from rung.quantities import amount, counted


def tiles(data: ReportData, target: TargetReport) -> Markup:
    """The headline of one task: what happened at its first target."""
    rows = target.rows
    here = sum(number for rung, number in rows.answered_by if rung in data.on_device)
    held = f"{count(rows.held_back)} held back for a person or a bigger model"
    return tag(
        "dl",
        _tile("Rows routed", count(rows.rows), held),
        _tile("Answered on this device", rate(here, rows.rows), rate_evidence(here, rows.rows)),
        _bound_tile(target),
        _measured_tile(target),
        _saving_tile(data, target),
        _speed_tile(target),
        class_="tiles",
    )


def _tile(name: str, figure: str, detail: str, class_: str = "") -> Markup:
    style = class_ or None
    return tag(
        "div",
        tag("dt", name),
        tag("dd", tag("strong", figure, class_=style), tag("small", detail)),
        class_="tile",
    )


def _bound_tile(target: TargetReport) -> Markup:
    facts = target.facts
    if facts is None:
        detail = target.reason or f"no threshold passed at {percent(target.max_error)}"
        return _tile("Certified bound on error", "not certified", detail, "words")
    return _tile(
        "Certified bound on error",
        f"≤ {percent(facts.max_error)}",
        f"of accepted answers wrong, with {percent(facts.confidence, 2)} confidence, "
        "for rows like the certifying ones",
    )


def _measured_tile(target: TargetReport) -> Markup:
    rows = target.rows
    name = "Measured error of accepted answers"
    if not rows.measured:
        return _tile(name, "not measured", why_unmeasured(target), "words")
    evidence = rate_evidence(rows.wrong, rows.known_answered)
    within = rows.wrong <= target.max_error * rows.known_answered
    against = f"{'within' if within else 'above'} the target of {percent(target.max_error)}"
    figure = rate(rows.wrong, rows.known_answered)
    return _tile(name, figure, f"{evidence}; {against}", "good" if within else "bad")


def _saving_tile(data: ReportData, target: TargetReport) -> Markup:
    name = "Saving (estimate)"
    saving = target.saving
    if saving is None or target.top_cost is None:
        return _tile(name, "no estimate", "the top rung has no price", "words")
    dated = f", prices of {data.price_date}" if data.price_date else ""
    against = (
        f"estimated against {amount(target.top_cost, data.currency)} for the top rung alone{dated}"
    )
    held = target.held_back_cost
    left = f"; counts {amount(held, data.currency)} for the rows held back" if held else ""
    return _tile(name, amount(saving, data.currency), against + left)


def _speed_tile(target: TargetReport) -> Markup:
    name = "Throughput"
    if target.rows_per_second is None or target.wall_seconds is None:
        return _tile(name, "not timed", "this run has no wall time", "words")
    latencies = target.rows.latencies
    tail = f"; p95 {duration_ms(latencies.p95)} a row" if latencies else ""
    detail = f"{counted(target.rows.rows)} in {seconds(target.wall_seconds)}{tail}"
    return _tile(name, f"{speed(target.rows_per_second)} rows/s", detail)
