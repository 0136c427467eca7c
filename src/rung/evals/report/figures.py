"""How the report writes figures: shares with their interval and count, times.

One place, so that a figure reads the same in a tile, a table and a chart.
"""

from __future__ import annotations

from rung.evals.metrics import INTERVAL_CONFIDENCE
from rung.quantities import percent_number
from rung.trust.bounds import interval

MISSING = "–"


def count(number: int) -> str:
    """A count with its thousands apart: `3,080`."""
    return f"{number:,}"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage that no line break tears apart: `88.1 %`."""
    return f"{percent_number(share, digits)}\N{NO-BREAK SPACE}%"


def span(low: float, high: float, digits: int = 1) -> str:
    """An interval of shares: `2.8–4.2 %`."""
    return f"{percent_number(low, digits)}–{percent(high, digits)}"


def rate_interval(hits: int, rows: int) -> tuple[float, float]:
    """The exact 95 % interval of `hits` in `rows`."""
    low, high = interval(hits, rows, INTERVAL_CONFIDENCE)
    return float(low), float(high)


def rate(hits: int, rows: int) -> str:
    """A measured share: `3.4 %`, or a dash where there were no rows."""
    return percent(hits / rows) if rows else MISSING


def rate_evidence(hits: int, rows: int) -> str:
    """What stands behind a measured share: `95 % interval 2.8–4.2 %, 92 of 2,713`."""
    if not rows:
        return "no rows"
    return (
        f"{percent(INTERVAL_CONFIDENCE, 0)} interval {span(*rate_interval(hits, rows))}, "
        f"{count(hits)} of {count(rows)}"
    )


def rate_cell(hits: int, rows: int) -> str:
    """A measured share with its evidence in one table cell: `3.4 % (2.8–4.2 %)`."""
    return f"{rate(hits, rows)} ({span(*rate_interval(hits, rows))})" if rows else MISSING


def duration_ms(milliseconds: float) -> str:
    """A short time in the unit that suits it: `42 µs`, `3.1 ms`, `2.5 s`."""
    for limit, factor, unit in ((1.0, 1e3, "µs"), (1e3, 1.0, "ms")):
        if milliseconds < limit:
            return f"{milliseconds * factor:.3g}\N{NO-BREAK SPACE}{unit}"
    return (
        f"{milliseconds / 1e3:,.3g}\N{NO-BREAK SPACE}s"
        if milliseconds < 1e6
        else seconds(milliseconds / 1e3)
    )


def seconds(value: float) -> str:
    """A longer time: `0.31 s`, `12 s`, `4 min 10 s`, `2 h 3 min`."""
    if value < 60:
        return f"{value:.2g}\N{NO-BREAK SPACE}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def speed(rows_per_second: float) -> str:
    """Rows in a second, as many digits as mean something: `24,100`, `310`, `2.4`."""
    if rows_per_second < 10:
        return f"{rows_per_second:.2g}"
    digits = len(str(int(rows_per_second))) - 3
    return f"{round(rows_per_second, -max(digits, 0)):,.0f}"
