"""The one blocking form of everything async: run a coroutine on a private loop's thread and wait.

Works where a loop is already running (a notebook), because the private loop is another thread's. The thread starts
on first use, never at import.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")


class _Loop:
    """One event loop on one daemon thread, started when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="rung-blocking", daemon=True
                ).start()
            return self._loop


_LOOP = _Loop()


def run_blocking(work: Coroutine[object, object, Result]) -> Result:
    """Run `work` to its end and return its result.

    Everything passed through here shares one loop, so a ladder opened with `run_blocking` can be used with it
    again. Ctrl-C cancels the work and waits for its clean-up.

    Raises:
        RuntimeError: called from the private loop itself, where waiting would never end.
    """
    loop = _LOOP.get()
    if _running_loop() is loop:
        work.close()
        raise RuntimeError("run_blocking was called from inside run_blocking; await instead")
    started: list[asyncio.Task[Result]] = []

    async def watched() -> Result:
        started.append(asyncio.ensure_future(work))
        return await started[0]

    future = asyncio.run_coroutine_threadsafe(watched(), loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        # The future itself must not be cancelled: it would be done before the work has cleaned up.
        loop.call_soon_threadsafe(lambda: started and started[0].cancel())
        # A thread's future ends in its own kind of cancellation, which is not the loop's.
        with contextlib.suppress(asyncio.CancelledError, concurrent.futures.CancelledError):
            future.result()
        raise


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
