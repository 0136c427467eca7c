"""What the demo says of one routed task: lines for people, facts for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rung.batch.output import read_output
from rung.batch.summary import RungSummary, Summary
from rung.quantities import amount, percent
from rung.trust.bounds import interval
from rung.trust.certificate import Certificate


class Routed(NamedTuple):
    """The test rows at one target: what was promised, what came out, and how much of that was wrong."""

    certificate: Certificate
    summary: Summary
    output: Path
    wrong: int


def told(routed: Routed) -> str:
    """One routed run in the terminal."""
    summary, certificate = routed.summary, routed.certificate
    low, high = interval(routed.wrong, summary.answered)
    rate = f"{summary.rows_per_second:,.0f}/s" if summary.rows_per_second else ""
    held = held_back_cost(routed)
    frontier = (
        f"   a frontier model would cost about {amount(held, summary.currency)}" if held else ""
    )
    share = percent(summary.abstained / summary.rows)
    return "\n".join(
        [
            f"route     {summary.task}: {summary.rows:,} new rows at {percent(certificate.max_error)}      {rate}",
            *(_rung(rung) for rung in summary.rungs),
            f"          {'review':<9}{summary.abstained:>8,}  {share:>6}{frontier}",
            f"          wrong among answered   {percent(routed.wrong / max(summary.answered, 1))} "
            f"({percent(float(low))}–{percent(float(high))})   "
            + (
                f"certified: at most {percent(certificate.max_error)}, {percent(certificate.confidence)} confidence"
                if certificate.sets[0].certified
                else "not certified"
            ),
        ]
    )


def _rung(rung: RungSummary) -> str:
    took = f"{rung.mean_ms:.3g} ms each" if rung.mean_ms is not None else "not asked"
    return f"          {rung.name:<9}{rung.answered:>8,}  {percent(rung.share):>6}   {took}, on this device"


def held_back_cost(routed: Routed) -> int:
    """Estimated nano-units for the rows that were held back, on a frontier model."""
    return sum(row.top_cost or 0 for row in read_output(routed.output) if row.rung is None)


def facts(task: list[Routed]) -> dict[str, Any]:
    """One task's facts: the headline's on top, every target's under `targets`."""
    each = {f"{one.certificate.max_error:g}": _fact(one) for one in task}
    return {**_fact(task[0]), "targets": each}


def _fact(routed: Routed) -> dict[str, Any]:
    summary, statement = routed.summary, routed.certificate.sets[0]
    low, high = interval(routed.wrong, summary.answered)
    return {
        "rows": summary.rows,
        "answered_on_device": summary.answered_on_device,
        "answered_by": {rung.name: rung.answered for rung in summary.rungs},
        "abstained": summary.abstained,
        "certified_error": routed.certificate.max_error if statement.certified else None,
        "confidence": routed.certificate.confidence,
        "measured_error": routed.wrong / summary.answered if summary.answered else None,
        "measured_error_low": float(low),
        "measured_error_high": float(high),
        "coverage": summary.answered / summary.rows,
        "certified_coverage": statement.coverage,
        "rows_per_second": summary.rows_per_second,
        "certificate": routed.certificate.id,
    }
