"""Kinds of file that are blocked, by the bytes they begin with; what is inside some of them is other modules' to say.

The tables only put a name to what is blocked anyway: a file that is in none of them is not accepted for that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from rung.models.scan.content import Content


class Kind(msgspec.Struct, frozen=True):
    """A kind of file.

    Attributes:
        rule: of the finding.
        format: its name in words.
        why: why it is not accepted, as a clause after "it".
    """

    rule: str
    format: str
    why: str


def _archive(format: str) -> Kind:
    return Kind("archive", format, "may hold anything, and archives are never unpacked")


def _program(format: str) -> Kind:
    return Kind("executable", format, "is code and never loaded")


def _other(format: str) -> Kind:
    return Kind("not-accepted", format, "is no format that is loaded")


ZIP = _archive("zip archive")
TAR = _archive("tar archive")
HDF5 = Kind("keras", "HDF5 file", "can hold Keras layers made of Python code")
NUMPY = Kind("numpy", "NumPy array", "can hold pickled objects")
ONNX = Kind("onnx", "ONNX model", "can name other files and operators for its data")
SAVED_MODEL = Kind(
    "tensorflow", "TensorFlow SavedModel", "can hold operators that read and write files"
)
_OLD_GGML = _other("ggml model of before GGUF")
UNKNOWN = Kind("unknown", "unknown", "is none of the formats that are accepted")

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_STARTS: Sequence[tuple[bytes, Kind]] = (
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"PK\x07\x08", ZIP),
    (b"7z\xbc\xaf\x27\x1c", _archive("7z archive")),
    (b"Rar!\x1a\x07", _archive("RAR archive")),
    (b"\x1f\x8b\x08", _archive("gzip stream")),
    (b"\x1f\x9d", _archive("compress stream")),
    (b"BZh", _archive("bzip2 stream")),
    (b"\xfd7zXZ\0", _archive("xz stream")),
    (b"\x5d\0\0", _archive("LZMA stream")),
    (b"\x28\xb5\x2f\xfd", _archive("Zstandard stream")),
    (b"\x04\x22\x4d\x18", _archive("LZ4 stream")),
    (b"MSCF", _archive("cabinet archive")),
    (b"!<arch>\n", _archive("ar archive")),
    (b"070701", _archive("cpio archive")),
    (b"\x7fELF", _program("ELF program")),
    (b"MZ", _program("Windows program")),
    (b"\xfe\xed\xfa\xce", _program("Mach-O program")),
    (b"\xfe\xed\xfa\xcf", _program("Mach-O program")),
    (b"\xce\xfa\xed\xfe", _program("Mach-O program")),
    (b"\xcf\xfa\xed\xfe", _program("Mach-O program")),
    (b"\xca\xfe\xba\xbe", _program("Mach-O or Java program")),
    (b"\0asm", _program("WebAssembly program")),
    (b"#!", _program("script")),
    (b"\x93NUMPY", NUMPY),
    (_HDF5_SIGNATURE, HDF5),
    (b"SQLite format 3\0", _other("SQLite database")),
    (b"%PDF-", _other("PDF document")),
    (b"\x89PNG\r\n\x1a\n", _other("PNG image")),
    (b"\xff\xd8\xff", _other("JPEG image")),
    (b"GIF8", _other("GIF image")),
    (b"\xd0\xcf\x11\xe0", _other("OLE document")),
    (b"PAR1", _other("Parquet table")),
    (b"ARROW1", _other("Arrow table")),
    (b"tjgg", _OLD_GGML),
    (b"fmgg", _OLD_GGML),
    (b"lmgg", _OLD_GGML),
)
_FIRST_HDF5 = 512
_BLOCK = 512
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[ \0]*([0-7]+)(?:[ \0].*)?", re.DOTALL)
_TAR = (257, b"ustar")
_TFLITE = (4, b"TFL3")
_BYTECODE = (2, b"\r\n")
_ONNX = re.compile(rb"\x08[\x01-\x20](?:\x12[\x01-\x40][\x20-\x7e]|:)")  # ir_version, producer_name
_SAVED_MODEL = re.compile(
    rb"\x08\x01\x12[\x80-\xff]"
)  # schema version 1, a graph of more than 127 bytes
_PYTHON_BYTECODE = _program("Python bytecode")


def recognised(content: Content) -> Kind | None:
    """The kind of a file that is not accepted, None when its first bytes tell of none."""
    kind = of_start(content.head) or _by_place(content)
    return HDF5 if kind is None and hdf5_at(content) is not None else kind


def of_start(head: bytes) -> Kind | None:
    """The kind by the very first bytes."""
    return next((kind for magic, kind in _STARTS if head.startswith(magic)), None)


def is_tar(head: bytes) -> bool:
    """Whether the first block is a tar archive's, by its checksum, which is all that readers go by."""
    block = head[:_BLOCK]
    field = block[_CHECKSUM]
    if len(block) < _BLOCK or not block.strip(b"\0"):
        return False
    if field[:1] in (b"\x80", b"\xff"):
        said = int.from_bytes(field[1:], "big", signed=field[:1] == b"\xff")
    elif digits := _OCTAL.fullmatch(field):
        said = int(digits[1], 8)
    else:
        return False
    rest = block[: _CHECKSUM.start] + b" " * len(field) + block[_CHECKSUM.stop :]
    signed = sum(rest) - 256 * sum(byte > 0x7F for byte in rest)
    return said in (sum(rest), signed)


def hdf5_at(content: Content) -> int | None:
    """Where an HDF5 file begins behind a block of its user's: at 512 bytes or any doubling of that."""
    at = _FIRST_HDF5
    while at < content.size:
        if content.at(at, len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE:
            return at
        at *= 2
    return None


def _by_place(content: Content) -> Kind | None:
    head = content.head
    if _at(head, _TAR) or is_tar(head):
        return TAR
    if _at(head, _TFLITE):
        return _other("TensorFlow Lite model")
    if _at(head, _BYTECODE) and head[4:8] in (b"\0\0\0\0", b"\1\0\0\0", b"\3\0\0\0"):
        return _PYTHON_BYTECODE
    if _SAVED_MODEL.match(head):
        return SAVED_MODEL
    return ONNX if _ONNX.match(head) else None


def _at(head: bytes, place: tuple[int, bytes]) -> bool:
    start, magic = place
    return head[start : start + len(magic)] == magic
