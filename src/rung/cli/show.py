"""How verbs show what a longer piece of work is doing: on a terminal only, never in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.status import Status


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
