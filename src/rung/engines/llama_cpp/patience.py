"""The time limits of one call: to the first token, between tokens, in total.

The total runs from where the call comes in, whatever it waits for; the others from where the model is asked. Each wait
is limited on its own, so that the time a caller takes over what it was given counts against nothing but the total, and
no timer runs while the caller does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from rung.config import Timeouts
from rung.errors import EngineError, EngineTimeout

T = TypeVar("T")


class Deadline:
    """The total limit of one call, from now on.

    Args:
        timeouts: the rung's.
        total_s: a limit that the call brings; None for the rung's own.
        who: who is waited for, for messages.
    """

    def __init__(self, timeouts: Timeouts, total_s: float | None, who: str) -> None:
        self.who = who
        self.seconds = min(timeouts.total, math.inf if total_s is None else total_s)
        self.ends = asyncio.get_running_loop().time() + self.seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 when it has passed."""
        return max(0.0, self.ends - asyncio.get_running_loop().time())

    def passed(self) -> EngineTimeout:
        """The error for a wait that the limit ended."""
        return too_late(self.who, "total", self.seconds)

    @contextlib.asynccontextmanager
    async def bounded(
        self, late: Callable[[Deadline], EngineError] | None = None
    ) -> AsyncIterator[None]:
        """Wait inside for no longer than is left.

        Args:
            late: makes the error; None for an `EngineTimeout`.

        Raises:
            EngineError: the limit passed.
        """
        timer = asyncio.timeout_at(self.ends)
        try:
            async with timer:
                yield
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise (self.passed() if late is None else late(self)) from error


class Patience:
    """The clock of one request to the model, from its start.

    Args:
        timeouts: the rung's.
        deadline: of the whole call.
    """

    def __init__(self, timeouts: Timeouts, deadline: Deadline) -> None:
        self._timeouts = timeouts
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._limit, self._seconds = "first_token", timeouts.first_token
        self._ends = self._started + self._seconds

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the start."""
        return (self._loop.time() - self._started) * 1000

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
        if self._deadline.ends < ends:
            limit, seconds, ends = "total", self._deadline.seconds, self._deadline.ends
        timer = asyncio.timeout_at(ends)
        try:
            async with timer:
                return await awaitable
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise too_late(self._deadline.who, limit, seconds) from error


def too_late(who: str, limit: str, seconds: float) -> EngineTimeout:
    """The error for a limit that passed."""
    return EngineTimeout(
        f"{who}: the {limit} limit of {seconds:g} s passed",
        hint=f"raise timeouts.{limit}, or let the ladder climb",
    )
