"""What the report says of one target: charts with the data behind them, confusions, verdicts, what was certified.

`page` puts the sections together; `charts` draws.
"""

from __future__ import annotations

from rung.evals.report.charts import (
    latency_chart,
    path_chart,
    reliability_chart,
    risk_coverage_chart,
)
from rung.evals.report.figures import (
    MISSING,
    count,
    duration_ms,
    percent,
    rate,
    rate_cell,
    rate_evidence,
    rate_interval,
    span,
)
from rung.evals.report.markup import Markup, join, tag
from rung.evals.report.model import TargetFacts, TargetReport
from rung.evals.report.tables import cells, heading, panel, table
from rung.quantities import counted

TABLE_POINTS = 20


def target_section(target: TargetReport, name: str) -> Markup:
    """Everything on one target; `name` is no other one's on the page, and its ids begin with it."""
    rows = target.rows
    return tag(
        "section",
        heading(f"At most {percent(target.max_error)} wrong", name),
        tag("p", _summary(target), class_="muted"),
        tag(
            "div",
            _risk_figure(target, name),
            _reliability_figure(target, name),
            _path_figure(target, name),
            _latency_figure(target, name),
            class_="charts",
        ),
        _confusions(target, name),
        _verdicts(target, name) if rows.verdicts else "",
        _certified(target, name),
        aria_labelledby=name,
    )


def why_unmeasured(target: TargetReport) -> str:
    """Why there is no measured error."""
    return "nothing was answered" if target.rows.known else "no known answers"


def _summary(target: TargetReport) -> str:
    rows = target.rows
    answered = (
        f"Answered {rate(rows.answered, rows.rows)} ({rate_evidence(rows.answered, rows.rows)})"
    )
    if not rows.measured:
        return f"{answered}. Error: not measured: {why_unmeasured(target)}."
    wrong = rate(rows.wrong, rows.known_answered)
    return f"{answered}. Wrong among the answered: {wrong} ({rate_evidence(rows.wrong, rows.known_answered)})."


def _figure(title: str, chart: str, caption: str, data: str = "", *, wide: bool = False) -> Markup:
    more = tag("details", tag("summary", "Data behind this chart"), data) if data else ""
    return tag(
        "figure",
        tag("h3", title),
        chart,
        tag("figcaption", caption),
        more,
        class_="wide" if wide else None,
    )


def _risk_figure(target: TargetReport, name: str) -> Markup:
    curve = target.rows.curve
    title = "Share wrong by share answered"
    if not curve.scored:
        return _figure(title, "", _no_curve(target))
    known = max(target.rows.known, curve.scored)
    picked = curve.thinned(TABLE_POINTS)
    body = [
        cells(
            rate(int(accepted), known),
            count(int(accepted)),
            count(int(errors)),
            rate_cell(int(errors), int(accepted)),
            f"{threshold:.4f}",
            numbers=(1, 2, 3, 4),
        )
        for accepted, errors, threshold in zip(
            picked.accepted, picked.errors, picked.threshold, strict=True
        )
    ]
    shown = table(
        ("answered", "rows", "wrong", "share wrong (95 % interval)", "lowest confidence"),
        body,
        numbers=(1, 2, 3, 4),
        name=f"{title}: data",
        tall=True,
    )
    caption = (
        f"Routed rows with known answers, most confident first: {count(curve.scored)} of {counted(known)}. "
        f"The dot is what this run did. Area under the curve (AURC, lower is better): {percent(curve.aurc, 2)}."
    )
    if target.facts and target.facts.grid:
        caption += (
            f" Dashed: the thresholds tried on the {count(target.facts.rows)} certifying rows."
        )
    if len(target.rows.paths) > 1:
        caption += " Rows of several rungs are ordered on one scale of confidence: the dot may lie beside the curve."
    return _figure(title, risk_coverage_chart((target,), name=f"{name}-risk"), caption, shown)


def _no_curve(target: TargetReport) -> str:
    if not target.rows.known:
        return f"Not measured: {why_unmeasured(target)}."
    return "Not measured: no row has both a confidence and a known outcome."


def _reliability_figure(target: TargetReport, name: str) -> Markup:
    measured = target.rows.reliability
    title = "Can the confidences be believed?"
    if not measured.rows:
        return _figure(title, "", _no_curve(target))
    body = [
        cells(
            percent(one.confidence, 2),
            count(one.rows),
            rate(one.correct, one.rows),
            span(one.low, one.high),
            numbers=(1, 2, 3),
        )
        for one in measured.bins
    ]
    shown = table(
        ("mean confidence", "rows", "share right", "95 % interval"),
        body,
        numbers=(1, 2, 3),
        name=f"{title}: data",
        tall=True,
    )
    caption = (
        f"{counted(measured.rows)} in {counted(len(measured.bins), 'group')} of about equal size, "
        "with exact 95 % intervals; on the dotted line confidence equals the share right. "
        f"Expected calibration error (ECE): {percent(measured.ece, 2)}. Brier score: {measured.brier:.4f}. "
        "The certificate does not rest on this."
    )
    return _figure(title, reliability_chart(measured, name=f"{name}-reliability"), caption, shown)


def _path_figure(target: TargetReport, name: str) -> Markup:
    rows = target.rows
    title = "Path through the rungs"
    if not rows.paths:
        return _figure(title, "", "No rung was tried.")
    body = [
        cells(
            path.rung,
            count(path.tried),
            f"{count(path.accepted)} ({rate(path.accepted, rows.rows)})",
            f"{count(path.passed_up)} ({rate(path.passed_up, rows.rows)})",
            f"{count(path.held_back)} ({rate(path.held_back, rows.rows)})",
            numbers=(1, 2, 3, 4),
        )
        for path in rows.paths
    ]
    shown = table(
        ("rung", "tried", "accepted", "passed up", "held back"),
        body,
        numbers=(1, 2, 3, 4),
        name=f"{title}: data",
    )
    caption = (
        f"Shares of all {counted(rows.rows)}: {count(rows.answered)} answered, {count(rows.held_back)} "
        "held back, that is, given no answer rather than an unsure one."
    )
    return _figure(title, path_chart(rows.paths, rows.rows, name=f"{name}-path"), caption, shown)


def _latency_figure(target: TargetReport, name: str) -> Markup:
    latencies = target.rows.latencies
    title = "Time for one row"
    if latencies is None:
        return _figure(title, "", "No row was routed.")
    body = [
        cells(f"{duration_ms(start)} to {duration_ms(end)}", count(rows), numbers=(1,))
        for start, end, rows in zip(
            latencies.edges, latencies.edges[1:], latencies.counts, strict=False
        )
        if rows
    ]
    shown = table(("time", "rows"), body, numbers=(1,), name=f"{title}: data", tall=True)
    caption = (
        f"{counted(latencies.rows)}: median {duration_ms(latencies.p50)}, p95 {duration_ms(latencies.p95)}, "
        f"p99 {duration_ms(latencies.p99)}, slowest {duration_ms(latencies.longest)}. "
        "In a micro-batch a row's time is its share."
    )
    return _figure(title, latency_chart(latencies, name=f"{name}-latency"), caption, shown)


def _confusions(target: TargetReport, name: str) -> Markup:
    rows = target.rows
    title = "Worst confusions"
    if not rows.measured:
        return panel(title, tag("p", _summary(target).rpartition("Error: ")[2], class_="muted"))
    if not rows.wrong:
        said = f"None of {count(rows.known_answered)} answers with a known outcome was wrong."
        return panel(title, tag("p", said))
    body = [
        cells(
            join((tag("bdi", one.expected), " → ", tag("bdi", one.answered))),
            count(one.rows),
            rate(one.rows, rows.wrong),
            MISSING
            if one.of_expected is None
            else f"{rate_cell(one.rows, one.of_expected)} of {count(one.of_expected)}",
            tag("bdi", one.example) if one.example is not None else MISSING,
            numbers=(1, 2, 3),
            free=(4,),
        )
        for one in rows.confusions
    ]
    left = rows.confusions_left_out
    caption = f"Of {count(rows.wrong)} wrong answers among {count(rows.known_answered)} accepted"
    caption += f"; {count(left)} more in other pairs." if left else "."
    shown = table(
        (
            "expected → answered",
            "rows",
            "of all wrong",
            "of that answer’s rows (95 % interval)",
            "example",
        ),
        body,
        numbers=(1, 2, 3),
        name=f"{title}, {name}",
        caption=caption,
    )
    return panel(title, shown)


def _verdicts(target: TargetReport, name: str) -> Markup:
    rows = target.rows
    body = [
        cells(rung, verdict, count(number), rate_cell(number, rows.rows), numbers=(2, 3))
        for rung, verdict, number in rows.verdicts
    ]
    shown = table(
        ("rung", "verdict", "rows", "of all rows (95 % interval)"),
        body,
        numbers=(2, 3),
        name=f"Verdicts, {name}",
    )
    return panel("Verdicts", shown)


def _certified(target: TargetReport, name: str) -> Markup:
    facts = target.facts
    title = "What was certified, on what"
    if facts is None:
        reason = target.reason or "no threshold passed"
        said = f"Nothing is certified at {percent(target.max_error)}. {reason[:1].upper()}{reason[1:].rstrip('.')}."
        return panel(title, tag("p", said))
    claim = (
        f"With {percent(facts.confidence, 2)} confidence, at most {percent(facts.max_error)} of the accepted answers "
        "are wrong, for rows drawn like the certifying ones."
    )
    pairs = (join((tag("dt", key), tag("dd", value))) for key, value in _facts(facts))
    return panel(title, tag("p", claim), tag("dl", *pairs, class_="pairs"))


def _facts(facts: TargetFacts) -> list[tuple[str, str]]:
    low, high = rate_interval(facts.errors, facts.accepted)
    thresholds = "; ".join(
        f"{rung}: confidence above {threshold:.4f}"
        if threshold is not None
        else f"{rung}: accepts nothing"
        for rung, threshold in facts.thresholds
    )
    wrong = (
        f"{count(facts.errors)} of {count(facts.accepted)}, {rate(facts.errors, facts.accepted)} "
        f"(95 % interval {span(low, high)})"
        if facts.accepted
        else "nothing was accepted"
    )
    upper = MISSING if facts.upper is None else percent(facts.upper, 2)
    truth = (
        "known answers given by people"
        if facts.truth == "human"
        else f"agreement with {facts.truth.removeprefix('agreement:')}, not correctness"
    )
    sampling = (
        "said to be drawn from the traffic"
        if facts.sampling == "stated"
        else "assumed to be drawn from the traffic; no row says so"
    )
    return [
        ("Certificate", f"{facts.certificate}, {facts.created}"),
        ("Wrong means", f"differs from: {truth}" if facts.truth == "human" else truth),
        ("Certifying rows", f"{count(facts.rows)}, {sampling}"),
        (
            "Accepted of them",
            f"{count(facts.accepted)}, {percent(facts.coverage)} "
            f"(95 % interval {span(facts.coverage_low, facts.coverage_high)})",
        ),
        ("Wrong among those", wrong),
        ("Exact upper bound there", f"{upper}, one-sided at {percent(facts.confidence, 2)}"),
        ("Accepts when", thresholds or MISSING),
        ("Attempt", f"{count(facts.attempt)}, spending an error probability of {facts.delta:.4g}"),
    ]
