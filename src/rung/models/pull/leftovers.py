"""Unfinished files that nobody goes on with: of a model that was fetched otherwise, or all, when a person says so."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from rung.exclusive import let_go, take
from rung.files import storage_error
from rung.models.pull.partial import FOLDER, read_record

_ENDINGS = (".part", ".json", ".link", ".lock")


class Removed(msgspec.Struct, frozen=True):
    """What was removed.

    Attributes:
        files: unfinished files.
        size: their bytes.
        held: unfinished files that another process is fetching, and that were left to it.
    """

    files: int = 0
    size: int = 0
    held: int = 0


def remove_all(folder: Path) -> Removed:
    """Remove the unfinished files of a folder and of those below it that no process is fetching.

    Raises:
        StorageError: they cannot be removed.
    """
    found = [remove_leftovers(place.parent) for place in sorted(folder.rglob(FOLDER))]
    return Removed(
        files=sum(each.files for each in found),
        size=sum(each.size for each in found),
        held=sum(each.held for each in found),
    )


def remove_leftovers(
    folder: Path, *, source: str | None = None, keep: Collection[str] = ()
) -> Removed:
    """Remove unfinished files that no process is fetching.

    Args:
        folder: that finished files go to.
        source: reference of the model whose files are meant, None for all there are.
        keep: keys of files that the caller itself holds.

    Raises:
        StorageError: they cannot be removed.
    """
    files = size = held = 0
    place = folder / FOLDER
    try:
        for key in _keys(place):
            if key in keep or not _is_of(place / f"{key}.json", source):
                continue
            lock = place / f"{key}.lock"
            descriptor = take(lock)
            if descriptor is None:
                held += 1
                continue
            try:
                gone = _remove(place, key)
            finally:
                let_go(lock, descriptor)
            files, size = files + (gone is not None), size + (gone or 0)
    except OSError as error:
        raise storage_error(place, error) from error
    return Removed(files, size, held)


def _keys(place: Path) -> Iterator[str]:
    if place.is_dir():
        yield from sorted({path.stem for path in place.iterdir() if path.suffix in _ENDINGS})


def _is_of(record: Path, source: str | None) -> bool:
    if source is None:
        return True
    found = read_record(record)
    return found is not None and found.source == source


def _remove(place: Path, key: str) -> int | None:
    """Remove what is of a key; gives the bytes of the unfinished file, None where there was none."""
    part = place / f"{key}.part"
    size = part.lstat().st_size if part.exists() or part.is_symlink() else None
    for ending in (".part", ".link", ".json"):
        (place / f"{key}{ending}").unlink(missing_ok=True)
    return size
