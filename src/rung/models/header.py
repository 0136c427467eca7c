"""What a GGUF file says about itself: its metadata and where each tensor lies.

The file is not trusted: every length is checked against what is left of the file before it is used, and nothing is
mapped into memory, because a mapped file that someone shortens ends the process. Weights are `quantize`'s to read.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from rung.errors import ModelError
from rung.models.tensortypes import TensorType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
MAX_TEXT = 64 * 1024 * 1024
"""Longest text accepted, in bytes; chat templates, the longest that occur, are some kilobytes."""
MAX_ITEMS = 1 << 24
"""Most texts of an array, tensors or entries accepted; large vocabularies have some hundred thousand."""
MAX_ALIGNMENT = 65_536
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
TEXT, ARRAY = 8, 9
_SHORTEST_ENTRY = 8 + 4 + 1  # length of a key, type of its value, the smallest value
_SHORTEST_TENSOR = 8 + 4 + 8 + 4 + 8  # length of a name, dimensions, one of them, type, offset


class Array(msgspec.Struct, frozen=True):
    """An array of the metadata; its items stay in the file.

    Attributes:
        kind: type number of its items.
        length: how many there are.
    """

    kind: int
    length: int


Value = bool | int | float | str | Array


class Entry(msgspec.Struct, frozen=True):
    """One entry of the metadata.

    Attributes:
        value: what it says.
        start: where the entry, its key included, starts in the file, in bytes.
        end: where it ends.
    """

    value: Value
    start: int
    end: int


class Tensor(msgspec.Struct, frozen=True):
    """One tensor.

    Attributes:
        name: as in the file.
        shape: elements along each dimension, the contiguous one first.
        type: of its elements.
        start: where its data starts in the file, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    start: int

    @property
    def columns(self) -> int:
        """Elements of a row."""
        return self.shape[0]

    @property
    def elements(self) -> int:
        """Elements in all."""
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return math.prod(self.shape[1:])

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return self.rows * self.type.row_bytes(self.columns)


class Header(msgspec.Struct, frozen=True):
    """What a GGUF file says about itself.

    Attributes:
        path: the file.
        size: its bytes.
        alignment: of tensor data, in bytes.
        metadata: by key, in the file's order.
        tensors: in the file's order.
    """

    path: Path
    size: int
    alignment: int
    metadata: Mapping[str, Entry]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """The family of models, such as `llama`; empty when the file does not say."""
        return self.text("general.architecture") or ""

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    def text(self, key: str) -> str | None:
        """A text of the metadata, None where there is no such text."""
        entry = self.metadata.get(key)
        return entry.value if entry is not None and isinstance(entry.value, str) else None

    def number(self, key: str) -> int | None:
        """A whole number of the metadata, None where there is no such number."""
        value = self.metadata[key].value if key in self.metadata else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file.

    Args:
        path: the file, of GGUF version 2 or 3, little-endian.

    Raises:
        ModelError: there is no such file, it is no GGUF file, or it contradicts itself.
    """
    try:
        # Asked before it is opened: opening a pipe waits for somebody to write to it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{str(path)!r} is not a file", hint="name a GGUF file")
        with path.open("rb") as file:
            return _Reader(file, os.fstat(file.fileno()).st_size, path).header()
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise ModelError(f"cannot read {str(path)!r}: {what}", hint="check the path") from error


class _Reader:
    """Reads values one after the other; no read and no skip passes the end of the file."""

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file = file
        self._size = size
        self._path = path
        self._at = 0

    def header(self) -> Header:
        """The whole header."""
        self._preamble()
        tensors, entries = self._scalar("<Q"), self._scalar("<Q")
        shortest = tensors * _SHORTEST_TENSOR + entries * _SHORTEST_ENTRY
        if shortest > self._size - self._at or max(tensors, entries) > MAX_ITEMS:
            raise self._broken(
                f"its {tensors:,} tensors and {entries:,} entries cannot fit in it; it is cut short or damaged"
            )
        metadata = self._metadata(entries)
        alignment = self._alignment(metadata)
        infos = [self._tensor() for _ in range(tensors)]
        data = -(-self._at // alignment) * alignment
        return Header(
            self._path, self._size, alignment, metadata, self._placed(infos, data, alignment)
        )

    def _preamble(self) -> None:
        magic = self._file.read(len(MAGIC))
        self._at += len(magic)
        if magic != MAGIC:
            what = "is empty" if not self._size else "is not a GGUF file"
            raise ModelError(
                f"{str(self._path)!r} {what}", hint="name a model in GGUF format (.gguf)"
            )
        version = self._scalar("<I")
        if version not in VERSIONS:
            what = (
                "it is big-endian"
                if not version & 0xFFFF
                else f"its format version is {version}, this release reads 2 and 3"
            )
            raise self._broken(what)

    def _metadata(self, entries: int) -> dict[str, Entry]:
        metadata: dict[str, Entry] = {}
        for _ in range(entries):
            start = self._at
            key = self._text("a key")
            if key in metadata:
                raise self._broken(f"the key {key!r} stands in it twice")
            metadata[key] = Entry(self._value(self._scalar("<I"), key), start, self._at)
        return metadata

    def _value(self, kind: int, key: str) -> Value:
        if kind == TEXT:
            return self._bytes(key).decode(errors="replace")
        if kind == ARRAY:
            return self._array(key)
        return self._scalar(self._layout(kind, key))

    def _array(self, key: str) -> Array:
        kind, length = self._scalar("<I"), self._scalar("<Q")
        if kind == TEXT:
            if length > MAX_ITEMS:
                raise self._broken(f"{key!r} has {length:,} texts")
            for _ in range(length):
                self._skip(self._scalar("<Q"), key)
        else:
            self._skip(length * struct.calcsize(self._layout(kind, key)), key)
        return Array(kind, length)

    def _layout(self, kind: int, key: str) -> str:
        try:
            return _SCALARS[kind]
        except KeyError:
            raise self._broken(f"the value of {key!r} has the unknown type {kind}") from None

    def _alignment(self, metadata: Mapping[str, Entry]) -> int:
        entry = metadata.get("general.alignment")
        if entry is None:
            return 32
        value = entry.value
        if not isinstance(value, int) or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
            raise self._broken(f"general.alignment is {value!r}, not a power of two up to 65536")
        return value

    def _tensor(self) -> Tensor:
        """A tensor with `start` counted from where the data begins."""
        name = self._text("a tensor's name")
        dimensions = self._scalar("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self._broken(f"tensor {name!r} has {dimensions:,} dimensions, not 1 to 4")
        shape = tuple(self._scalar("<Q") for _ in range(dimensions))
        number = self._scalar("<I")
        try:
            kind = TensorType(number)
        except ValueError:
            raise self._broken(f"tensor {name!r} has the unknown type {number}") from None
        if not all(shape) or shape[0] % kind.block:
            raise self._broken(
                f"tensor {name!r} of type {kind.name} has the impossible shape {shape}"
            )
        return Tensor(name, shape, kind, self._scalar("<Q"))

    def _placed(self, infos: list[Tensor], data: int, alignment: int) -> tuple[Tensor, ...]:
        """The tensors with `start` counted from the file's start, each within the file."""
        if len({tensor.name for tensor in infos}) != len(infos):
            raise self._broken("two of its tensors have one name")
        for tensor in infos:
            if tensor.start % alignment or data + tensor.start + tensor.size > self._size:
                raise self._broken(
                    f"the {tensor.size:,} bytes of tensor {tensor.name!r} are not in it; it is cut short or damaged"
                )
        return tuple(msgspec.structs.replace(tensor, start=data + tensor.start) for tensor in infos)

    def _text(self, what: str) -> str:
        """A text that names something, so that it has to be readable."""
        try:
            return self._bytes(what).decode()
        except UnicodeDecodeError:
            raise self._broken(f"{what} is not UTF-8") from None

    def _bytes(self, what: str) -> bytes:
        """The bytes of a text."""
        length = self._scalar("<Q")
        if length > min(MAX_TEXT, self._size - self._at):
            raise self._broken(f"{what} is to be a text of {length:,} bytes; it is damaged")
        return self._read(length, what)

    def _scalar(self, layout: str) -> int:
        value: int = struct.unpack(layout, self._read(struct.calcsize(layout), "its header"))[0]
        return value

    def _read(self, size: int, what: str) -> bytes:
        self._at += size
        content = self._file.read(size)
        if len(content) < size:
            raise self._broken(f"it ends inside {what}; it is cut short or damaged")
        return content

    def _skip(self, size: int, what: str) -> None:
        if size > self._size - self._at:
            raise self._broken(f"it ends inside {what}; it is cut short or damaged")
        self._at += size
        self._file.seek(self._at)

    def _broken(self, what: str) -> ModelError:
        return ModelError(
            f"{str(self._path)!r} cannot be used: {what}",
            hint="fetch or convert the model again",
        )
