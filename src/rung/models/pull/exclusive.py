"""One process at a time: an advisory lock on a file, which goes with the process that holds it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rung.files import storage_error

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOOK_AGAIN_S = 0.2
_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}


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
        _release(path, descriptor)


def _release(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):  # Windows keeps open files: then it stays, empty
        path.unlink()
    os.close(descriptor)


def _try(path: Path) -> int | None:
    """An open descriptor that holds the lock, None when another one does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        _lock(descriptor)
        # The holder before us may have removed the file that was opened here; then it keeps nobody out.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in _TAKEN:
            os.close(descriptor)
            raise storage_error(path, error) from error
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
