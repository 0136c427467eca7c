"""The charts of the report: risk by coverage, reliability, paths through the rungs, latencies.

Each is a function from aggregates to SVG. The words and tables around them are the page's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rung.evals.metrics import INTERVAL_CONFIDENCE, Floats, Latencies, Reliability, RiskCoverage
from rung.evals.report.figures import count, duration_ms, percent, rate, span
from rung.evals.report.markup import Markup, join
from rung.evals.report.model import ReportData, RungPath, TargetFacts, TargetReport
from rung.evals.report.style import standalone_style
from rung.evals.report.svg import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    Point,
    axes,
    band,
    clipped,
    curve,
    dot,
    drawing,
    label,
    line,
    log_ticks,
    rectangle,
    ticks,
)
from rung.quantities import counted
from rung.trust.bounds import interval

HEIGHT = 320.0
LEGEND = 40.0
ROUGH_BELOW = 20
"""A share of fewer rows than this says nothing yet; the curve starts behind them."""


def risk_coverage_svg(data: ReportData, *, standalone: bool = True) -> str:
    """The risk-coverage chart of all targets; a file of its own with its colours, or a fragment for a page."""
    return risk_coverage_chart(data.targets, name="risk", standalone=standalone)


def risk_coverage_chart(
    targets: Sequence[TargetReport], *, name: str, standalone: bool = False
) -> Markup:
    """Share wrong by share answered: measured with its interval, on the certifying rows, targets and chosen points.

    The measured curve is that of the target whose run knows the outcome of most rows.
    """
    best = max(targets, key=lambda target: target.rows.curve.scored)
    facts = best.facts if best.facts and best.facts.grid else None
    top = _highest_risk(targets)
    frame = Frame.of((0.0, 1.0), (0.0, top), height=HEIGHT, top=LEGEND + TOP)
    layers = [
        axes(
            frame,
            x_ticks=(0, 0.2, 0.4, 0.6, 0.8, 1.0),
            y_ticks=ticks(top),
            x_text=lambda value: percent(value, 0),
            y_text=percent,
            x_title="share of rows answered",
            y_title="wrong among answered",
        ),
        clipped(
            frame,
            name,
            _measured(frame, best.rows.curve, best.rows.known),
            _certifying(frame, facts) if facts else "",
        ),
        *(_target_line(frame, target.max_error) for target in targets),
        *(_chosen(frame, target) for target in targets if target.rows.measured),
        _legend(certifying=facts is not None),
    ]
    return drawing(
        *layers,
        title="Share wrong by share answered",
        description=_described(targets),
        height=HEIGHT,
        name=name,
        style=standalone_style() if standalone else None,
    )


def reliability_chart(measured: Reliability, *, name: str) -> Markup:
    """Share right by mean confidence of each bin, with exact intervals, against the diagonal."""
    lowest = min((min(b.confidence, b.low) for b in measured.bins), default=0.0)
    start = math.floor(min(lowest, 0.95) * 10) / 10
    frame = Frame.of((start, 1.0), (start, 1.0), height=HEIGHT)
    step = 0.2 if start < 0.45 else 0.1
    marks = [start + step * place for place in range(int((1.0 - start) / step + 1.01))]
    points = []
    for one in measured.bins:
        tip = f"confidence {percent(one.confidence)}, right {rate(one.correct, one.rows)} of {count(one.rows)}"
        x = one.confidence
        points.append(line(frame.at(x, one.low), frame.at(x, one.high), "whisker"))
        points.append(dot(frame.at(x, one.accuracy), "measured-dot", radius=4, tip=tip))
    return drawing(
        axes(
            frame,
            x_ticks=marks,
            y_ticks=marks,
            x_text=lambda value: percent(value, 0),
            y_text=lambda value: percent(value, 0),
            x_title="mean confidence",
            y_title="share right",
        ),
        curve([frame.at(start, start), frame.at(1.0, 1.0)], "target"),
        label("as sure as right", _above_diagonal(frame, start), anchor="end", class_="note"),
        *points,
        title="Share right by confidence",
        description=f"{len(measured.bins)} bins of about equal size over {count(measured.rows)} rows; "
        f"expected calibration error {percent(measured.ece, 2)}.",
        height=HEIGHT,
        name=name,
    )


BAR, GAP = 26.0, 54.0


def path_chart(paths: Sequence[RungPath], rows: int, *, name: str) -> Markup:
    """For each rung, of all rows: accepted there, passed up, held back."""
    height = TOP + LEGEND / 2 + GAP * len(paths) + 6
    width = WIDTH - RIGHT - 1
    parts = [
        _keys((("accepted", "accepted"), ("passed-up", "passed up"), ("held-back", "held back")))
    ]
    for place, path in enumerate(paths):
        y = TOP + LEGEND / 2 + GAP * place + 20
        ends = (
            ("accepted", "accepted", path.accepted),
            ("passed-up", "passed up", path.passed_up),
            ("held-back", "held back", path.held_back),
        )
        parts.append(label(path.rung[:40], (1, y - 5), anchor="start", class_="label"))
        tried = f"tried {count(path.tried)} of {counted(rows)}"
        parts.append(label(tried, (width, y - 5), anchor="end", class_="tick"))
        parts.append(rectangle((1, y), (width, y + BAR), "track"))
        x = 1.0
        for class_, word, number in ends:
            end = x + (width - 1) * number / max(rows, 1)
            tip = f"{path.rung}: {word} {count(number)} ({rate(number, rows)} of all rows)"
            if number:
                parts.append(rectangle((x, y), (end, y + BAR), class_, tip=tip))
            if end - x > 60:
                inside = f"on-{class_}"
                parts.append(label(rate(number, rows), ((x + end) / 2, y + 17.5), class_=inside))
            x = end
    said = "; ".join(
        f"{path.rung}: {count(path.accepted)} accepted, {count(path.passed_up)} passed up, "
        f"{count(path.held_back)} held back"
        for path in paths
    )
    return drawing(
        *parts,
        title="What became of the rows on each rung",
        description=f"{said}; of {count(rows)} rows.",
        height=height,
        name=name,
    )


def latency_chart(latencies: Latencies, *, name: str) -> Markup:
    """Rows by latency on a logarithmic scale, with the median and the slow tail marked."""
    height = 240.0
    most = max(latencies.counts)
    low, high = latencies.edges[0], latencies.edges[-1]
    frame = Frame.of((low, high), (0.0, most * 1.12), height=height, top=TOP + 34, log_x=True)
    bars = [
        rectangle(
            frame.at(start, 0),
            frame.at(end, rows),
            "bar",
            tip=f"{duration_ms(start)} to {duration_ms(end)}: {count(rows)} rows",
        )
        for start, end, rows in zip(
            latencies.edges, latencies.edges[1:], latencies.counts, strict=False
        )
        if rows
    ]
    return drawing(
        axes(
            frame,
            x_ticks=log_ticks(low, high),
            y_ticks=[value for value in ticks(most * 1.12, 4) if value == int(value)],
            x_text=duration_ms,
            y_text=lambda value: count(int(value)),
            x_title="time for one row (logarithmic)",
            y_title="rows",
        ),
        *bars,
        _percentiles(frame, latencies),
        title="How long rows took",
        description=f"{count(latencies.rows)} rows: half within {duration_ms(latencies.p50)}, 95 % within "
        f"{duration_ms(latencies.p95)}, 99 % within {duration_ms(latencies.p99)}.",
        height=height,
        name=name,
    )


def _highest_risk(targets: Sequence[TargetReport]) -> float:
    """A top for the risk axis that leaves room above every target, yet lets them be told apart."""
    loosest = max(target.max_error for target in targets)
    ends = [
        target.rows.curve.errors[-1] / target.rows.curve.accepted[-1]
        for target in targets
        if target.rows.curve.scored
    ]
    chosen = [t.rows.wrong / t.rows.known_answered for t in targets if t.rows.measured]
    wanted = max(2.0 * loosest, min(max(ends, default=0.0) * 1.15, 4.0 * loosest), *chosen, 0.0)
    steps = ticks(wanted * 1.2)
    return min(1.0, steps[-1] if steps[-1] >= wanted else steps[-1] + steps[1])


def _measured(frame: Frame, measured: RiskCoverage, known: int) -> Markup:
    kept = measured.accepted >= min(ROUGH_BELOW, measured.scored)
    accepted, errors = measured.accepted[kept], measured.errors[kept]
    if not len(accepted):
        return join(())
    low, high = interval(errors, accepted, INTERVAL_CONFIDENCE)
    shares = accepted / max(known, measured.scored)

    def placed(values: Floats) -> list[Point]:
        return [frame.at(float(x), float(y)) for x, y in zip(shares, values, strict=True)]

    return join(
        (
            band(placed(high), placed(low), "interval"),
            curve(placed(errors / accepted), "measured"),
        )
    )


def _certifying(frame: Frame, facts: TargetFacts) -> Markup:
    grid = np.array([point for point in facts.grid if point[0] >= ROUGH_BELOW])
    if len(grid) < 2:
        return join(())
    grid = grid[np.argsort(grid[:, 0], kind="stable")]
    points = [frame.at(a / facts.rows, e / a) for a, e in grid]
    return curve(points, "certifying")


def _target_line(frame: Frame, max_error: float) -> Markup:
    y = frame.y(max_error)
    return join(
        (
            line((LEFT, y), (WIDTH - RIGHT, y), "target"),
            label(f"target {percent(max_error)}", (LEFT + 6, y - 6), anchor="start", class_="note"),
        )
    )


def _chosen(frame: Frame, target: TargetReport) -> Markup:
    """The point the run worked at, with its interval; its words stand where there is room."""
    rows = target.rows
    share, risk = rows.known_answered / rows.known, rows.wrong / rows.known_answered
    low, high = interval(rows.wrong, rows.known_answered, INTERVAL_CONFIDENCE)
    x, y = frame.at(share, risk)
    said = f"{percent(share)} answered, {percent(risk)} wrong"
    tip = f"{said} ({percent(INTERVAL_CONFIDENCE, 0)} interval {span(float(low), float(high))})"
    anchor = "end" if share > 0.5 else "start"
    above = max(frame.y(float(high)) - 9, frame.y.end + 10)
    return join(
        (
            line(frame.at(share, float(low)), frame.at(share, float(high)), "whisker strong"),
            dot((x, y), "chosen", radius=5.5, tip=tip),
            label(
                said,
                (max(x + 8, LEFT + 7.8 * len(said)) if anchor == "end" else x - 8, above),
                anchor=anchor,
                class_="strong",
            ),
        )
    )


def _legend(*, certifying: bool) -> Markup:
    entries = [("measured", "measured, 95 % interval"), ("chosen", "chosen")]
    if certifying:
        entries.append(("certifying", "certifying rows"))
    parts = []
    x = 4.0
    for class_, words in entries:
        middle = 17.0
        if class_ == "measured":
            parts.append(rectangle((x, middle - 6), (x + 22, middle + 6), "interval"))
        if class_ == "chosen":
            parts.append(dot((x + 11, middle), class_, radius=5))
        else:
            parts.append(line((x, middle), (x + 22, middle), class_))
        parts.append(label(words, (x + 28, middle + 4), anchor="start", class_="tick"))
        x += 28 + 6.9 * len(words) + 14
    return join(parts)


def _keys(entries: Sequence[tuple[str, str]]) -> Markup:
    parts = []
    x = 1.0
    for class_, words in entries:
        parts.append(rectangle((x, 4), (x + 12, 16), class_))
        parts.append(label(words, (x + 18, 14.5), anchor="start", class_="tick"))
        x += 18 + 6.9 * len(words) + 18
    return join(parts)


def _above_diagonal(frame: Frame, start: float) -> Point:
    middle = start + (1.0 - start) * 0.56
    x, y = frame.at(middle, middle)
    return x - 10, y - 10


def _percentiles(frame: Frame, latencies: Latencies) -> Markup:
    """Lines at p50, p95 and p99; the later, the higher its words, so that no line crosses them."""
    parts = []
    marks = (("p99", latencies.p99), ("p95", latencies.p95), ("p50", latencies.p50))
    for place, (word, value) in enumerate(marks):
        x = frame.x(value)
        y = TOP + 3 + 15 * place
        anchor = "end" if x > LEFT + 90 else "start"
        parts.append(line((x, y + 4), (x, frame.y.start), "mark"))
        parts.append(
            label(
                f"{word} {duration_ms(value)}",
                (x + (-4 if anchor == "end" else 4), y + 6),
                anchor=anchor,
                class_="note",
            )
        )
    return join(parts)


def _described(targets: Sequence[TargetReport]) -> str:
    parts = []
    for target in targets:
        rows = target.rows
        said = (
            f"{rate(rows.known_answered, rows.known)} of {count(rows.known)} rows answered, "
            f"{rate(rows.wrong, rows.known_answered)} of them wrong"
            if rows.measured
            else "not measured"
        )
        parts.append(f"target {percent(target.max_error)}: {said}")
    return "; ".join(parts) + "."
