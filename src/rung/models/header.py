"""What a GGUF file says about itself: its metadata, and where each tensor lies, checked against the file's size.

Weights are `quantize`'s to read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from rung.models.bounded import BoundedReader, opened
from rung.models.metadata import Entry, read_front
from rung.models.tensortypes import TensorType

MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 65_536
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
    with opened(path) as reader:
        count, metadata = read_front(reader)
        reader.check_room(count, _SHORTEST_TENSOR, "tensors")
        alignment = _alignment(reader, metadata)
        infos = [_tensor(reader) for _ in range(count)]
        tensors = _placed(reader, infos, alignment)
        return Header(path, reader.size, alignment, metadata, tensors)


def _alignment(reader: BoundedReader, metadata: Mapping[str, Entry]) -> int:
    entry = metadata.get("general.alignment")
    if entry is None:
        return _USUAL_ALIGNMENT
    value = entry.value
    if not isinstance(value, int) or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise reader.damaged(
            f"says that general.alignment is {value!r}, not a power of two up to {MAX_ALIGNMENT}"
        )
    return value


def _tensor(reader: BoundedReader) -> Tensor:
    """A tensor with `start` counted from where the data begins."""
    name = reader.name("a tensor's name")
    dimensions = int(reader.number("I"))
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise reader.damaged(
            f"has a tensor {name!r} with {dimensions:,} dimensions, not 1 to {MAX_DIMENSIONS}"
        )
    shape = tuple(reader.count() for _ in range(dimensions))
    number = int(reader.number("I"))
    try:
        kind = TensorType(number)
    except ValueError:
        raise reader.damaged(f"has a tensor {name!r} of the unknown type {number}") from None
    if not all(shape) or shape[0] % kind.block:
        raise reader.damaged(
            f"has a tensor {name!r} of type {kind.name} with the impossible shape {shape}"
        )
    return Tensor(name, shape, kind, reader.count())


def _placed(reader: BoundedReader, infos: Sequence[Tensor], alignment: int) -> tuple[Tensor, ...]:
    """The tensors with `start` counted from the file's start, each within the file.

    Args:
        reader: behind the last tensor's info.
        infos: the tensors as `_tensor` gives them.
        alignment: of the data, in bytes.
    """
    if len({tensor.name for tensor in infos}) != len(infos):
        raise reader.damaged("has two tensors of one name")
    data = -(-reader.at // alignment) * alignment
    for tensor in infos:
        if tensor.start % alignment or data + tensor.start + tensor.size > reader.size:
            raise reader.damaged(
                f"does not hold the {tensor.size:,} bytes of its tensor {tensor.name!r}: "
                "it is incomplete or damaged"
            )
    return tuple(msgspec.structs.replace(tensor, start=data + tensor.start) for tensor in infos)
