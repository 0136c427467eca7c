"""Writing files so that a reader sees the old or the new content, never a half of it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rung.errors import StorageError


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` with `content`.

    Args:
        path: the file; folders on the way are made.
        content: all of it.
        mode: who may read it; until it is complete only its owner.

    Raises:
        StorageError: the folder cannot be written to, or the disk is full; the old file is untouched.
    """
    with whole_file(path, mode=mode) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file beside `path` that is flushed to disk and renamed over it when the block ends.

    When the block fails, the new file is gone and the old one as it was.

    Args:
        path: the file to be; folders on the way are made.
        mode: who may read it; until it is complete only its owner.

    Raises:
        StorageError: the folder cannot be written to, or the disk is full; the old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the platform lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows: renames are durable without it
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(path: Path, error: OSError) -> StorageError:
    """What went wrong with `path`, as a sentence with a way out."""
    hints = {
        errno.ENOSPC: ("the disk is full", "free some space and run it again"),
        errno.EDQUOT: ("the disk quota is used up", "free some space and run it again"),
        errno.EFBIG: ("the file may not grow further", "raise the file size limit (ulimit -f)"),
        errno.EROFS: ("the file system is read-only", "choose a folder that can be written to"),
        errno.EACCES: ("permission denied", "choose a folder that can be written to"),
        errno.EPERM: ("permission denied", "choose a folder that can be written to"),
        errno.EISDIR: ("it is a folder", "name a file"),
        errno.ENOTDIR: ("a part of the path is not a folder", "check the path"),
    }
    what, hint = hints.get(error.errno or 0, (error.strerror or str(error), "check the path"))
    return StorageError(f"cannot write {str(path)!r}: {what}", hint=hint)
