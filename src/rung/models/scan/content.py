"""One open file, read piecewise and never beyond a bound; what the bytes mean is for the modules beside it.

Nothing is mapped into memory: a mapped file that someone shortens would end the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

PIECE = 1024 * 1024
"""Bytes that are looked at at once, where that saves memory."""
_HEAD = 4096


class Content:
    """The bytes of an open file.

    Args:
        descriptor: of a regular file; it stays the caller's to close.

    Attributes:
        size: in bytes, when it was opened.
        path: for readers that want one; it leads to the open file, whatever its name leads to by now.
        head: the first 4 KiB.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.path = Path(f"/dev/fd/{descriptor}")
        self.size = os.fstat(descriptor).st_size
        self.head = self.at(0, _HEAD)

    def at(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from `start`; fewer only where the file ends."""
        pieces = []
        while count > 0 and start < self.size:
            piece = os.pread(self._descriptor, min(count, self.size - start), start)
            if not piece:
                break
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def reader(self) -> Callable[[int], bytes]:
        """A function that gives the next bytes, from the file's start."""
        at = 0

        def read(count: int) -> bytes:
            nonlocal at
            piece = self.at(at, count)
            at += len(piece)
            return piece

        return read
