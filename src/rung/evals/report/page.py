"""The report's page: one HTML file that works offline, without scripts, in light and dark, on paper.

Head, headline, notes and provenance are here; what is said of one target is in `sections`.
"""

from __future__ import annotations

from rung.evals.report.figures import (
    count,
    duration_ms,
    percent,
    rate,
    rate_cell,
    rate_evidence,
    seconds,
    speed,
)
from rung.evals.report.markup import Markup, join, tag, trusted
from rung.evals.report.model import ReportData, TargetReport
from rung.evals.report.sections import target_section, why_unmeasured
from rung.evals.report.style import page_style
from rung.evals.report.tables import cells, heading, table
from rung.quantities import amount, counted

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(data: ReportData) -> str:
    """The whole page as HTML.

    Raises:
        ValueError: `data` has no target.
    """
    if not data.targets:
        raise ValueError("a report needs at least one target")
    body = tag(
        "main",
        tag("h1", data.title),
        tag("p", f"Task {data.task} · {data.generated}", class_="lead muted"),
        _tiles(data, data.targets[0]),
        _glance(data) if len(data.targets) > 1 else "",
        *(target_section(target, place) for place, target in enumerate(data.targets, 1)),
        _notes(data),
        _provenance(data),
        tag(
            "footer",
            "Made by Rung. This file holds everything it shows; it loads nothing and sends nothing.",
        ),
    )
    return (
        trusted("<!doctype html>\n") + tag("html", _head(data), tag("body", body), lang="en") + "\n"
    )


def _head(data: ReportData) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        trusted(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{data.title} – {data.task}"),
        tag("style", trusted(page_style())),
    )


def _tiles(data: ReportData, target: TargetReport) -> Markup:
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


def _glance(data: ReportData) -> Markup:
    """All targets beside each other; the tiles above are the first one's."""
    body = []
    for target in data.targets:
        rows, saving = target.rows, target.saving
        wrong = rate_cell(rows.wrong, rows.known_answered)
        body.append(
            cells(
                f"≤ {percent(target.max_error)}",
                "certified" if target.facts else "not certified",
                rate_cell(rows.answered, rows.rows),
                wrong if rows.measured else f"not measured: {why_unmeasured(target)}",
                count(rows.held_back),
                amount(saving, data.currency) if saving is not None else "no estimate",
                numbers=(2, 3, 4, 5),
            )
        )
    head = (
        "error target",
        "certificate",
        "answered",
        "wrong among answered",
        "held back",
        "saving, estimate",
    )
    shown = table(
        head,
        body,
        numbers=(2, 3, 4, 5),
        name="All targets",
        caption=f"The tiles above are for the target of {percent(data.targets[0].max_error)}. "
        f"In brackets: exact 95 % intervals over {counted(data.targets[0].rows.rows)}.",
    )
    return tag("section", shown, class_="panel", aria_label="All targets")


def _notes(data: ReportData) -> Markup:
    certified = [target.facts for target in data.targets if target.facts]
    notes = list(data.notes)
    if any(facts.sampling == "assumed" for facts in certified):
        notes.append(
            "That the certifying rows are a random draw from the traffic is assumed: no row says how it was drawn."
        )
    if len(certified) > 1:
        notes.append(
            "Each target is a certificate of its own; that all of them hold at once is not claimed."
        )
    notes.append(
        "Intervals are exact (Clopper–Pearson) at 95 %, for one rate at a time; along a curve they are pointwise."
    )
    return tag(
        "section",
        heading("Limits", "limits"),
        tag("div", tag("ul", *(tag("li", note) for note in notes)), class_="panel"),
        aria_labelledby="limits",
    )


def _provenance(data: ReportData) -> Markup:
    if not data.provenance:
        return join(())
    pairs = (join((tag("dt", name), tag("dd", value))) for name, value in data.provenance)
    return tag(
        "section",
        heading("Where this comes from", "provenance"),
        tag("div", tag("dl", *pairs, class_="pairs"), class_="panel"),
        aria_labelledby="provenance",
    )
