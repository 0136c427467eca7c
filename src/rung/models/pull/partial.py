"""A file that is being fetched: its bytes so far, and a record of where they are from.

It lies in a folder of its own, `.part`, under the digest of what it will be, so that whoever fetches the same file
finds it. When it is whole, checked and scanned, `placing` moves it to where it is visible.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from rung.files import storage_error, write_atomically
from rung.models.addresses import without_query
from rung.models.sources.resolved import RemoteFile

FOLDER = ".part"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes are from.

    Attributes:
        format: of this record.
        source: reference of the model, by which what nobody goes on with is found.
        url: they were read from, without a query: that may be a key and is kept nowhere.
        etag: the source's name for this very content.
        size: of the whole file in bytes.
        sha256: of the whole file; known once it is there, and kept until it is pinned.
    """

    format: int = 1
    source: str | None = None
    url: str | None = None
    etag: str | None = None
    size: int | None = None
    sha256: str | None = None


class Partial:
    """The unfinished copy of one file.

    Args:
        folder: that the finished file is going to.
        file: as its source lists it.
        source: reference of the model it is of, None where nobody asks.
    """

    def __init__(self, folder: Path, file: RemoteFile, source: str | None = None) -> None:
        self.url = without_query(file.url) if file.url else None
        self._source = source
        origin = self.url or file.name
        self.key = key = file.sha256 or "url-" + hashlib.sha256(origin.encode()).hexdigest()
        self.path = folder / FOLDER / f"{key}.part"
        self.lock = self.path.with_suffix(".lock")
        self.link = self.path.with_suffix(".link")
        self._record = self.path.with_suffix(".json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.lstat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0  # what is wrong with the folder is said when it is made

    @property
    def record(self) -> Record | None:
        """Where they are from; None when nobody can say."""
        return read_record(self._record)

    def keep_record(
        self, *, etag: str | None = None, size: int | None = None, sha256: str | None = None
    ) -> None:
        """Write where the bytes are from.

        Args:
            etag, size, sha256: as in a `Record`.

        Raises:
            StorageError: it cannot be written.
        """
        record = Record(source=self._source, url=self.url, etag=etag, size=size, sha256=sha256)
        write_atomically(self._record, msgspec.json.encode(record))

    def prepare(self) -> None:
        """Make the folder, and let go of a copy that is visible already under another name.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_symlink() or (self.path.exists() and self.path.stat().st_nlink > 1):
                self.path.unlink()
        except OSError as error:
            raise storage_error(self.path.parent, error) from error

    def touch(self) -> None:
        """Make it there, if only empty.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.path.touch(0o600)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def discard(self) -> None:
        """Remove the bytes and their record."""
        self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Remove the record: the file is pinned, or there is nothing to go on from."""
        self._record.unlink(missing_ok=True)


def read_record(path: Path) -> Record | None:
    """A record; None where there is none that can be read."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.format == 1 else None
