"""The front of a GGUF file: its version, how many tensors it has, and its metadata.

Where the tensors lie is `header`'s, what an engine needs of the metadata is the engine's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rung.models.bounded import BoundedReader, Number, opened

MAGIC = b"GGUF"
VERSIONS = (2, 3)
KEPT_ITEMS = 4096
"""Arrays of up to so many items are kept, which is more than any model has layers and fewer than it has tokens."""

KEPT_TOTAL = 200_000
"""Items kept of all arrays together: a header of nothing but short arrays has millions."""
MAX_ENTRIES = 10_000
"""Entries accepted; models have some dozens."""
MAX_KEY = 65_535
"""Bytes of the longest key, as the GGUF specification has it."""

_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}
"""Types of the GGUF specification by their number, as in `struct`; a bool is a byte, so that other values show."""
_BOOL, _TEXT, _ARRAY = 7, 8, 9
_SHORTEST_ENTRY = 8 + 4 + 1  # length of a key, type of its value, the smallest value
_SHORTEST_TEXT = 8  # its length

Scalar = str | Number


class Array(msgspec.Struct, frozen=True):
    """An array of the metadata.

    Attributes:
        length: how many items there are.
        items: all of them, or None where there are more than `KEPT_ITEMS`.
    """

    length: int
    items: tuple[Scalar, ...] | None


Value = Scalar | Array


class Entry(msgspec.Struct, frozen=True):
    """One entry of the metadata.

    Attributes:
        value: what it says.
        type: of the value, its number in the GGUF specification.
        start: where the entry, its key included, starts in the file, in bytes.
        end: where it ends.
        digest: SHA-256 of its bytes, from `start` to `end`.
    """

    value: Value
    type: int
    start: int
    end: int
    digest: bytes


def read_metadata(path: Path) -> Mapping[str, Entry]:
    """Read the metadata of a GGUF file by key, in the file's order, and nothing behind it.

    Raises:
        ModelError: there is no such file, it is no GGUF file of version 2 or 3, little-endian, or its metadata
            contradicts itself.
    """
    with opened(path) as reader:
        return read_front(reader)[1]


def read_front(reader: BoundedReader) -> tuple[int, dict[str, Entry]]:
    """Read everything before the tensors' infos.

    Args:
        reader: at the file's start; afterwards at the first tensor's info.

    Returns:
        How many tensors the file says it has, unchecked, and its metadata.

    Raises:
        ModelError: see `read_metadata`.
    """
    _check_kind(reader)
    tensors, entries = reader.count(), reader.count()
    reader.check_room(entries, _SHORTEST_ENTRY, "entries")
    reader.check_count(entries, MAX_ENTRIES, "entries")
    metadata: dict[str, Entry] = {}
    kept = 0
    for _ in range(entries):
        start = reader.at
        key = reader.name("a key", MAX_KEY)
        if key in metadata:
            raise reader.damaged(f"has the key {key!r} twice in its header")
        kind = int(reader.number("I"))
        value = _value(reader, kind, key)
        metadata[key] = Entry(value, kind, start, reader.at, reader.digest(start))
        kept += len(value.items or ()) if isinstance(value, Array) else 0
        reader.check_count(kept, KEPT_TOTAL, "items of short arrays")
    return tensors, metadata


def _check_kind(reader: BoundedReader) -> None:
    magic = reader.take(len(MAGIC))
    if magic != MAGIC:
        raise reader.foreign(f"is not a GGUF file: it starts with {magic!r}")
    version = int(reader.number("I"))
    if version not in VERSIONS:
        swapped = "" if version & 0xFFFF else ", little-endian; this file is big-endian"
        raise reader.damaged(f"is GGUF version {version}; versions 2 and 3 are read{swapped}")


def _value(reader: BoundedReader, kind: int, key: str) -> Value:
    if kind == _ARRAY:
        return _array(reader, key)
    if kind == _TEXT:
        return reader.text()
    return _numbers(reader, kind, 1, key)[0]


def _array(reader: BoundedReader, key: str) -> Array:
    kind, length = int(reader.number("I")), reader.count()
    if kind == _ARRAY:
        raise reader.damaged(f"has arrays within an array in its header, under {key!r}")
    kept = length <= KEPT_ITEMS
    if kind == _TEXT:
        reader.check_room(length, _SHORTEST_TEXT, f"texts under {key!r}")
        if kept:
            return Array(length, tuple(reader.text() for _ in range(length)))
        reader.skip_texts(length)
        return Array(length, None)
    letter = _letter(reader, kind, key)
    if kept:
        return Array(length, _numbers(reader, kind, length, key))
    reader.skip(length * struct.calcsize(f"<{letter}"))
    return Array(length, None)


def _numbers(reader: BoundedReader, kind: int, count: int, key: str) -> tuple[Number, ...]:
    values = reader.numbers(f"{count}{_letter(reader, kind, key)}")
    if kind != _BOOL:
        return values
    if any(value > 1 for value in values):
        raise reader.damaged(f"has a bool of the value {max(values)} in its header, under {key!r}")
    return tuple(map(bool, values))


def _letter(reader: BoundedReader, kind: int, key: str) -> str:
    try:
        return _NUMBERS[kind]
    except KeyError:
        raise reader.damaged(
            f"has a value of the unknown type {kind} in its header, under {key!r}"
        ) from None
