"""The report's page: one HTML file that works offline, without scripts, in light and dark, on paper.

Head, tasks, notes and provenance are here; what is said of one target is in `sections`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rung.evals.report.figures import count, percent, rate, rate_cell
from rung.evals.report.markup import Markup, join, tag, trusted
from rung.evals.report.model import ReportData
from rung.evals.report.sections import target_section, why_unmeasured
from rung.evals.report.style import page_style
from rung.evals.report.tables import cells, heading, table
from rung.evals.report.tiles import tiles
from rung.quantities import amount, counted

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(*tasks: ReportData) -> str:
    """The whole page as HTML, one part a task; the first one's title is the page's.

    Raises:
        ValueError: there is no task, or one has no target.
    """
    if not tasks or not all(data.targets for data in tasks):
        raise ValueError("a report needs at least one task, and each at least one target")
    first = tasks[0]
    names = counted(len(tasks), "task") if len(tasks) > 1 else f"Task {first.task}"
    body = tag(
        "main",
        tag("h1", first.title),
        tag("p", f"{names} · {first.generated}", class_="lead muted"),
        _contents(tasks) if len(tasks) > 1 else "",
        *(_task(data, alone=len(tasks) == 1) for data in tasks),
        _notes(tasks),
        _provenance(tasks),
        tag(
            "footer",
            "Made by Rung. This file holds everything it shows; it loads nothing and sends nothing.",
        ),
    )
    head = _head(first.title if len(tasks) > 1 else f"{first.title} – {first.task}")
    return trusted("<!doctype html>\n") + tag("html", head, tag("body", body), lang="en") + "\n"


def _contents(tasks: Sequence[ReportData]) -> Markup:
    """Where each task begins, with its headline."""
    links = []
    for data in tasks:
        rows = data.targets[0].rows
        said = f": {rate(rows.answered, rows.rows)} of {counted(rows.rows)} answered"
        links.append(tag("li", tag("a", data.task, href=f"#task-{data.task}"), said))
    return tag("nav", tag("ul", *links), aria_label="Tasks")


def _task(data: ReportData, *, alone: bool) -> Markup:
    """Everything on one task; its heading is the page's when it is alone."""
    prefix = "" if alone else f"{data.task}-"
    return join(
        (
            "" if alone else heading(data.task, f"task-{data.task}"),
            tiles(data, data.targets[0]),
            _glance(data) if len(data.targets) > 1 else "",
            *(
                target_section(target, f"{prefix}target-{place}")
                for place, target in enumerate(data.targets, 1)
            ),
        )
    )


def _head(title: str) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        trusted(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", trusted(page_style())),
    )


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


def _notes(tasks: Sequence[ReportData]) -> Markup:
    certified = [[target.facts for target in data.targets if target.facts] for data in tasks]
    notes = list(dict.fromkeys(note for data in tasks for note in data.notes))
    if any(facts.sampling == "assumed" for each in certified for facts in each):
        notes.append(
            "That the certifying rows are a random draw from the traffic is assumed: no row says how it was drawn."
        )
    if any(len(each) > 1 for each in certified):
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


def _provenance(tasks: Sequence[ReportData]) -> Markup:
    named = list(dict.fromkeys(pair for data in tasks for pair in data.provenance))
    if not named:
        return join(())
    pairs = (join((tag("dt", name), tag("dd", value))) for name, value in named)
    return tag(
        "section",
        heading("Where this comes from", "provenance"),
        tag("div", tag("dl", *pairs, class_="pairs"), class_="panel"),
        aria_labelledby="provenance",
    )
