"""The folder of a model's sockets: ours alone, with a path short enough for a socket.

Its name says who made it, so that whoever comes next removes what a killed process left.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import weakref
from pathlib import Path

from rung.errors import EngineUnavailable

_SOCKET_PATH_BYTES = 100  # the kernel takes 104 to 108 with the final zero
_LONGEST_NAME = "/rung-123456-7fffffff-7fffffffff-12345678/999999.sock"
_OWNED = re.compile(r"rung-([0-9a-f]{6})-([0-9a-f]+)-([0-9a-f]+)-\w{8}")


class SocketFolder:
    """Made when first needed, removed with this object at the latest."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def path(self) -> Path:
        """The folder.

        Raises:
            EngineUnavailable: none can be made.
        """
        if self._path is None or not self._path.is_dir():
            self._path = _make()
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        return self._path

    def remove(self) -> None:
        """Remove the folder and what is in it; a later `path` makes another."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


def _make() -> Path:
    """A new folder that only this user may enter."""
    place, started = _place(), _started(os.getpid())
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108  # mkdtemp makes it private
        if len(os.fsencode(parent)) + len(_LONGEST_NAME) > _SOCKET_PATH_BYTES:
            continue
        _sweep(Path(parent), place)
        try:
            return Path(
                tempfile.mkdtemp(
                    prefix=f"rung-{place}-{os.getpid():x}-{started or 0:x}-", dir=parent
                )
            )
        except OSError:
            continue
    raise EngineUnavailable(
        f"no folder for the engine's socket can be made in {tempfile.gettempdir()!r}",
        hint="set TMPDIR to a folder with a short path that can be written to",
    )


def _sweep(parent: Path, place: str) -> None:
    """Remove the folders of this user's processes that are gone; what cannot be judged stays."""
    try:
        found = list(parent.iterdir())
    except OSError:
        return
    for folder in found:
        owned = _OWNED.fullmatch(folder.name)
        if owned is None or owned[1] != place or int(owned[3], 16) == 0:
            continue
        if _started(int(owned[2], 16)) == int(owned[3], 16):
            continue
        try:
            facts = folder.lstat()
        except OSError:
            continue  # another process swept too
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


def _place() -> str:
    """Tells process numbers of different machines and containers apart, where they share a folder."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        space = os.fsencode(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, space = b"", b""  # no Linux
    return hashlib.blake2s(boot + space, digest_size=3).hexdigest()


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's own count; None for one that is gone, and where it cannot be told."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(facts.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
