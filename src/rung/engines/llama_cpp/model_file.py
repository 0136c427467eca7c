"""A GGUF file looked at before any engine is asked to load it: what it is, and what of it decides its memory.

Reads the header only, never trusting a length in it. Whether the tensors are whole is left to the engine, which says
so in its child process.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from rung.errors import ModelError

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_HEADER_BYTES = 64 * 1024 * 1024
_STRING_BYTES = 4 * 1024 * 1024
_KEPT_ELEMENTS = 4096
_READ_BYTES = 1024 * 1024

_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
"""Value types of the GGUF specification by their number."""
_COUNT = _NUMBERS[10]

_ANOTHER = "download it again, or choose another file"


class Fingerprint(msgspec.Struct, frozen=True):
    """Changes when a file is replaced or written to, and is cheap to take."""

    inode: int
    size: int
    modified_ns: int


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the header of a GGUF file says.

    Attributes:
        path: as it was given.
        fingerprint: of the file that was read.
        architecture: `general.architecture`.
        metadata: every value by its key; arrays longer than a few thousand elements are left out.
        lengths: number of elements of every array by its key.
    """

    path: str
    fingerprint: Fingerprint
    architecture: str
    metadata: Mapping[str, Value]
    lengths: Mapping[str, int]

    def number(self, key: str, default: int = 0) -> int:
        """A whole number among the architecture's own keys (`context_length`, `block_count`, …)."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return value if isinstance(value, int) else default

    def numbers(self, key: str, count: int, default: int = 0) -> tuple[int, ...]:
        """Like `number`, one for each of `count` layers: the file may give one for all or one each."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, tuple):
            return tuple(int(v) if isinstance(v, int) else default for v in value[:count])
        return (value if isinstance(value, int) else default,) * count


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of a file as it is now.

    Raises:
        ModelError: there is none, it is no regular file, or it may not be read.
    """
    try:
        facts = path.stat()
    except FileNotFoundError as error:
        raise ModelError(
            f"the model file {str(path)!r} does not exist", hint="check the path"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"the model file {str(path)!r} cannot be read: {error}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise ModelError(
            f"the model {str(path)!r} is not a regular file", hint="name one .gguf file"
        )
    return Fingerprint(facts.st_ino, facts.st_size, facts.st_mtime_ns)


def read_model_file(path: Path) -> ModelFile:
    """Read the header of a GGUF file.

    Raises:
        ModelError: it is missing, no GGUF file, of a version or byte order that the engine does not read, or it
            ends inside its header.
    """
    print_of_file = fingerprint(path)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_ino != print_of_file.inode:
                raise ModelError(f"the model file {str(path)!r} was replaced while it was read")
            header = _Header(path, file, print_of_file.size)
            metadata, lengths = _metadata(header)
    except OSError as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error.strerror or error}",
            hint="check its permissions",
        ) from error
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise ModelError(f"the model file {str(path)!r} names no architecture", hint=_ANOTHER)
    return ModelFile(
        path=str(path),
        fingerprint=print_of_file,
        architecture=architecture,
        metadata=metadata,
        lengths=lengths,
    )


class _Header:
    """The bytes of a header, read as far as they are needed.

    Args:
        path: for messages.
        file: open at its start.
        size: of the file, in bytes.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        end = self._at + count
        if end > self._size:
            raise self.damaged(
                f"ends inside its header, after {self._size} bytes: it is incomplete or damaged"
            )
        if end > _HEADER_BYTES:
            raise self.damaged(f"has a header of more than {_HEADER_BYTES} bytes")
        while len(self._bytes) < end:
            piece = self._file.read(_READ_BYTES)
            if not piece:
                raise self.damaged("became shorter while it was read")
            self._bytes += piece
        start, self._at = self._at, end
        return memoryview(self._bytes)[start:end]

    def number(self, kind: struct.Struct) -> int | float | bool:
        """The next number."""
        value: int | float | bool = kind.unpack(self.take(kind.size))[0]
        return value

    def count(self) -> int:
        """The next length."""
        return int(self.number(_COUNT))

    def string(self) -> str:
        """The next string; bytes that are no UTF-8 are replaced."""
        length = self.count()
        if length > _STRING_BYTES:
            raise self.damaged(f"has a text of {length} bytes in its header")
        return bytes(self.take(length)).decode("utf-8", "replace")

    def skip_strings(self, count: int) -> None:
        """Step over strings without making them."""
        for _ in range(count):
            self.take(self.count())

    def damaged(self, what: str) -> ModelError:
        """The file, and what is wrong with it."""
        return ModelError(f"the model file {str(self._path)!r} {what}", hint=_ANOTHER)


def _metadata(header: _Header) -> tuple[dict[str, Value], dict[str, int]]:
    """All values, and the lengths of arrays."""
    magic = bytes(header.take(4))
    if magic != _MAGIC:
        raise header.damaged(f"is not a GGUF file: it starts with {magic!r}")
    version = int(header.number(_NUMBERS[4]))
    if version not in _VERSIONS:
        raise header.damaged(f"is GGUF version {version}; versions 2 and 3 are read")
    header.count()  # of tensors, which are the engine's to check
    values: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(header.count()):
        key = header.string()
        kind = int(header.number(_NUMBERS[4]))
        if kind != _ARRAY:
            values[key] = _scalar(header, kind)
            continue
        kind, lengths[key] = int(header.number(_NUMBERS[4])), header.count()
        elements = _array(header, kind, lengths[key])
        if elements is not None:
            values[key] = elements
    return values, lengths


def _scalar(header: _Header, kind: int) -> Scalar:
    if kind == _STRING:
        return header.string()
    if kind not in _NUMBERS:
        raise header.damaged(f"has a value of the unknown type {kind} in its header")
    return header.number(_NUMBERS[kind])


def _array(header: _Header, kind: int, count: int) -> tuple[Scalar, ...] | None:
    """The elements, or None where there are too many to be kept."""
    if kind != _STRING and kind not in _NUMBERS:
        raise header.damaged(f"has an array of the unknown type {kind} in its header")
    if count <= _KEPT_ELEMENTS:
        return tuple(_scalar(header, kind) for _ in range(count))
    if kind == _STRING:
        header.skip_strings(count)
    else:
        header.take(count * _NUMBERS[kind].size)
    return None
