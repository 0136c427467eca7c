"""One fetch at a time: waiting, without holding up anything else, until nobody else holds a lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rung.exclusive import let_go, take
from rung.files import storage_error

_LOOK_AGAIN_S = 0.2


@asynccontextmanager
async def exclusively(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock `path`, a file that is there only while somebody holds it.

    Args:
        path: of the lock; its folder exists.
        on_wait: called once when another process holds it.

    Raises:
        StorageError: the file cannot be made, or its file system has no locks.
    """
    descriptor = _try(path)
    if descriptor is None:
        on_wait()
    while descriptor is None:
        await asyncio.sleep(_LOOK_AGAIN_S)
        descriptor = _try(path)
    try:
        yield
    finally:
        let_go(path, descriptor)


def _try(path: Path) -> int | None:
    try:
        return take(path)
    except OSError as error:
        raise storage_error(path, error) from error
