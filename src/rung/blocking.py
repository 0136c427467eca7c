"""The one blocking form of everything async: run a coroutine on a private loop's thread and wait.

Works where a loop is already running (a notebook), because the private loop is another thread's. The thread starts
on first use, never at import.
"""

from __future__ import annotations

import asyncio
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
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
