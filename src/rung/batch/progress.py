"""What a batch tells while it runs. How it is shown is the command line's business."""

from __future__ import annotations

from typing import Protocol

from rung.batch.tally import Tally


class Progress(Protocol):
    """Somebody who wants to know how a batch is getting on; called often, from the event loop."""

    def begin(self, run: str, row: int) -> None:
        """A run begins or, behind a `row` above 0, is taken up again."""
        ...

    def update(self, tally: Tally, share: float) -> None:
        """So much has been written; `share` of the input's bytes lies behind it."""
        ...

    def warn(self, message: str) -> None:
        """Something that a person should know now."""
        ...


class Silence:
    """Nobody wants to know."""

    def begin(self, run: str, row: int) -> None:
        """Say nothing."""

    def update(self, tally: Tally, share: float) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""
