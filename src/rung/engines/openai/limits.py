"""The time limits of one call: to connect, to the first token, between tokens, in total.

One timer, moved along as the call proceeds, so that the error can say which limit passed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rung.errors import EngineTimeout

_CLOSED_DOOR_S = 0.5  # a server that worked on a request before it hung up has taken longer


class Watch:
    """One timer for one call, its retries included, that knows which limit is running.

    Args:
        timer: the running timer of the `asyncio.timeout` block.
        total_s: seconds the whole call may take.

    Attributes:
        sent: loop time at which the present try went out, and so may be charged; None before.
        reused: whether the present try went over a connection that was already open.
    """

    def __init__(self, timer: asyncio.Timeout, total_s: float) -> None:
        self._timer = timer
        self._total_s = total_s
        self._ends = asyncio.get_running_loop().time() + total_s
        self._limit, self._seconds = "total", total_s
        self.sent: float | None = None
        self.reused = False

    def begin_try(self) -> None:
        """Nothing has been sent yet."""
        self.sent, self.reused = None, False

    @property
    def met_closed_door(self) -> bool:
        """Whether a hang-up now means that nobody read the request, so that it may go out again.

        A kept connection that closes at once was closing already; one that closes later may have
        been worked on.
        """
        if not self.reused:
            return False
        now = asyncio.get_running_loop().time()
        return self.sent is None or now - self.sent < _CLOSED_DOOR_S

    def expect(self, limit: str, seconds: float) -> None:
        """From now on `limit` is running; the total goes on beneath it."""
        at = asyncio.get_running_loop().time() + seconds
        self._limit, self._seconds = limit, seconds
        if self._ends <= at:
            at, self._limit, self._seconds = self._ends, "total", self._total_s
        self._timer.reschedule(at)

    def rest(self) -> None:
        """Only the total is running."""
        self.expect("total", self._total_s)

    def passed(self, where: str) -> EngineTimeout:
        """The error for the limit that was running."""
        return EngineTimeout(
            f"{where}: the {self._limit} limit of {self._seconds:g} s passed",
            hint=f"raise timeouts.{self._limit}, or let the ladder climb",
            charged=self.sent is not None,
        )


@contextlib.asynccontextmanager
async def watched(total_s: float, where: str) -> AsyncIterator[Watch]:
    """Run the block under a `Watch`.

    Raises:
        EngineTimeout: a limit passed inside the block.
    """
    watch: Watch | None = None
    try:
        async with asyncio.timeout(total_s) as timer:
            watch = Watch(timer, total_s)
            yield watch
    except TimeoutError as error:
        if watch is None or not timer.expired():
            raise
        raise watch.passed(where) from error
