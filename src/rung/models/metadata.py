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

_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Types of the GGUF specification by their number, as in `struct`."""
_TEXT, _ARRAY = 8, 9
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
        start: where the entry, its key included, starts in the file, in bytes.
        end: where it ends.
    """

    value: Value
    start: int
    end: int


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
    metadata: dict[str, Entry] = {}
    for _ in range(entries):
        start = reader.at
        key = reader.name("a key")
        if key in metadata:
            raise reader.damaged(f"has the key {key!r} twice in its header")
        metadata[key] = Entry(_value(reader, key), start, reader.at)
    return tensors, metadata


def _check_kind(reader: BoundedReader) -> None:
    magic = reader.take(len(MAGIC))
    if magic != MAGIC:
        raise reader.damaged(
            f"is not a GGUF file: it starts with {magic!r}",
            hint="name a model in GGUF format (.gguf)",
        )
    version = int(reader.number("I"))
    if version not in VERSIONS:
        swapped = "" if version & 0xFFFF else ", little-endian; this file is big-endian"
        raise reader.damaged(f"is GGUF version {version}; versions 2 and 3 are read{swapped}")


def _value(reader: BoundedReader, key: str) -> Value:
    kind = int(reader.number("I"))
    if kind == _ARRAY:
        return _array(reader, key)
    return reader.text() if kind == _TEXT else reader.number(_letter(reader, kind, key))


def _array(reader: BoundedReader, key: str) -> Array:
    kind, length = int(reader.number("I")), reader.count()
    kept = length <= KEPT_ITEMS
    if kind == _TEXT:
        reader.check_room(length, _SHORTEST_TEXT, f"texts under {key!r}")
        if kept:
            return Array(length, tuple(reader.text() for _ in range(length)))
        reader.skip_texts(length)
        return Array(length, None)
    letter = _letter(reader, kind, key)
    if kept:
        return Array(length, reader.numbers(letter, length))
    reader.skip(length * struct.calcsize(f"<{letter}"))
    return Array(length, None)


def _letter(reader: BoundedReader, kind: int, key: str) -> str:
    try:
        return _NUMBERS[kind]
    except KeyError:
        raise reader.damaged(
            f"has a value of the unknown type {kind} in its header, under {key!r}"
        ) from None
