"""Keyed digests: whether two texts are the same, without keeping either.

The key lies in a file beside the ledger (`rung.db.key`). Without it nobody can test a guess at a text against the
ledger; deleting it makes every digest meaningless.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from rung.errors import StorageError
from rung.files import storage_error, sync_folder
from rung.ledger.database import locate, store_path

KEY_BYTES = 32
_DIGEST_BYTES = 16


class KeyedDigest:
    """BLAKE2b under a secret key, as 32 hexadecimal digits.

    Args:
        key: 32 secret bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def open(cls, url: str, *, root: Path) -> KeyedDigest:
        """Take the key of the ledger at `url`, making one on first use.

        Raises:
            StorageError: the key file cannot be read or made, or is not a key.
        """
        located = locate(url, root)
        path = store_path(located, root)
        return cls(_read_or_make(path.with_name(f"{path.name}.key")))

    def __call__(self, text: str) -> str:
        """The digest of `text`; equal texts, and only those, have equal digests."""
        raw = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, digest_size=_DIGEST_BYTES, key=self._key).hexdigest()


def _read_or_make(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
    return _read(path)


def _read(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot read the digest key {str(path)!r}: {error.strerror}",
            hint="make it a file that you may read; digests in the ledger were made with it",
        ) from error
    if len(key) != KEY_BYTES:
        raise StorageError(
            f"{str(path)!r} is not a digest key: it has {len(key):,} bytes, not {KEY_BYTES}",
            hint="restore it from a backup; if it is lost, remove it and a new one is made"
            " (older digests in the ledger can then no longer be compared)",
        )
    return key


def _make(path: Path) -> None:
    """Put a fresh key at `path` unless another process has just done so: it appears whole or not at all."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(name, path)  # unlike a rename, it never replaces another process's key
            except FileExistsError:
                return
        finally:
            Path(name).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
