"""What a safetensors file says about itself: its tensors, and that they fill the file without a gap or an overlap.

Stricter than the library of that name: no key twice, nothing before the opening brace, no key that is not the
format's, names that can be printed and are no paths. Nothing of the weights is read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from rung.errors import ModelError
from rung.models.bounded import facts_of
from rung.models.strictjson import LARGEST, Json, Malformed, parse_object, shortened

HEADER_BYTES = 16 * 1024 * 1024
"""Longest header accepted. The format allows 100 MB, which as objects would take gigabytes; the largest public models
have less than 2 MB."""
MAX_VALUES = 500_000
"""Commas, braces and brackets accepted, which bound the objects that a header becomes; a tensor has about eight and the
largest public files have some thousand tensors."""
MAX_DIMENSIONS = 16
MAX_NAME = 512
"""Characters of a tensor's name."""

BITS: Mapping[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of an element by the type's name in the file, those of the safetensors library 0.8."""

_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}


class SafeTensor(msgspec.Struct, frozen=True):
    """One tensor.

    Attributes:
        name: as in the file.
        type: of its elements, a key of `BITS`.
        shape: elements along each dimension, the contiguous one last; none for a single number.
        start: where its data starts in the file, in bytes.
        size: of its data, in bytes.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    size: int


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """What a safetensors file says about itself.

    Attributes:
        name: the file's path.
        size: its bytes.
        metadata: texts by key.
        tensors: in the order of their data.
    """

    name: str
    size: int
    metadata: Mapping[str, str]
    tensors: tuple[SafeTensor, ...]


def read_safetensors(path: Path) -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Raises:
        ModelError: there is no such file, it is no safetensors file, or it contradicts itself.
    """
    size = facts_of(path).st_size
    try:
        with path.open("rb") as file:
            said = _said(file, size)
            return _checked(said, str(path), size, file.tell())
    except OSError as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error.strerror or error}",
            hint="check its permissions",
        ) from error
    except Malformed as error:
        raise ModelError(
            f"the model file {str(path)!r} {error}",
            hint="download it again, or choose another file",
        ) from None


def _said(file: BinaryIO, size: int) -> Mapping[str, Json]:
    """The object that the header is; `file` stands behind it afterwards."""
    if size < _LENGTH.size:
        raise Malformed(f"is no safetensors file: it has {size} bytes")
    (length,) = _LENGTH.unpack(_taken(file, _LENGTH.size))
    if length > size - _LENGTH.size:
        raise Malformed(
            f"is no safetensors file or not whole: a header of {length:,} bytes in a file of {size:,}"
        )
    if length > HEADER_BYTES:
        raise Malformed(f"has a header of {length:,} bytes, more than {HEADER_BYTES:,}")
    raw = _taken(file, length)
    return parse_object(raw, MAX_VALUES)


def _taken(file: BinaryIO, length: int) -> bytes:
    raw = file.read(length)
    if len(raw) < length:
        raise Malformed("became shorter while it was read")
    return raw


def _checked(said: Mapping[str, Json], name: str, size: int, data: int) -> SafetensorsHeader:
    """The header, its tensors placed and checked against the file's size.

    Args:
        said: the header's object.
        name: of the file.
        size: of the file, in bytes.
        data: where the tensors' data starts in it.
    """
    metadata = _texts(said.get(_METADATA, {}))
    tensors = [_tensor(key, value, data) for key, value in said.items() if key != _METADATA]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.size))
    end = data
    for tensor in tensors:
        if tensor.start + tensor.size > size:
            raise Malformed(
                f"does not hold the {tensor.size:,} bytes of its tensor {tensor.name!r}: "
                "it is incomplete or damaged"
            )
        if tensor.start < end:
            raise Malformed(f"has its tensor {tensor.name!r} over another one")
        if tensor.start > end:
            raise Malformed(f"has a hole of {tensor.start - end:,} bytes before {tensor.name!r}")
        end += tensor.size
    if end < size:
        raise Malformed(f"has {size - end:,} bytes behind its last tensor that belong to nothing")
    return SafetensorsHeader(name, size, metadata, tuple(tensors))


def _texts(value: Json) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise Malformed(f"has {_METADATA} that is no object")
    texts = {key: text for key, text in value.items() if isinstance(text, str)}
    if len(texts) < len(value):
        raise Malformed(f"has something else than a text in its {_METADATA}")
    try:
        for text in (*texts, *texts.values()):
            text.encode()
    except UnicodeEncodeError:
        raise Malformed(f"has half a character in its {_METADATA}") from None
    return texts


def _tensor(name: str, value: Json, data: int) -> SafeTensor:
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise Malformed(
            f"has a tensor whose name cannot be printed or is too long: {shortened(name)}"
        )
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise Malformed(f"has a tensor that is named like a path: {shortened(name)}")
    if not isinstance(value, Mapping) or set(value) != _FIELDS:
        raise Malformed(f"describes its tensor {name!r} with something else than {sorted(_FIELDS)}")
    kind = value["dtype"]
    if not isinstance(kind, str) or kind not in BITS:
        raise Malformed(f"has a tensor {name!r} of the unknown type {shortened(str(kind))}")
    shape, offsets = _numbers(value["shape"], name), _numbers(value["data_offsets"], name)
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Malformed(
            f"has a tensor {name!r} with the impossible offsets {shortened(str(offsets))}"
        )
    size = offsets[1] - offsets[0]
    if _size(shape, kind, name) != size:
        raise Malformed(
            f"gives its tensor {name!r} of type {kind} and shape {list(shape)} {size:,} bytes, which is not its size"
        )
    return SafeTensor(name, kind, shape, data + offsets[0], size)


def _numbers(value: Json, name: str) -> tuple[int, ...]:
    items = value if isinstance(value, list) else ()
    numbers = tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool))
    if not isinstance(value, list) or len(numbers) < len(value):
        raise Malformed(f"has a tensor {name!r} whose shape or offsets are not whole numbers")
    return numbers


def _size(shape: tuple[int, ...], kind: str, name: str) -> int | None:
    """Bytes of a tensor's data, None when its bits are no whole bytes."""
    if len(shape) > MAX_DIMENSIONS:
        raise Malformed(f"has a tensor {name!r} with {len(shape):,} dimensions")
    bits = BITS[kind]
    for length in shape:
        bits *= length
        if bits > LARGEST:
            raise Malformed(f"has a tensor {name!r} whose size is beyond 63 bits: {list(shape)}")
    return bits // 8 if bits % 8 == 0 else None
