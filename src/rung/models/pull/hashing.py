"""SHA-256 of files that are on this machine, read in another thread, where a stop is heeded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rung.errors import ModelError
from rung.models.lock.hashing import PIECE, hash_file

if TYPE_CHECKING:
    from hashlib import _Hash


async def sha256_of(path: Path, progress: Callable[[int, int], None]) -> str:
    """SHA-256 of a whole file, in hexadecimal digits.

    Args:
        path: the file.
        progress: told the bytes read and the bytes in all, in another thread.

    Raises:
        ModelError: it cannot be read, or something writes to it.
    """
    stopped = threading.Event()

    def heeding(done: int, total: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        progress(done, total)

    try:
        return await asyncio.to_thread(hash_file, path, heeding)
    except asyncio.CancelledError:
        stopped.set()
        raise


async def hash_start(digest: _Hash, path: Path, size: int) -> None:
    """Feed the first `size` bytes of an unfinished file to `digest`.

    Raises:
        ModelError: it cannot be read, or is shorter.
    """
    try:
        with path.open("rb") as file:
            left = size
            while left:
                piece = await asyncio.to_thread(file.read, min(PIECE, left))
                if not piece:
                    raise ModelError(
                        f"{str(path)!r} became shorter while it was read",
                        hint="run it again when nothing else writes the file",
                    )
                await asyncio.to_thread(digest.update, piece)
                left -= len(piece)
    except OSError as error:
        raise ModelError(
            f"{str(path)!r} cannot be read: {error.strerror or error}",
            hint="check its permissions",
        ) from error


class _StoppedError(Exception):
    """Ends a thread whose result nobody waits for any more."""
