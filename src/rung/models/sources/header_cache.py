"""Headers that were read over the network, kept for the next time under what identifies the file for good.

Each is kept with its own digest: what was damaged since is not used. The oldest go when there are too many.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rung.errors import StorageError
from rung.files import write_atomically
from rung.models.home import home

MOST_FILES = 200
MOST_BYTES = 512 * 1024 * 1024

_MOST_LINE = 512


class _Front(msgspec.Struct, frozen=True):
    """The first line of a kept header: the size of the file it is of, and the digest of the bytes that follow."""

    size: int
    sha256: str


class HeaderCache:
    """The kept headers.

    Args:
        folder: where they lie; made when the first is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or home() / "headers"

    def find(self, identity: str) -> tuple[int, bytes] | None:
        """The size of a file and its first bytes, None when they are not kept or were damaged.

        Args:
            identity: what stands for the file's very bytes.
        """
        try:
            line, _, content = self._path(identity).read_bytes().partition(b"\n")
            front = msgspec.json.decode(line[:_MOST_LINE], type=_Front)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        sound = hashlib.sha256(content).hexdigest() == front.sha256
        return (front.size, content) if sound else None

    def keep(self, identity: str, size: int, content: bytes) -> None:
        """Keep the first bytes of a file; where nothing can be written, nothing is kept."""
        front = _Front(size, hashlib.sha256(content).hexdigest())
        with contextlib.suppress(StorageError):  # what is kept saves time and nothing else
            write_atomically(
                self._path(identity), msgspec.json.encode(front) + b"\n" + content, mode=0o600
            )
            self._make_room()

    def _path(self, identity: str) -> Path:
        return self._folder / f"{hashlib.sha256(identity.encode()).hexdigest()}.header"

    def _make_room(self) -> None:
        """Remove the oldest until the rest is few and small enough."""
        newest = sorted(self._kept(), reverse=True)
        total = 0
        for number, (_, size, path) in enumerate(newest, start=1):
            total += size
            if number > MOST_FILES or total > MOST_BYTES:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _kept(self) -> Iterator[tuple[int, int, Path]]:
        for path in self._folder.glob("*.header"):
            with contextlib.suppress(OSError):  # another process may have removed it
                facts = path.stat()
                yield facts.st_mtime_ns, facts.st_size, path
