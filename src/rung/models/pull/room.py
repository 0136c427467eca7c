"""Whether the disk has room for what is missing, asked before the first byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from rung.errors import StorageError

MARGIN = 64 * 1024 * 1024
"""Bytes that stay free, for what other programs write meanwhile."""


def check_room(folder: Path, missing: Iterable[int]) -> None:
    """Refuse to begin what would fill the disk.

    Args:
        folder: that the files are going to; it need not exist.
        missing: bytes still to come, of each file.

    Raises:
        StorageError: there is too little room.
    """
    needed = sum(missing)
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(place).free
    if needed and free < needed + MARGIN:
        raise StorageError(
            f"{needed / 1e6:,.1f} MB are to be fetched and {str(place)!r} has {free / 1e6:,.1f} MB free",
            hint="free some space, or choose a smaller model: rung pick",
        )
