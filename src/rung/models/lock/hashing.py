"""SHA-256 of whole files, and which of them were read since they last changed.

What was once read in full is remembered at home by the file's path, size, times and inode, for those who ask for a
quick look; a full look never trusts it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from rung.errors import ModelError, StorageError
from rung.files import write_atomically
from rung.models.fingerprint import Fingerprint, fingerprint, unchanged
from rung.models.home import home

PIECE = 4 * 1024 * 1024
"""Bytes read at once."""

_FOLDER = "digests"
_MOST = 2048  # files that are remembered; the ones read longest ago are forgotten first
_SETTLED_NS = 50_000_000  # two writes within a tick of the file system's clock can leave one time

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes in all."""


class _Known(msgspec.Struct, frozen=True):
    """A file as it was when it was read in full."""

    file: Fingerprint
    sha256: str


def hash_file(path: Path, progress: Progress = lambda done, total: None) -> str:
    """The hexadecimal SHA-256 of a file, read in full.

    Raises:
        ModelError: there is no such file, it may not be read, or something writes to it.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with unchanged([path]) as (before,), path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                done += len(piece)
                progress(done, before.size)
    except OSError as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error.strerror or error}",
            hint="check its permissions",
        ) from error
    known = _Known(before, digest.hexdigest())
    _remember(path, known)
    return known.sha256


def known_hash(path: Path) -> str | None:
    """The SHA-256 of a file that was read in full and has not changed since, as far as its size and times tell.

    Raises:
        ModelError: there is no such file, or it may not be looked at.
    """
    now = fingerprint(path)
    try:
        known = msgspec.json.decode(_place(path).read_bytes(), type=_Known)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # missing or damaged: the file will be read again
    return known.sha256 if known.file == now else None


def _remember(path: Path, known: _Known) -> None:
    """Note what was read; where home cannot be written to, the next quick look is a full one."""
    last = max(known.file.modified_ns, known.file.changed_ns)
    if time.time_ns() - last < _SETTLED_NS:
        return
    place = _place(path)
    try:
        write_atomically(place, msgspec.json.encode(known))
        _forget_oldest(place.parent)
    except (StorageError, OSError):
        return


def _forget_oldest(folder: Path) -> None:
    notes = list(folder.glob("*.json"))
    if len(notes) > _MOST:
        notes.sort(key=lambda note: note.stat().st_mtime_ns)
        for note in notes[: len(notes) - _MOST]:
            note.unlink(missing_ok=True)


def _place(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
    return home() / _FOLDER / f"{name}.json"
