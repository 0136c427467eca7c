"""A file that is written piece by piece and appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rung.files import storage_error, sync_folder


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file beside `path` that replaces it when the block ends, and is gone when the block fails.

    Args:
        path: the file to be; folders on the way are made.
        mode: who may read it; until it is complete only its owner.

    Raises:
        StorageError: the folder cannot be written to, or the disk is full; the old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise storage_error(path, error) from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
