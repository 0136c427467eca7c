"""Making a checked file visible: whole, durable, and in the place of nothing that somebody else put there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rung.errors import InputError
from rung.files import storage_error, sync_folder
from rung.models.pull.partial import Partial

MODE = 0o644


def settle(partial: Partial) -> None:
    """Put the bytes of a finished partial file on the disk, readable for everybody.

    Raises:
        StorageError: they cannot be written.
    """
    try:
        with partial.path.open("r+b") as file:
            os.fsync(file.fileno())
        partial.path.chmod(MODE)
    except OSError as error:
        raise storage_error(partial.path, error) from error


def place(partial: Partial, path: Path, *, replace: bool) -> None:
    """Move a settled partial file to where it is visible; one step that cannot be seen half done.

    Args:
        partial: with all of its bytes on the disk.
        path: where it goes.
        replace: another file may lie there.

    Raises:
        InputError: another file lies there.
        StorageError: it cannot be moved.
    """
    check_free(path, replace=replace)
    try:
        partial.path.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def link(original: Path, partial: Partial, path: Path, *, replace: bool) -> bool:
    """Make a file of another program's store visible under a name of ours; the file itself is left as it is.

    Args:
        original: the file, by an absolute path and no link itself.
        partial: whose folder the link is made in.
        path: where it goes.
        replace: another file may lie there.

    Returns:
        Whether it is a symbolic link, because the file system or its owner allows no other.

    Raises:
        InputError: another file lies there.
        StorageError: no link can be made.
    """
    check_free(path, replace=replace)
    symbolic = False
    try:
        partial.link.unlink(missing_ok=True)
        try:
            partial.link.hardlink_to(original)
        except OSError:  # another file system, one without links, or a file of somebody else
            partial.link.symlink_to(original)
            symbolic = True
        partial.link.replace(path)
        partial.link.unlink(missing_ok=True)  # when both were one file already
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.link.unlink()
        raise storage_error(path, error) from error
    return symbolic


def check_free(path: Path, *, replace: bool) -> None:
    """Refuse a place that something else has.

    Raises:
        InputError: a folder lies there, or anything that is not to be replaced.
    """
    if path.is_dir() and not path.is_symlink():
        raise InputError(f"{str(path)!r} is a folder", hint="move it away")
    if not replace and (path.exists() or path.is_symlink()):
        raise InputError(
            f"{str(path)!r} is there already and is another file",
            hint="move it away, or --force replaces it",
        )
