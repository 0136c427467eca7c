"""safetensors files that are wrong, each in one way; the library of that name accepts some of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from malformed.gguf_cases import TERABYTE, Case, written


def safetensors_cases(folder: Path) -> dict[str, Path]:
    """Write a file of every kind that `read_safetensors` refuses, by the kind's name."""
    return written(folder, SAFETENSORS, "safetensors")


def safetensors(
    header: str | bytes | dict[str, Any], data: int = 0, *, length: int | None = None
) -> bytes:
    """A file with this header.

    Args:
        header: as JSON, or an object to write as such.
        data: bytes of zeros behind it.
        length: of the header as the file says it; the true one unless given.
    """
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data)


def described(
    shape: object = (2, 2), offsets: object = (0, 16), kind: object = "F32", **more: object
) -> dict[str, Any]:
    """What a header says of a tensor; the default one has 16 bytes."""
    return {"dtype": kind, "shape": shape, "data_offsets": offsets, **more}


WHOLE = safetensors({"__metadata__": {"format": "pt"}, "a": described()}, 16)
"""A file that is right."""


def _raw(fields: str, data: int = 16) -> bytes:
    return safetensors('{"a":{' + fields + "}}", data)


_TYPE, _SHAPE, _OFFSETS = '"dtype":"F32"', '"shape":[2,2]', '"data_offsets":[0,16]'


def _shaped(shape: str) -> bytes:
    return _raw(f'{_TYPE},"shape":{shape},{_OFFSETS}')


def _placed(offsets: str, data: int = 16) -> bytes:
    return _raw(f'{_TYPE},{_SHAPE},"data_offsets":{offsets}', data)


def _two(second: dict[str, Any], data: int) -> bytes:
    return safetensors({"a": described(), "b": second}, data)


SAFETENSORS: dict[str, Case] = {
    "empty": Case(b"", "it has 0 bytes"),
    "seven bytes": Case(b"\1" + bytes(6), "it has 7 bytes"),
    "terabyte of zeros": Case(b"", "does not start with a brace", TERABYTE),
    "header of no length": Case(struct.pack("<Q", 0), "does not start with a brace"),
    "header of 2^63 bytes": Case(safetensors("{}", length=1 << 63), "9,223,372,036,854,775,808"),
    "header of 2^64 - 1 bytes": Case(safetensors("{}", length=(1 << 64) - 1), "18,446,744,073,709"),
    "header longer than the file": Case(safetensors("{}", length=3), "a header of 3 bytes in a f"),
    "header of 100 MB": Case(
        safetensors("{}", length=100_000_000), "a header of 100,000,000 bytes, more than", 101 << 20
    ),
    "header cut short": Case(WHOLE[:40], "not whole"),
    "header that is not UTF-8": Case(safetensors(b'{"\xff":1}'), "a header that is not UTF-8"),
    "byte order mark": Case(safetensors("\ufeff{}"), "does not start with a brace"),
    "space before the header": Case(safetensors(" {}"), "does not start with a brace"),
    "array for a header": Case(safetensors("[]"), "does not start with a brace"),
    "pickle": Case(b"\x80\x04\x95" + bytes(61), "no safetensors file or not whole"),
    "no JSON": Case(safetensors("{a}"), "a header that is not JSON"),
    "two objects": Case(safetensors("{}{}"), "a header that is not JSON"),
    "line end behind the header": Case(safetensors("{}\n"), "something behind the object"),
    "nested deeply": Case(safetensors('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "too deeply"),
    "half a million objects": Case(
        safetensors('{"a":[' + "{}," * 500_000 + "{}]}"), "a header of more than 500,000 values"
    ),
    "tensor twice": Case(
        safetensors(
            '{"a":' + json.dumps(described()) + ',"a":' + json.dumps(described()) + "}", 16
        ),
        "the key 'a' twice",
    ),
    "field twice": Case(_raw(f"{_TYPE},{_SHAPE},{_SHAPE},{_OFFSETS}"), "the key 'shape' twice"),
    "key of the metadata twice": Case(
        safetensors('{"__metadata__":{"a":"b","a":"c"}}'), "the key 'a' twice"
    ),
    "NaN": Case(_shaped("[NaN]"), "has 'NaN' in its header"),
    "infinity": Case(_shaped("[-Infinity]"), "has '-Infinity' in its header"),
    "fraction": Case(_shaped("[2.0,2]"), "has '2.0' in its header"),
    "exponent": Case(_shaped("[4e0]"), "has '4e0' in its header"),
    "negative dimension": Case(_shaped("[-2,-2]"), "the negative number '-2'"),
    "bool for a dimension": Case(_shaped("[true,4]"), "shape or offsets are not whole numbers"),
    "text for a shape": Case(_shaped('"22"'), "shape or offsets are not whole numbers"),
    "number of a million digits": Case(_shaped("[" + "9" * 1_000_000 + "]"), "beyond 63 bits"),
    "2^63": Case(_shaped("[9223372036854775808]"), "a number beyond 63 bits"),
    "product that overflows": Case(_shaped("[4294967296,4294967296,4294967296]"), "size is beyond"),
    "size that overflows": Case(_shaped("[4611686018427387908]"), "size is beyond 63 bits"),
    "seventeen dimensions": Case(_shaped("[" + "1," * 16 + "4]"), "with 17 dimensions"),
    "another size than its shape": Case(_shaped("[2,3]"), "16 bytes, which is not its size"),
    "half a byte": Case(
        safetensors({"a": described([3], [0, 1], "F4")}, 1), "1 bytes, which is not its size"
    ),
    "unknown type": Case(safetensors({"a": described(kind="F128")}, 16), "the unknown type 'F128'"),
    "number for a type": Case(safetensors({"a": described(kind=4)}, 16), "the unknown type '4'"),
    "missing field": Case(_raw(f"{_TYPE},{_SHAPE}"), "describes its tensor 'a' with something els"),
    "field too many": Case(
        safetensors({"a": described(strides=[2, 1])}, 16), "describes its tensor 'a' with something"
    ),
    "number for a tensor": Case(
        safetensors({"a": 1}), "describes its tensor 'a' with something els"
    ),
    "three offsets": Case(_placed("[0,16,16]"), "the impossible offsets '(0, 16, 16)'"),
    "offsets turned round": Case(_placed("[16,0]"), "the impossible offsets '(16, 0)'"),
    "tensor beyond the file": Case(_placed("[0,16]", data=8), "does not hold the 16 bytes of its"),
    "offset beyond the file": Case(
        _placed("[1099511627776,1099511627792]"), "does not hold the 16 bytes of its"
    ),
    "data that starts late": Case(_placed("[8,24]", data=24), "a hole of 8 bytes before 'a'"),
    "hole between tensors": Case(
        _two(described(offsets=[24, 40]), 40), "a hole of 8 bytes before 'b'"
    ),
    "tensors that overlap": Case(_two(described(offsets=[8, 24]), 24), "tensor 'b' over another"),
    "two tensors in one place": Case(_two(described(), 16), "tensor 'b' over another"),
    "zip behind the data": Case(WHOLE + b"PK\5\6" + bytes(18), "has 22 bytes behind its last"),
    "terabyte behind the data": Case(WHOLE, "bytes behind its last tensor", TERABYTE),
    "metadata that is a list": Case(
        safetensors({"__metadata__": []}), "__metadata__ that is no obj"
    ),
    "number in the metadata": Case(
        safetensors({"__metadata__": {"a": 1}}), "something else than a text in its __metadata__"
    ),
    "half a character in the metadata": Case(
        safetensors('{"__metadata__":{"a":"\\ud800"}}'), "half a character in its __metadata__"
    ),
    "name with a zero": Case(safetensors({"a\0b": described()}, 16), "cannot be printed or is too"),
    "name of half a character": Case(
        safetensors({"\udc80": described()}, 16), "cannot be printed or is too long: '\\udc80'"
    ),
    "name without a letter": Case(
        safetensors({"": described()}, 16), "cannot be printed or is too"
    ),
    "name of 513 letters": Case(safetensors({"a" * 513: described()}, 16), "is too long: 'aaaaaaa"),
    "name that climbs": Case(safetensors({"../../etc/a": described()}, 16), "named like a path"),
    "name from the root": Case(safetensors({"/etc/passwd": described()}, 16), "named like a path"),
    "name with backslashes": Case(safetensors({"..\\a": described()}, 16), "named like a path"),
}
"""By the kind's name."""
