"""How a running batch is shown: a bar on a terminal, a plain line every so often in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from rung.batch.progress import Progress, Silence
from rung.batch.tally import Tally
from rung.quantities import amount, counted, percent

LINE_S = 10.0
"""Seconds between two plain lines."""

RATE_S = 5.0
"""Seconds over which the rate is taken, so that the remaining time follows what is happening now."""


class Meter:
    """Rate and remaining time from the rows and the share of the input behind us."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int, float]] = []

    def measure(self, rows: int, share: float, now: float) -> tuple[float, float | None]:
        """Rows a second, and seconds left; None while nothing can be said."""
        self._marks.append((now, rows, share))
        while len(self._marks) > 2 and now - self._marks[1][0] > RATE_S:
            del self._marks[0]
        then, rows_then, share_then = self._marks[0]
        if now <= then or share <= share_then:
            return 0.0, None
        left = (1 - share) * (now - then) / (share - share_then)
        return (rows - rows_then) / (now - then), left


def facts(tally: Tally, rate: float, left: float | None) -> str:
    """Rows, rate, remaining time."""
    remaining = f"   ETA {_clock(left)}" if left is not None else ""
    return f"{counted(tally.rows)}   {rate:,.0f}/s{remaining}"


def shares(tally: Tally) -> str:
    """Who answered how much, and what it cost."""
    if not tally.asked:
        return ""
    parts = [f"{name} {percent(rung.answered / tally.asked)}" for name, rung in tally.rungs.items()]
    parts.append(f"review {percent(tally.abstained / tally.asked)}")
    rejected = sum(tally.rejected.values())
    if rejected:
        parts.append(f"rejected {rejected:,}")
    return f"{'   '.join(parts)}   {amount(tally.cost, tally.currency)} so far"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class PlainProgress:
    """One line every ten seconds on standard error."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._next = time.monotonic() + LINE_S

    def begin(self, run: str, row: int) -> None:
        """Say so when a run is taken up again."""
        if row:
            click.echo(resuming(run, row), err=True)

    def update(self, tally: Tally, share: float) -> None:
        """Print a line when it is time for one."""
        now = time.monotonic()
        rate, left = self._meter.measure(tally.rows, share, now)
        if now >= self._next:
            self._next = now + LINE_S
            line = f"{percent(share, 0)}   {facts(tally, rate, left)}   {shares(tally)}"
            click.echo(line, err=True)

    def warn(self, message: str) -> None:
        """Print a warning at once."""
        click.echo(f"warning: {message}", err=True)


class BarProgress:
    """A bar with rate, remaining time, shares and cost, on a terminal's standard error."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=1.0, facts="", shares="")
        self._meter = Meter()

    def begin(self, run: str, row: int) -> None:
        """Say so when a run is taken up again."""
        if row:
            self._bar.console.print(resuming(run, row), highlight=False)

    def update(self, tally: Tally, share: float) -> None:
        """Move the bar."""
        rate, left = self._meter.measure(tally.rows, share, time.monotonic())
        self._bar.update(
            self._task, completed=share, facts=facts(tally, rate, left), shares=shares(tally)
        )

    def warn(self, message: str) -> None:
        """Print a warning above the bar."""
        self._bar.console.print(f"warning: {message}", highlight=False, markup=False)


def resuming(run: str, row: int) -> str:
    """That a run goes on."""
    return f"resuming behind row {row:,} (run {run})"


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal, plain lines in a pipe, nothing but warnings when `quiet`."""
    console = Console(stderr=True)
    if quiet:
        yield WarningsOnly()
    elif not console.is_terminal:
        yield PlainProgress()
    else:
        columns = (
            BarColumn(),
            TextColumn("{task.fields[facts]}\n  {task.fields[shares]}", markup=False),
        )
        with ProgressBar(*columns, console=console, transient=True) as bar:
            yield BarProgress(bar)


class WarningsOnly(Silence):
    """For programs: nothing but what a person should know, on standard error."""

    def warn(self, message: str) -> None:
        """Print a warning at once."""
        click.echo(f"warning: {message}", err=True)
