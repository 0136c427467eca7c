"""Who decides which models may be in memory together, as a supervisor sees it."""

from __future__ import annotations

import sys
from typing import Protocol


class Admission(Protocol):
    """Makes room for a model before it is loaded."""

    async def admit(self, model: str, needed: int) -> None:
        """Return once there is room.

        Args:
            model: name for messages.
            needed: estimated bytes.

        Raises:
            EngineUnavailable: it never fits.
            EngineOverloaded: the models that are in use leave no room.
        """
        ...

    def most(self) -> int:
        """Bytes that one model may ever take."""
        ...

    def changed(self) -> None:
        """A lease ended or a child is gone: there may be room."""
        ...


class Anywhere:
    """Admits everything: for a supervisor on its own."""

    async def admit(self, model: str, needed: int) -> None:
        """There is nothing to weigh."""

    def most(self) -> int:
        """Any number."""
        return sys.maxsize

    def changed(self) -> None:
        """Nobody waits."""
