"""One process at a time: advisory locks of the operating system, which go with the process that holds them.

Here are the steps; how long to wait, and what to say meanwhile, is for those who take them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_FAR = 1 << 62
"""Byte that is locked on Windows, where a lock keeps out readers of the same bytes."""


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False where another descriptor holds it.

    Raises:
        OSError: its file system has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def take(path: Path) -> int | None:
    """Hold the lock `path`, a file that is there only while somebody holds it.

    Args:
        path: of the lock; its folder exists.

    Returns:
        What `let_go` wants, None where another one holds it.

    Raises:
        OSError: the file cannot be made, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        # The holder before us may have removed the file that was opened here; then it keeps nobody out.
        if lock(descriptor) and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def let_go(path: Path, descriptor: int) -> None:
    """Let the next one have the lock that `take` gave."""
    with contextlib.suppress(OSError):  # Windows keeps open files: then it stays, empty
        path.unlink()
    os.close(descriptor)
