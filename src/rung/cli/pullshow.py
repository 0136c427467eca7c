"""What `rung pull` shows while it works: a line a step, and a bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import click

from rung.cli.modeltext import byte_progress, size
from rung.cli.pulltext import resolve_line
from rung.models.pull.events import (
    Changed,
    Event,
    Fetching,
    Hashing,
    Here,
    Linked,
    Restarted,
    Resumed,
    Retrying,
    Settled,
    Waiting,
)


class Show:
    """Turns what a pull tells into lines. Use as a context manager.

    Args:
        name: of the model, for the bar.
        quiet: show only what may explain a wait.
    """

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._quiet = quiet
        self._stack = ExitStack()
        self._done: dict[str, int] = {}
        self._total = 0
        self._bar: Callable[[int, int], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def tell(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Settled():
                self._total = sum(file.size or 0 for file in event.resolved.files)
                if not self._quiet:
                    click.echo(resolve_line(event))
            case Fetching() | Hashing():
                self._done[event.name] = event.done
                self._advance()
            case Waiting():
                self._say(f"another process is fetching {event.name}; waiting for it")
            case Retrying():
                self._say(
                    f"{event.why}; {size(event.have)} are here, next attempt in {event.pause_s:g} s"
                )
            case Resumed():
                self._say(f"{event.name} goes on from {size(event.have)}")
            case Restarted():
                self._say(f"{event.name} begins again: {event.why}")
            case Changed():
                self._say(
                    f"{event.name} became another file at its source meanwhile; what came counts"
                )
            case Linked():
                how = "a symbolic link to" if event.symbolic else "linked, not copied, with"
                self._say(f"{event.name} is {how} the file of {event.store}")
            case Here():
                self._say(f"{event.name} is here already")

    def _advance(self) -> None:
        if self._bar is None:
            self._bar = self._stack.enter_context(byte_progress(self._name, quiet=self._quiet))
        done = sum(self._done.values())
        self._bar(done, max(self._total, done))

    def _say(self, line: str) -> None:
        click.echo(f"note: {line}", err=True)
