"""The folder of a model's sockets: ours alone, with a path short enough for a socket."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from rung.errors import EngineUnavailable

_SOCKET_PATH_BYTES = 100  # the kernel takes 104 to 108 with the final zero
_LONGEST_NAME = "/999999.sock"


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
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108  # mkdtemp makes it private
        if (
            len(os.fsencode(parent)) + len("/rung-12345678") + len(_LONGEST_NAME)
            > _SOCKET_PATH_BYTES
        ):
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="rung-", dir=parent))
        except OSError:
            continue
    raise EngineUnavailable(
        f"no folder for the engine's socket can be made in {tempfile.gettempdir()!r}",
        hint="set TMPDIR to a folder with a short path that can be written to",
    )
