"""Python pickles written opcode by opcode: harmless names in the forms that real attacks have had.

What they name does nothing (`os.getcwd`, `builtins.print`) or does not exist; none of them is ever loaded.
"""

from __future__ import annotations

import io
import struct
import zipfile

STOP = b"."
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def call(module: str, name: str, *, protocol: int = 2, stop: bytes = STOP) -> bytes:
    """A pickle that calls something without arguments."""
    named = f"{module}\n{name}\n".encode()
    start = b"\x80" + bytes([protocol]) if protocol >= 2 else b""
    return start + b"c" + named + b")R" + stop


def stacked(module: str, name: str) -> bytes:
    """The same in protocol 4, where the name is taken from the stack."""
    texts = b"".join(
        b"\x8c" + bytes([len(text)]) + text.encode() + b"\x94" for text in (module, name)
    )
    body = texts + b"\x93\x94)R\x94."
    return b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return target.getvalue()


def _number(value: int) -> bytes:
    raw = value.to_bytes(10, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


_CALL = call("os", "getcwd")

_TEXT_CALL = b"cos\ngetcwd\n(tR."

PICKLES: dict[str, bytes] = {
    "protocol 0 as text": b"cos\ngetcwd\n(tR.",
    "protocol 1": b"cos\ngetcwd\n)R.",
    "protocol 2": _CALL,
    "protocol 3": call("builtins", "print", protocol=3),
    "protocol 4": stacked("os", "getcwd"),
    "a name that nobody lists": call("somewhere.unheard", "of_it"),
    "instance opcode": b"(S'x'\nios\ngetcwd\n.",
    "object opcode": b"\x80\x02(cos\ngetcwd\no.",
    "new object": b"\x80\x02cos\ngetcwd\n)\x81.",
    "build": b"\x80\x02cos\ngetcwd\n)\x81}b.",
    "an extension": b"\x80\x02\x82\x01)R.",
    "a name from the memo": b"\x80\x04\x8c\x02osq\x00\x8c\x06getcwdq\x01h\x00h\x01\x93)R.",
    "broken behind the call": call("os", "getcwd", stop=b"\xff\xff\xff"),
    "cut behind the call": call("os", "getcwd", stop=b""),
    "a stack that runs empty behind the call": call("os", "getcwd", stop=b"RRRR."),
    "junk behind it": _CALL + b"\0" * 100 + b"junk",
    "junk before it": b"\xde\xad\xbe\xef" * 8 + _CALL,
    "a hexadecimal number before it": b"I0x10\n0" + _TEXT_CALL,
    "text that is not ascii before it": b"S'\xc3\xa9'\n0" + _TEXT_CALL,
    "thousands of opcodes before it": b"N0" * 20_001 + _TEXT_CALL,
    "a long text before it": b"S'" + b"A" * (9 * 1024 * 1024) + b"'\n0" + _TEXT_CALL,
    "a long binary text before it": b"\x80\x04X\0\0\x90\0" + b"A" * (9 * 1024 * 1024) + b"0" + _TEXT_CALL,
    "a harmless text pickle before it": b"I1\n." + _TEXT_CALL,
    "many harmless ones before it": b"N." * 100 + _TEXT_CALL,
    "an identifier of something kept elsewhere before it": b"Pid\n0" + _TEXT_CALL,
    "a last line that does not end": b"cos\ngetcwd",
    "an import alone": b"cos\ngetcwd\nRest of the text\n",
    "more opcodes than are looked at": b"N0" * 200_000 + _TEXT_CALL,
    "more pickles than are looked at": b"N." * 100_000 + _TEXT_CALL,
    "a list of words that imports": b"cat\ndog\nRest\nNo\n.\n",
    "an empty pickle": b"\x80\x02N.",
    "a text of a terabyte": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x",
    "nested a million deep": b"\x80\x02" + b"(" * 1_000_000 + b".",
    "several in a row": b"\x80\x02" + _number(_TORCH_MAGIC) + b"." + b"\x80\x02M\xe9\x03." + _CALL,
    "torch": zipped({"model/data.pkl": _CALL, "model/version": b"3\n"}),
    "torch, deflated": zipped({"model/data.pkl": _CALL}, zipfile.ZIP_DEFLATED),
    "torchscript": zipped({"m/data.pkl": _CALL, "m/constants.pkl": b"\x80\x02).", "m/code/a.py": b"x"}),
    "numpy objects": (
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(79)
        + b"\n" + _CALL
    ),
    "in an array of arrays": zipped({"a.npy": b"\x93NUMPY\x01\x00", "b.npy": _CALL}),
}  # fmt: skip
"""Every kind by its name."""

NAMED = frozenset(PICKLES) - {
    "an empty pickle",
    "a text of a terabyte",
    "nested a million deep",
    "an extension",
    "more opcodes than are looked at",
    "more pickles than are looked at",
    "a list of words that imports",
}
"""The kinds that name something to call."""
