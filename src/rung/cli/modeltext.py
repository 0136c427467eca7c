"""How verbs that handle model files show sizes and work on bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def size(number: int) -> str:
    """Bytes as people read them, in decimal units: `812 B`, `13.4 MB`, `4.68 GB`."""
    if number < 1000:
        return f"{number} B"
    for unit, power in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if number < power * 1000 or unit == "GB":
            value = number / power
            break
    return f"{value:.2f} {unit}" if value < 10 else f"{value:,.1f} {unit}"


@contextmanager
def byte_progress(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar with bytes, rate and remaining time on a terminal's standard error; nothing in a pipe or when `quiet`.

    Yields:
        A function to be told the bytes done and the bytes in all.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
