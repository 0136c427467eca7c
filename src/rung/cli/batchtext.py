"""What `rung batch` prints when it is done: first how many rows went where, then the evidence, then the cost."""

from __future__ import annotations

from pathlib import Path

from rung.batch.summary import CertifiedPart, Rate, RungSummary, StructuredPart, Summary
from rung.quantities import amount, counted, percent
from rung.userfiles.document import shown_path

_REJECTED = {
    "empty-text": "empty",
    "encoding": "not UTF-8",
    "json": "not JSON",
    "csv": "not CSV",
    "long": "too long",
    "privacy": "unknown privacy label",
    "columns": "no text",
    "input": "not a text",
    "id": "unusable id",
}


def describe(summary: Summary) -> str:
    """The whole summary."""
    lines = [_rows(summary), "", *_rungs(summary), ""]
    lines += [f"  {line}" for line in _trust(summary)]
    if summary.structured is not None:
        lines += [f"  {line}" for line in _structured(summary.structured)]
    lines.append(f"  {'cost':<11}{_cost(summary)}")
    lines.append(f"  {'time':<11}{_time(summary)}")
    lines.append(f"  {'output':<11}{shown_path(Path(summary.output))}")
    lines += [
        f"warning: every call to rung {rung.name!r} failed: {next(iter(rung.failures))}"
        for rung in summary.rungs
        if rung.down
    ]
    if summary.abstained:
        lines.append("next       rung review list")
    return "\n".join(lines)


def _rows(summary: Summary) -> str:
    parts = [
        counted(summary.rows),
        f"{summary.answered:,} answered",
        f"{summary.abstained:,} for review",
    ]
    if summary.rejected:
        reasons = ", ".join(
            f"{count:,} {_REJECTED.get(code, code)}" for code, count in summary.rejected_by.items()
        )
        name = shown_path(Path(summary.rejects))
        parts.append(f"{summary.rejected:,} rejected ({name}: {reasons})")
    done = "already finished, nothing to do (--fresh runs it again)\n"
    again = done if summary.finished and not summary.rows_now else ""
    return again + " · ".join(parts)


def _rungs(summary: Summary) -> list[str]:
    width = max([len(rung.name) for rung in summary.rungs] + [len("for review")])
    heading = f"  {'':<{width}} {'answered':>12} {'share':>8} {'mean':>10} {'p95':>10} {'cost':>10}"
    lines = [heading, *(_rung(rung, width, summary.currency) for rung in summary.rungs)]
    asked = summary.answered + summary.abstained
    if asked:
        share = percent(summary.abstained / asked)
        lines.append(f"  {'for review':<{width}} {summary.abstained:>12,} {share:>8}")
    for rung in summary.rungs:
        lines += [
            f"  {rung.name} failed {counted(count, 'time')}: {reason}"
            for reason, count in rung.failures.items()
        ]
    return lines


def _rung(rung: RungSummary, width: int, currency: str) -> str:
    return (
        f"  {rung.name:<{width}} {rung.answered:>12,} {percent(rung.share):>8}"
        f" {_ms(rung.mean_ms):>10} {_ms(rung.p95_ms):>10} {amount(rung.cost, currency):>10}"
    )


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:,.1f} s" if value >= 10_000 else f"{value:,.2f} ms"


def _trust(summary: Summary) -> list[str]:
    lines = [f"{'certified':<11}{_promise(part)}" for part in summary.certified]
    lines += [
        f"{'' if number else 'not certified:':<15}{counted(count)}: {reason}"
        for number, (reason, count) in enumerate(summary.uncertified.items())
    ]
    if summary.local_share is not None:
        lines.insert(0, f"{'local':<11}{percent(summary.local_share)} answered on this device")
    return lines


def _promise(part: CertifiedPart) -> str:
    return (
        f"at most {percent(part.max_error)} wrong among {counted(part.rows, 'answer')}, {percent(part.confidence)} sure"
        f" ({part.certificate}, {counted(part.labels, 'label')}, truth: {part.truth})"
    )


def _structured(part: StructuredPart) -> list[str]:
    """The four figures of records, each of the attempts that it is a share of."""
    again = f", {part.repaired:,} of them after a repair" if part.repaired else ""
    figures = {
        "parsed": _share(part.parsed),
        "kept the schema": _share(part.schema_valid),
        "were cut": _share(part.truncated),
        "could be called": _share(part.executable) if part.executable else "– (no tools here)",
    }
    return [
        f"{'records':<11}{counted(part.n, 'attempt')}{again}; intervals are 95 %",
        *(f"{'':<11}{name:<17}{figure}" for name, figure in figures.items()),
    ]


def _share(rate: Rate) -> str:
    if not rate.n:
        return "– (none)"
    return f"{percent(rate.share)} ({percent(rate.low)}–{percent(rate.high)}), {rate.count:,} of {rate.n:,}"


def _cost(summary: Summary) -> str:
    cost = amount(summary.cost, summary.currency)
    saving = summary.saving
    if summary.top_cost is None or saving is None:
        return f"{cost}   (no price is known for the top rung: no comparison)"
    top = amount(summary.top_cost, summary.currency)
    compared = (
        f"saved about {amount(saving, summary.currency)}"
        if saving >= 0
        else f"about {amount(-saving, summary.currency)} more"
    )
    unanswered = (
        f", {amount(summary.open_cost, summary.currency)} for the unanswered not counted"
        if summary.open_cost
        else ""
    )
    return (
        f"{cost}   all rows on the top rung would be about {top} (estimate): {compared}{unanswered}"
    )


def _time(summary: Summary) -> str:
    rate = (
        f"   {summary.rows_per_second:,.0f} rows/s" if summary.rows_per_second is not None else ""
    )
    return f"{summary.seconds:,.1f} s{rate}"
