"""What a GGUF file says about itself: its metadata, and where each tensor lies, checked against the file's size.

The tensors lie as the engine wants them: one behind the other in the file's order, each at the next multiple of the
alignment, nothing behind the last but what fills it up. Weights are `quantize`'s to read; whether the metadata suit
the tensors is `sanity`'s to say, and the parts of a split model are put together by `shards`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from rung.models.bounded import BoundedReader, Read, opened
from rung.models.metadata import Array, Entry, read_front
from rung.models.tensortypes import TensorType

MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 65_536
MAX_TENSORS = 99_999
MAX_NAME = 63
"""Bytes of a tensor's name; ggml has 64 with the zero at the end."""
MAX_ELEMENTS = (1 << 63) - 1
"""Elements of a tensor; ggml counts them in a signed number of 64 bits."""
_UINT32 = 4
_USUAL_ALIGNMENT = 32
_SHORTEST_TENSOR = 8 + 4 + 8 + 4 + 8  # length of a name, dimensions, one of them, type, offset


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
        name: the file's path, or what it is called where it was read from.
        size: its bytes.
        alignment: of tensor data, in bytes.
        metadata: by key, in the file's order.
        tensors: in the file's order.
    """

    name: str
    size: int
    alignment: int
    metadata: Mapping[str, Entry]
    tensors: tuple[Tensor, ...]

    @property
    def path(self) -> Path:
        """The file, when it was read from a disk."""
        return Path(self.name)

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

    def numbers(self, key: str) -> tuple[int, ...] | None:
        """Whole numbers or bools of the metadata, one or an array; None where there are none or they were not kept."""
        value = self.metadata[key].value if key in self.metadata else None
        items = value.items if isinstance(value, Array) else (value,)
        whole = tuple(int(item) for item in items or () if isinstance(item, int))
        return whole if items is not None and len(whole) == len(items) else None

    def real(self, key: str) -> float | None:
        """A number of the metadata, None where there is no such number."""
        value = self.metadata[key].value if key in self.metadata else None
        return float(value) if isinstance(value, int | float) else None

    def length(self, key: str) -> int | None:
        """Items of an array of the metadata, None where there is no such array."""
        value = self.metadata[key].value if key in self.metadata else None
        return value.length if isinstance(value, Array) else None


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file.

    Args:
        path: the file, of GGUF version 2 or 3, little-endian.

    Raises:
        ModelError: there is no such file, it is no GGUF file, or it contradicts itself.
    """
    with opened(path) as reader:
        return _read(reader, str(path))


def header_from(name: str, size: int, read: Read) -> Header:
    """Read the header of a GGUF file that is not on a disk.

    Args:
        name: what messages call the file.
        size: of the whole file, in bytes.
        read: gives the file's next bytes, at most as many as asked for; what it raises passes through.

    Raises:
        ModelError: it is no GGUF file, or it contradicts itself.
    """
    return _read(BoundedReader(name, size, read), name)


def _read(reader: BoundedReader, name: str) -> Header:
    count, metadata = read_front(reader)
    reader.check_room(count, _SHORTEST_TENSOR, "tensors")
    reader.check_count(count, MAX_TENSORS, "tensors")
    _check_architecture(reader, metadata)
    alignment = _alignment(reader, metadata)
    infos = [_tensor(reader) for _ in range(count)]
    tensors = _placed(reader, infos, alignment)
    return Header(name, reader.size, alignment, metadata, tensors)


def _check_architecture(reader: BoundedReader, metadata: Mapping[str, Entry]) -> None:
    entry = metadata.get("general.architecture")
    if entry is not None and not isinstance(entry.value, str):
        raise reader.damaged(f"says that general.architecture is {entry.value!r}, not a text")


def _alignment(reader: BoundedReader, metadata: Mapping[str, Entry]) -> int:
    entry = metadata.get("general.alignment")
    if entry is None:
        return _USUAL_ALIGNMENT
    value = entry.value if entry.type == _UINT32 else None  # the engine ends itself over others
    if not isinstance(value, int) or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise reader.damaged(
            f"says that general.alignment is {entry.value!r}, "
            f"not a power of two up to {MAX_ALIGNMENT} as a uint32"
        )
    return value


def _tensor(reader: BoundedReader) -> Tensor:
    """A tensor with `start` counted from where the data begins."""
    name = reader.name("a tensor's name", MAX_NAME)
    dimensions = int(reader.number("I"))
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise reader.damaged(
            f"has a tensor {name!r} with {dimensions:,} dimensions, not 1 to {MAX_DIMENSIONS}"
        )
    *lengths, number, start = map(int, reader.numbers(f"{dimensions}QIQ"))
    shape = tuple(lengths)
    try:
        kind = TensorType(number)
    except ValueError:
        raise reader.damaged(f"has a tensor {name!r} of the unknown type {number}") from None
    if not all(shape) or shape[0] % kind.block:
        raise reader.damaged(
            f"has a tensor {name!r} of type {kind.name} with the impossible shape {shape}"
        )
    if math.prod(shape) > MAX_ELEMENTS:
        raise reader.damaged(f"has a tensor {name!r} of more elements than 64 bits count: {shape}")
    return Tensor(name, shape, kind, start)


def _placed(reader: BoundedReader, infos: Sequence[Tensor], alignment: int) -> tuple[Tensor, ...]:
    """The tensors with `start` counted from the file's start, each within the file.

    Args:
        reader: behind the last tensor's info.
        infos: the tensors as `_tensor` gives them.
        alignment: of the data, in bytes.
    """
    if len({tensor.name for tensor in infos}) != len(infos):
        raise reader.damaged("has two tensors of one name")
    data = end = _padded(reader.at, alignment)
    placed = []
    for tensor in infos:
        start, expected = data + tensor.start, _padded(end, alignment)
        size = tensor.size
        if start + size > reader.size:
            raise reader.damaged(
                f"does not hold the {size:,} bytes of its tensor {tensor.name!r}: "
                "it is incomplete or damaged"
            )
        if start != expected:
            raise reader.damaged(_misplaced(tensor, expected - data, alignment))
        placed.append(Tensor(tensor.name, tensor.shape, tensor.type, start))
        end = start + size
    behind = reader.size - _padded(end if infos else reader.at, alignment)
    if behind > 0:
        raise reader.foreign(f"has {behind:,} bytes behind its last tensor that belong to nothing")
    return tuple(placed)


def _misplaced(tensor: Tensor, expected: int, alignment: int) -> str:
    if tensor.start % alignment:
        why = f"no multiple of its alignment {alignment}"
    elif tensor.start < expected:
        why = f"over one that ends at {expected:,}"
    else:
        why = f"behind a hole that starts at {expected:,}"
    return f"has its tensor {tensor.name!r} at offset {tensor.start:,}, {why}"


def _padded(end: int, alignment: int) -> int:
    return -(-end // alignment) * alignment
