"""The time limits of one request: to the first token, between tokens, in total.

Each wait is limited on its own, so that the time a caller takes over what it was given counts against nothing but the
total, and no timer runs while the caller does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

from rung.config import Timeouts
from rung.errors import EngineTimeout

T = TypeVar("T")


class Patience:
    """The clock of one request, from its start.

    Args:
        timeouts: the rung's.
        total_s: a limit that the request brings; None for the rung's own.
        who: who is waited for, for messages.
    """

    def __init__(self, timeouts: Timeouts, total_s: float | None, who: str) -> None:
        self._timeouts = timeouts
        self._total_s = min(timeouts.total, math.inf if total_s is None else total_s)
        self._who = who
        self._loop = asyncio.get_running_loop()
        self.started = self._loop.time()
        self._limit, self._seconds = "first_token", timeouts.first_token
        self._ends = self.started + self._seconds

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the start."""
        return (self._loop.time() - self.started) * 1000

    def progress(self) -> None:
        """A token came: from now on the limit between two of them runs."""
        self._limit, self._seconds = "between_tokens", self._timeouts.between_tokens
        self._ends = self._loop.time() + self._seconds

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """What is awaited, when it comes in time.

        Raises:
            EngineTimeout: it does not; says which limit passed.
        """
        limit, seconds, ends = self._limit, self._seconds, self._ends
        if self.started + self._total_s < ends:
            limit, seconds, ends = "total", self._total_s, self.started + self._total_s
        timer = asyncio.timeout_at(ends)
        try:
            async with timer:
                return await awaitable
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise EngineTimeout(
                f"{self._who}: the {limit} limit of {seconds:g} s passed",
                hint=f"raise timeouts.{limit}, or let the ladder climb",
            ) from error
