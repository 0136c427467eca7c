"""GGUF files whose header is refused, each wrong in one way; `contradictory_cases` has those that only make no sense.

The kinds are those that published flaws of loaders were about (sizes that overflow, tensors beyond the file, texts and
arrays of absurd lengths) and every rule of the format that can be broken.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from malformed.gguf_parts import (
    ARRAY,
    BOOL,
    INT32,
    Q4_K,
    TEXT,
    UINT8,
    UINT32,
    UINT64,
    array,
    entry,
    front,
    gguf,
    number,
    tensor,
    text,
    word,
)

TERABYTE = 1 << 40


class Case(NamedTuple):
    """A file and why it is refused.

    Attributes:
        content: what it starts with.
        sentence: a part of the refusal that fits this kind; where only `oddities` finds something, its rule.
        size: bytes of the whole file, the rest a hole; 0 for those of `content`.
    """

    content: bytes
    sentence: str
    size: int = 0


ARCH = word("general.architecture", "llama")
WHOLE = gguf([ARCH, number("llama.block_count", 1)], [tensor("a"), tensor("b", offset=32)])
"""A file that is right; cuts and lies start from it."""


def gguf_cases(folder: Path) -> dict[str, Path]:
    """Write a file of every kind that `read_header` refuses, by the kind's name."""
    return written(folder, GGUF)


def written(folder: Path, cases: Mapping[str, Case], ending: str = "gguf") -> dict[str, Path]:
    """Write a file of every case, by the case's name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, case in cases.items():
        paths[name] = folder / f"{name.replace(' ', '-')}.{ending}"
        with paths[name].open("wb") as file:
            file.write(case.content)
            if case.size:
                file.truncate(case.size)
    return paths


def _cut(before: bytes) -> bytes:
    return WHOLE[: WHOLE.index(before) + len(before) // 2]


def _lie(tensors: int, entries: int) -> bytes:
    return front(3, tensors, entries) + WHOLE[24:]


def _sized(shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return gguf([ARCH], [tensor("t", shape, kind, offset)])


_NESTED = b"".join(struct.pack("<IQ", ARRAY, 1) for _ in range(1000)) + struct.pack("<IQ", UINT8, 0)

GGUF: dict[str, Case] = {
    "empty": Case(b"", "after 0 bytes"),
    "three bytes": Case(b"GGU", "after 3 bytes"),
    "magic only": Case(b"GGUF", "after 4 bytes"),
    "zip": Case(b"PK\x03\x04" + bytes(96), "is not a GGUF file"),
    "lower case magic": Case(b"gguf" + WHOLE[4:], "is not a GGUF file"),
    "terabyte of zeros": Case(b"", "is not a GGUF file", TERABYTE),
    "version 0": Case(front(0, 0, 0), "is GGUF version 0;"),
    "version 1": Case(front(1, 0, 0), "is GGUF version 1;"),
    "version 4": Case(front(4, 0, 0), "is GGUF version 4;"),
    "big-endian": Case(struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "this file is big-endian"),
    "cut after the version": Case(WHOLE[:8], "after 8 bytes"),
    "cut in the counts": Case(WHOLE[:20], "after 20 bytes"),
    "cut in a key": Case(_cut(b"general.architecture"), "ends inside its header"),
    "cut in a value": Case(_cut(text("llama")), "ends inside its header"),
    "cut in an array": Case(gguf([array("a", UINT32, 5000, bytes(400))]), "ends inside its header"),
    "cut in a tensor": Case(_cut(tensor("b", offset=32)), "ends inside its header"),
    "cut in the weights": Case(WHOLE[:-1], "does not hold the 32 bytes of its tensor 'b'"),
    "2^63 tensors": Case(_lie(1 << 63, 2), "9,223,372,036,854,775,808 tensors"),
    "2^63 entries": Case(_lie(2, 1 << 63), "9,223,372,036,854,775,808 entries"),
    "one entry more than there are": Case(_lie(2, 3), "that cannot be printed: ''"),
    "one tensor more than there are": Case(_lie(3, 2), "that cannot be printed: ''"),
    "100,000 tensors": Case(front(3, 100_000, 0), "100,000 tensors in its header", 8 << 20),
    "10,001 entries": Case(front(3, 0, 10_001), "10,001 entries in its header", 8 << 20),
    "key of 2^63 bytes": Case(
        front(3, 0, 1) + struct.pack("<Q", 1 << 63) + bytes(64), "a text of 9,223,372,036,854,775,8"
    ),
    "text of 2^63 bytes": Case(
        gguf([entry("a", TEXT, struct.pack("<Q", 1 << 63))], data=bytes(64)),
        "a text of 9,223,372,036,854,775,8",
    ),
    "text of 5 MiB": Case(
        gguf([entry("a", TEXT, struct.pack("<Q", 5 << 20))]), "a text of 5,242,880 bytes", 6 << 20
    ),
    "texts of 20 MiB": Case(
        front(3, 0, 5)
        + b"".join(word(f"{key}", "x" * (4 << 20)) for key in range(4))
        + word("e", "x"),
        "has texts of more than 16,777,216 bytes",
    ),
    "array of 2^63 numbers": Case(
        gguf([array("a", UINT8, 1 << 63, b"")], data=bytes(64)), "ends inside its header"
    ),
    "array whose bytes overflow": Case(
        gguf([array("a", UINT64, (1 << 61) + 1, bytes(8))], data=bytes(64)),
        "ends inside its header",
    ),
    "array of 2^60 texts": Case(
        gguf([array("a", TEXT, 1 << 60, b"")]), "texts under 'a' in its header, which cannot fit"
    ),
    "three million texts": Case(
        gguf([array("a", TEXT, 3_000_000, b"")]), "has more than 2,097,152 texts", 30_000_000
    ),
    "a hundred short arrays": Case(
        gguf([array(f"{key}", UINT8, 4096, bytes(4096)) for key in range(100)]),
        "items of short arrays in its header",
    ),
    "endless array in a terabyte": Case(
        gguf([array("a", UINT8, 1 << 39, b"")]), "more than 67,108,864 bytes", TERABYTE
    ),
    "array of arrays": Case(
        gguf([array("a", ARRAY, 1, struct.pack("<IQB", UINT8, 1, 0))]), "arrays within an array"
    ),
    "arrays a thousand deep": Case(gguf([entry("a", ARRAY, _NESTED)]), "arrays within an array"),
    "unknown type of a value": Case(gguf([entry("a", 13, bytes(8))]), "the unknown type 13"),
    "unknown type of items": Case(
        gguf([array("a", 0xFFFFFFFF, 1, bytes(8))]), "the unknown type 4294967295"
    ),
    "bool of 2": Case(gguf([entry("a", BOOL, b"\2")]), "a bool of the value 2"),
    "bool of 255 in an array": Case(gguf([array("a", BOOL, 2, b"\1\xff")]), "the value 255"),
    "key twice": Case(gguf([number("a", 1), word("a", "b")]), "the key 'a' twice"),
    "key without a letter": Case(gguf([number("", 1)]), "a key in its header that cannot be"),
    "key that is not UTF-8": Case(gguf([entry(b"\xc3(", UINT8, b"\0")]), "a key in its header tha"),
    "key with a line end": Case(gguf([number("a\nb", 1)]), "that cannot be printed: 'a\\nb'"),
    "key of 70,000 bytes": Case(gguf([number("k" * 70_000, 1)]), "a key of 70,000 bytes"),
    "architecture that is a number": Case(
        gguf([number("general.architecture", 7)]), "general.architecture is 7, not a text"
    ),
    "alignment 0": Case(gguf([number("general.alignment", 0)]), "alignment is 0, not a power"),
    "alignment 24": Case(gguf([number("general.alignment", 24)]), "alignment is 24, not a power"),
    "alignment 2^31": Case(
        gguf([number("general.alignment", 1 << 31)]), "alignment is 2147483648, not a power"
    ),
    "alignment that is a text": Case(
        gguf([word("general.alignment", "32")]), "alignment is '32', not a power"
    ),
    "alignment that is an int32": Case(
        gguf([entry("general.alignment", INT32, struct.pack("<i", 32))]),
        "up to 65536 as a uint32",
    ),
    "tensor name of 64 bytes": Case(gguf([], [tensor("n" * 64)]), "a tensor's name of 64 bytes"),
    "tensor name with a zero": Case(gguf([], [tensor("a\0b")]), "cannot be printed: 'a\\x00b'"),
    "tensor name that is not UTF-8": Case(gguf([], [tensor(b"\xff")]), "a tensor's name in its h"),
    "tensor twice": Case(gguf([], [tensor("a"), tensor("a", offset=32)]), "two tensors of one"),
    "no dimensions": Case(_sized(()), "with 0 dimensions"),
    "five dimensions": Case(_sized((1, 1, 1, 1, 8)), "with 5 dimensions"),
    "four billion dimensions": Case(
        gguf([], [text("t") + struct.pack("<I", 0xFFFFFFFF)], data=bytes(64)),
        "with 4,294,967,295 dimensions",
    ),
    "dimension 0": Case(_sized((8, 0)), "the impossible shape (8, 0)"),
    "dimension of minus 1": Case(_sized(((1 << 64) - 1,)), "of more elements than 64 bits count"),
    "product that overflows": Case(_sized((1 << 32, 1 << 32)), "of more elements than 64 bits"),
    "product that overflows twice": Case(
        _sized((1 << 63, 1 << 63, 1 << 63, 1 << 63)), "of more elements than 64 bits"
    ),
    "size that overflows": Case(_sized((1 << 62,)), "18,446,744,073,709,551,616 bytes of its t"),
    "unknown type of a tensor": Case(_sized((8,), 200), "a tensor 't' of the unknown type 200"),
    "type that was taken out": Case(_sized((32,), 4), "a tensor 't' of the unknown type 4"),
    "row of half a block": Case(_sized((128,), Q4_K), "of type Q4_K with the impossible shape"),
    "tensor beyond the file": Case(_sized((1 << 20,)), "the 4,194,304 bytes of its tensor 't'"),
    "160 bytes that claim gigabytes": Case(
        gguf([ARCH], [tensor("t", (1 << 16, 1 << 16))], data=b"").ljust(160, b"\0"),
        "the 17,179,869,184 bytes of its tensor",
    ),
    "offset 2^63": Case(_sized((8,), offset=1 << 63), "does not hold the 32 bytes of its tensor"),
    "offset that overflows": Case(
        _sized((8,), offset=(1 << 64) - 32), "does not hold the 32 bytes of its tensor"
    ),
    "offset off its alignment": Case(
        gguf([], [tensor("t", offset=4)], data=bytes(64)), "no multiple of its alignment 32"
    ),
    "tensors that overlap": Case(
        gguf([], [tensor("a", (16,)), tensor("b", offset=32)], data=bytes(96)),
        "over one that ends at 64",
    ),
    "tensors in falling order": Case(
        gguf([], [tensor("a", offset=32), tensor("b")]), "behind a hole that starts at 0"
    ),
    "hole between tensors": Case(
        gguf([], [tensor("a"), tensor("b", offset=64)], data=bytes(96)),
        "behind a hole that starts at 32",
    ),
    "zip behind the weights": Case(
        WHOLE + b"PK\x03\x04" + bytes(60), "has 64 bytes behind its last tensor"
    ),
    "terabyte behind the weights": Case(WHOLE, "bytes behind its last tensor that", TERABYTE),
    "terabyte behind no weights": Case(gguf([ARCH]), "bytes behind its last tensor", TERABYTE),
}
"""By the kind's name."""
