"""Archives and what hides behind them: encrypted, nested, bombs, and files that are two things at once."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

from malformed.gguf_cases import WHOLE as GGUF
from malformed.gguf_parts import TEXT, entry, front, gguf, number, tensor, text, word
from malformed.hostile_pickles import PICKLES, call, zipped
from malformed.safetensors_cases import WHOLE as SAFETENSORS

_SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c\x00\x04" + b"\0" * 24
_ZIP = zipped({"data.pkl": call("os", "getcwd")})


def _encrypted() -> bytes:
    """An archive whose flags say that it is encrypted, in both places."""
    raw = bytearray(zipped({"model.gguf": b"x" * 40}))
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(magic) + flags] |= 1
    return bytes(raw)


def _renamed() -> bytes:
    """An archive whose list of contents has another name than the file itself."""
    raw = zipped({"data.pkl": call("os", "getcwd")})
    at = raw.rindex(b"data.pkl")
    return raw[:at] + b"data.txt" + raw[at + 8 :]


def _flagged() -> bytes:
    """An archive that is encrypted by its list of contents only, which stops some scanners and no loader."""
    raw = bytearray(zipped({"data.pkl": call("os", "getcwd")}))
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def _tar(names: dict[str, bytes], link: str | None = None) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return target.getvalue()


def _nested(depth: int) -> bytes:
    content = call("os", "getcwd")
    for level in range(depth):
        content = zipped({f"{level}.zip": content})
    return content


def _lying(entries: int) -> bytes:
    """An end of archive that promises entries which are not there."""
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, entries, entries, 1 << 31, 0, 0)


ARCHIVES: dict[str, bytes] = {
    "zip": zipped({"a.txt": b"text"}),
    "empty zip": _lying(0)[:12] + b"\0" * 10,
    "encrypted zip": _encrypted(),
    "zip with another name inside": _renamed(),
    "zip that is encrypted in one place": _flagged(),
    "zip without its end": _ZIP[:-22],
    "zip that promises too much": b"PK\x03\x04" + b"\0" * 30 + _lying(60_000),
    "zip with paths that lead out": zipped({"../../outside": b"x", "/etc/cron.d/x": b"x"}),
    "zip of many files": zipped({f"{number}.txt": b"" for number in range(12_000)}),
    "zip bomb": zipped({"bomb": b"\0" * 30_000_000}, zipfile.ZIP_DEFLATED),
    "nested zips": _nested(20),
    "zip with a 7z inside": zipped({"model.bin": _SEVEN_ZIP}),
    "keras": zipped({"config.json": b'{"class_name": "Lambda"}', "metadata.json": b"{}", "model.weights.h5": b""}),
    "7z": _SEVEN_ZIP,
    "7z behind a torch name": _SEVEN_ZIP + PICKLES["protocol 2"],
    "rar": b"Rar!\x1a\x07\x01\0" + b"\0" * 20,
    "gzip": b"\x1f\x8b\x08\0" + b"\0" * 20,
    "bzip2": b"BZh91AY&SY" + b"\0" * 20,
    "xz": b"\xfd7zXZ\0" + b"\0" * 20,
    "zstd": b"\x28\xb5\x2f\xfd" + b"\0" * 20,
    "lz4": b"\x04\x22\x4d\x18" + b"\0" * 20,
    "tar": _tar({"a.txt": b"text"}),
    "tar with paths that lead out": _tar({"../a": b"x"}, link="/etc/passwd"),
    "tar of pickles": _tar({"pickle": PICKLES["protocol 2"]}),
}  # fmt: skip
"""Every kind by its name."""


def _in_padding(hidden: bytes) -> bytes:
    """A GGUF with something in the padding between two tensors."""
    entries = [word("general.architecture", "llama"), number("general.alignment", 4096)]
    tensors = [tensor("a"), tensor("b", offset=4096)]
    data = (bytes(32) + hidden).ljust(4096, b"\0") + bytes(4096)
    return gguf(entries, tensors, data=data, alignment=4096)


def _before_the_data(hidden: bytes) -> bytes:
    """A GGUF with something between its header and its first tensor."""
    entries = [word("general.architecture", "llama"), number("general.alignment", 4096)]
    raw = bytearray(gguf(entries, [tensor("a")], data=bytes(4096), alignment=4096))
    raw[4096 - len(hidden) : 4096] = hidden
    return bytes(raw)


def _in_weights() -> bytes:
    """A GGUF with an archive as weights, whose comment is the rest of the file."""
    archive = bytearray(_ZIP)
    struct.pack_into("<H", archive, len(archive) - 2, 1024 - len(archive))
    entries = [word("general.architecture", "llama")]
    return gguf(entries, [tensor("a", (256,))], data=bytes(archive).ljust(1024, b"\1"))


def _as_pickle() -> bytes:
    """A GGUF of so many tensors that an unpickler takes its count for the opcode of a text, and goes on behind it."""
    entries = [
        word("general.architecture", "llama"),
        word("general.description", "text\n0cos\ngetcwd\n(tR. and more"),
    ]
    count = 0x5600  # 0x56 is V
    tensors = [tensor(f"t{number}", offset=32 * number) for number in range(count)]
    return gguf(entries, tensors, data=bytes(32 * count))


def _weights_as_pickle() -> bytes:
    """A safetensors whose length an unpickler takes for the opcode of a text, and whose weights it runs."""
    payload = b"0cos\ngetcwd\n(tR."
    said = f'{{"a":{{"dtype":"U8","shape":[{len(payload)}],"data_offsets":[0,{len(payload)}]}}'
    header = said.encode().ljust(0x56 - 2) + b"\n}"
    return struct.pack("<Q", len(header)) + header + payload


def _as_tar(old: bool) -> bytes:
    """A GGUF whose first 512 bytes are a tar's header, with the files of old PyTorch archives behind it."""
    head = (
        front(version=3, tensors=1, entries=2)
        + text("general.description")
        + struct.pack("<I", TEXT)
    )
    files = _tar({"storages": _CALLED, "tensors": _CALLED, "pickle": _CALLED})
    block = bytearray(head + struct.pack("<Q", 512 - len(head) - 8 + len(files))).ljust(512, b"\0")
    block[100:148] = b"0000644\0" + b"0000000\0" * 2 + b"00000000000\0" * 2
    block[156:157] = b"0"
    block[257:265] = bytes(8) if old else b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    made = bytes(block) + files + word("general.architecture", "llama") + tensor("a.weight")
    return made + bytes(-len(made) % 32) + bytes(32)


def _with_hdf5(at: int) -> bytes:
    """A GGUF with an HDF5 file in one of its texts, where readers look for it."""
    key = "general.description"
    value = b"x" * (at - 24 - 8 - len(key) - 4 - 8) + b"\x89HDF\r\n\x1a\n" + bytes(100)
    entries = [entry(key, TEXT, text(value)), word("general.architecture", "llama")]
    return gguf(entries, [tensor("a")])


def _wide_zip(base: int) -> bytes:
    """A 64-bit zip archive, with more in its record than most have, to stand at a place of a file."""
    end = _ZIP.rindex(b"PK\x05\x06")
    count, length, offset = struct.unpack("<HLL", _ZIP[end + 10 : end + 20])
    listing = bytearray(_ZIP[end - length : end])
    struct.pack_into("<L", listing, 42, base)
    extra = b"\x99\x99" + struct.pack("<L", 200) + bytes(200)
    made = _ZIP[:offset] + bytes(listing)
    fields = (44 + len(extra), 45, 45, 0, 0, count, count, length, base + offset)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", *fields) + extra
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, base + len(made), 1)
    most = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    return made + wide + locator + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *most, 0)


def _in_wide_weights() -> bytes:
    """A GGUF whose weights end in a 64-bit archive."""
    room = -(-len(_wide_zip(0)) // 32) * 32
    entries = [word("general.architecture", "llama")]
    whole = gguf(entries, [tensor("a", (room // 4,))], data=bytes(room))
    archive = _wide_zip(len(whole) - len(_wide_zip(0)))
    return whole[: -len(archive)] + archive


_CALLED = PICKLES["protocol 2"]
POLYGLOTS: dict[str, bytes] = {
    "gguf that is a pickle": _as_pickle(),
    "safetensors that are a pickle": _weights_as_pickle(),
    "gguf that is a tar": _as_tar(old=False),
    "gguf that is a tar of before ustar": _as_tar(old=True),
    "gguf and hdf5": _with_hdf5(512),
    "gguf and hdf5 further on": _with_hdf5(8192),
    "gguf and a 64-bit zip in its weights": _in_wide_weights(),
    "gguf and zip": GGUF + _ZIP,
    "gguf and zip in its weights": _in_weights(),
    "gguf and pickle in its padding": _in_padding(PICKLES["protocol 2"]),
    "gguf and pickle before its data": _before_the_data(PICKLES["protocol 2"]),
    "gguf and pickle": GGUF + PICKLES["protocol 2"],
    "gguf and junk": GGUF + b"\x01" * 4096,
    "safetensors and zip": SAFETENSORS + _ZIP,
    "safetensors and pickle": SAFETENSORS + PICKLES["protocol 4"],
    "pickle and gguf": PICKLES["protocol 2"] + GGUF,
    "program and zip": b"#!/bin/sh\n" + _ZIP,
    "picture and zip": b"\x89PNG\r\n\x1a\n" + b"\0" * 64 + _ZIP,
    "json and zip": b'{"a": 1}\n' + _ZIP,
    "text and zip": b"just a text\n" + _ZIP,
}


def write(folder: Path, cases: dict[str, bytes], ending: str = "bin") -> dict[str, Path]:
    """Write a file of every case, by the case's name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, content in cases.items():
        paths[name] = folder / f"{name.replace(' ', '-').replace(',', '')}.{ending}"
        paths[name].write_bytes(content)
    return paths
