"""How verbs show things: money and shares as people read them, and what a longer piece of work is doing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.status import Status

from rung.receipt import NANO

SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def amount(nano: int, currency: str) -> str:
    """An amount with two digits that count: `$0.00`, `$0.31`, `$0.00094`."""
    value = nano / NANO
    digits = 2
    while 0 < value < 10 ** -(digits - 1) and digits < 9:
        digits += 1
    sign = SIGNS.get(currency)
    return f"{sign}{value:,.{digits}f}" if sign else f"{value:,.{digits}f} {currency}"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage without idle zeros: `5 %`, `88.1 %`."""
    text = f"{share * 100:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


class Stages:
    """Tells a person at a terminal which stage of a longer piece of work is running."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._started = time.perf_counter()

    def begin(self, name: str) -> None:
        """A new stage begins."""
        if self._status is not None:
            self._status.update(f"{name} …")

    @property
    def seconds(self) -> float:
        """Wall time since the work began."""
        return time.perf_counter() - self._started


@contextmanager
def stages(*, quiet: bool) -> Iterator[Stages]:
    """A spinner on a terminal's standard error; nothing in a pipe or when `quiet`."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Stages(None)
        return
    with console.status("starting …") as status:
        yield Stages(status)


class Counter:
    """Rows done of rows in all, rung by rung, for a person at a terminal."""

    def __init__(self, bar: ProgressBar | None) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def advance(self, name: str, done: int, total: int) -> None:
        """`done` of `total` rows went through `name`."""
        if self._bar is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total)
        self._bar.update(self._tasks[name], completed=done, total=total)


@contextmanager
def counter(*, quiet: bool) -> Iterator[Counter]:
    """A bar with rate and remaining time on a terminal's standard error; nothing in a pipe or when `quiet`."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Counter(None)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=console, transient=True) as bar:
        yield Counter(bar)
