"""The pieces a GGUF file is made of, to be put together rightly or wrongly."""

from __future__ import annotations

import struct
from collections.abc import Sequence

UINT8, INT32, UINT32, FLOAT32, BOOL, TEXT, ARRAY, UINT64 = 0, 5, 4, 6, 7, 8, 9, 10
F32, F16, Q4_K = 0, 1, 12


def text(content: str | bytes) -> bytes:
    """A text with its length before it."""
    raw = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    """An entry of the metadata."""
    return text(key) + struct.pack("<I", kind) + value


def number(key: str, value: int) -> bytes:
    """An entry that is a uint32."""
    return entry(key, UINT32, struct.pack("<I", value))


def word(key: str, value: str) -> bytes:
    """An entry that is a text."""
    return entry(key, TEXT, text(value))


def array(key: str, kind: int, count: int, items: bytes) -> bytes:
    """An entry that is an array."""
    return entry(key, ARRAY, struct.pack("<IQ", kind, count) + items)


def tensor(
    name: str | bytes, shape: Sequence[int] = (8,), kind: int = F32, offset: int = 0
) -> bytes:
    """What a file says of a tensor; the default one has 32 bytes."""
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def front(version: int, tensors: int, entries: int) -> bytes:
    """What a file begins with."""
    return struct.pack("<4sIQQ", b"GGUF", version, tensors, entries)


def gguf(
    entries: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    *,
    data: bytes | None = None,
    alignment: int = 32,
) -> bytes:
    """A file with as many entries and tensors as it says; its data is 32 bytes for each tensor unless given."""
    made = front(3, len(tensors), len(entries)) + b"".join(entries) + b"".join(tensors)
    made += bytes(-len(made) % alignment)
    return made + (bytes(32 * len(tensors)) if data is None else data)
