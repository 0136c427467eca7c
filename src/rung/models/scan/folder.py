"""The files below a folder, and what their names and links give away before anything is read.

A link may lead to another place within the folder. One that leads out, and a second name of a file that lies outside
(a hard link), is blocked: what it leads to can be changed by somebody who may not write here. Two are as they should
be: the cache of Hugging Face, which keeps files in `blobs` beside `snapshots`, and pinned files that lie in another
program's store, whose digest is known.
"""

from __future__ import annotations

import collections
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from rung.models.scan.report import Finding, shown

MOST_FILES = 20_000
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
)  # fmt: skip
_FORBIDDEN = frozenset('\\:*?"<>|')


class Entry(msgspec.Struct, frozen=True):
    """Something in a folder.

    Attributes:
        path: of it.
        name: its path from the folder on, to be shown.
        readable: whether its content is to be looked at.
        findings: why it is blocked whatever it holds.
    """

    path: Path
    name: str
    readable: bool
    findings: tuple[Finding, ...] = ()


def entries(folder: Path, pinned: Collection[Path] = ()) -> tuple[Entry, ...]:
    """Everything below a folder that is no folder, sorted by name.

    Args:
        folder: to be looked through.
        pinned: files in it that may be links, by their paths, resolved but for the last part.
    """
    root = folder.resolve()
    paths = list(_paths(folder))
    names = collections.Counter(_identity(path) for path in paths)
    found = [
        _pinned(path, folder)
        if root / path.relative_to(folder) in pinned and path.is_file()
        else _entry(path, folder, root, names)
        for path in sorted(paths[:MOST_FILES])
    ]
    if len(paths) > MOST_FILES:
        what = f"more than {MOST_FILES:,} files, which are not looked at"
        found.append(Entry(folder, str(folder), False, (Finding("too-many", what, "folder"),)))
    return tuple(found)


def _paths(folder: Path) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        refused.append(Path(error.filename))

    refused: list[Path] = []
    count = 0
    for place, folders, files in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            yield Path(place) / name
            count += 1
        if count > MOST_FILES:
            return
    yield from refused


def _identity(path: Path) -> tuple[int, int]:
    try:
        facts = path.lstat()
    except OSError:
        return 0, 0
    return facts.st_dev, facts.st_ino


def _pinned(path: Path, folder: Path) -> Entry:
    return Entry(path, shown(path.relative_to(folder).as_posix()), readable=True)


def _entry(
    path: Path, folder: Path, root: Path, names: collections.Counter[tuple[int, int]]
) -> Entry:
    found = list(_of_name(path.relative_to(folder)))
    name = shown(path.relative_to(folder).as_posix())
    try:
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            found += _of_link(path, root)
            target = path.stat()
            return Entry(path, name, stat.S_ISREG(target.st_mode) and not found, tuple(found))
    except OSError as error:
        what = f"a name that leads nowhere: {error.strerror}"
        return Entry(path, name, False, (*found, Finding("unreadable", what, "name")))
    if stat.S_ISDIR(facts.st_mode):
        return Entry(path, name, False, (Finding("unreadable", "a folder that cannot be read", "name"),))  # fmt: skip
    if not stat.S_ISREG(facts.st_mode):
        what = "no regular file but a pipe, a socket or a device"
        return Entry(path, name, False, (*found, Finding("special-file", what, "name")))
    if facts.st_nlink > names[_identity(path)]:
        what = "a file that has another name outside the folder (a hard link)"
        found.append(Finding("hard-link", what, "name"))
    return Entry(path, name, True, tuple(found))


def _of_link(path: Path, root: Path) -> Iterator[Finding]:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        yield Finding("link-broken", "a link that leads nowhere", "name")
        return
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root
    if not (target.is_relative_to(root) or target.parent == blobs):
        what = f"a link that leads out of the folder, to {shown(str(target), 120)!r}"
        yield Finding("link-outside", what, "name")


def _of_name(path: Path) -> Iterator[Finding]:
    for part in path.parts:
        device = part.split(".")[0].lower() in _DEVICES
        odd = not part.isprintable() or _FORBIDDEN & set(part) or part.endswith((".", " "))
        if device or odd:
            what = f"a name that means something else elsewhere, or hides something: {shown(part, 80)!r}"
            yield Finding("file-name", what, "name")
            return
