"""The opcodes of Python's pickles, read as leniently as any unpickler reads them, from a file of any length.

`pickletools` refuses arguments that CPython takes (`I0x10`, texts that are not ASCII, a last line without its end), and
what it refuses hides all that follows. Here an opcode's argument has a length and nothing else can be wrong with it, so
that these opcodes go on wherever some unpickler would.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping

import msgspec

Fetch = Callable[[int, int], bytes]
"""Gives up to so many bytes (the second) from a place (the first); fewer only at the end."""

MOST_READ = 96 * 1024 * 1024
"""Bytes that are read for the opcodes of one file."""
KEPT = 200
"""Bytes of an argument that are kept."""
_WHOLE = re.compile(rb"\s*[+-]?\s*[0-9]")
_NUMBER = re.compile(rb"\s*[+-]?(?:[0-9.]|inf|nan)", re.IGNORECASE)
_QUOTED = re.compile(rb"\s*['\"]")
_BEGINS: Mapping[str, re.Pattern[bytes]] = {
    "INT": _WHOLE,
    "LONG": _WHOLE,
    "GET": _WHOLE,
    "PUT": _WHOLE,
    "FLOAT": _NUMBER,
    "STRING": _QUOTED,
}
"""How arguments that are lines begin where any unpickler takes them; prose does so rarely."""
_PIECE = 4096
_LONG_PIECE = 1024 * 1024


class Limit(Exception):
    """More would have to be read than is."""


class Opcode(msgspec.Struct, frozen=True, kw_only=True):
    """How an opcode reads its argument, and what it does to the stack.

    Attributes:
        name: as in `pickletools`.
        lines: that its argument takes.
        fixed: bytes that its argument takes.
        counted: bytes of the length that comes before its argument.
        cuts: whether it takes everything down to the last mark.
        takes: things from the stack, below that mark.
        gives: things to the stack, True for a mark.
    """

    name: str
    lines: int
    fixed: int
    counted: int
    cuts: bool
    takes: int
    gives: tuple[bool, ...]


def _opcode(info: pickletools.OpcodeInfo) -> Opcode:
    length = info.arg.n if info.arg is not None else 0
    counted = {
        pickletools.TAKEN_FROM_ARGUMENT1: 1,
        pickletools.TAKEN_FROM_ARGUMENT4: 4,
        pickletools.TAKEN_FROM_ARGUMENT4U: 4,
        pickletools.TAKEN_FROM_ARGUMENT8U: 8,
    }
    mark = pickletools.markobject
    cuts = mark in info.stack_before
    return Opcode(
        name=info.name,
        lines=0 if length != pickletools.UP_TO_NEWLINE else 1 + (info.name in ("GLOBAL", "INST")),
        fixed=max(length, 0),
        counted=counted.get(length, 0),
        cuts=cuts,
        takes=info.stack_before.index(mark) if cuts else len(info.stack_before),
        gives=tuple(kind is mark for kind in info.stack_after),
    )


OPCODES: Mapping[int, Opcode] = {
    info.code.encode("latin-1")[0]: _opcode(info) for info in pickletools.opcodes
}
"""All of them, by their byte."""


class Taker:
    """Takes opcodes and arguments one after the other.

    Args:
        fetch: gives the bytes.
        start: where the first opcode lies.

    Attributes:
        at: where the next byte lies.
    """

    def __init__(self, fetch: Fetch, start: int) -> None:
        self.at = start
        self._fetch = fetch
        self._held, self._from = b"", start
        self._read = 0

    def opcode(self) -> Opcode | None:
        """The next opcode, None where there is none."""
        if not 0 <= self.at - self._from < len(self._held) and not self._more(_PIECE):
            return None
        found = OPCODES.get(self._held[self.at - self._from])
        self.at += found is not None
        return found

    def argument(self, opcode: Opcode) -> tuple[bytes, ...] | None:
        """The start of the opcode's argument, of each line of it; None where there is none that an unpickler takes."""
        if opcode.lines:
            lines = tuple(self._line() for _ in range(opcode.lines))
            begin = _BEGINS.get(opcode.name)
            fits = begin is None or len(lines[0]) == KEPT or begin.match(lines[0]) is not None
            return lines if fits else None
        length = opcode.fixed
        if opcode.counted:
            raw = self._take(opcode.counted)
            if raw is None:
                return None
            length = int.from_bytes(raw, "little")
        taken = self._take(length) if length else b""
        return None if taken is None else (taken,)

    def _take(self, length: int) -> bytes | None:
        kept = min(length, KEPT)
        begin = self.at - self._from
        if begin + kept > len(self._held) and self._more(_PIECE) < kept:
            return None
        begin = self.at - self._from
        taken = self._held[begin : begin + kept]
        self.at += length
        if length > kept and not self._fetch(self.at - 1, 1):
            return None
        return taken

    def _line(self) -> bytes:
        """The start of the rest of the line, as far as the bytes go."""
        kept, piece = b"", _PIECE
        while True:
            begin = self.at - self._from
            if begin >= len(self._held):
                if not self._more(piece):
                    return kept[:KEPT]
                begin, piece = 0, _LONG_PIECE
            end = self._held.find(b"\n", begin)
            stop = len(self._held) if end < 0 else end
            if len(kept) < KEPT:
                kept += self._held[begin : min(stop, begin + KEPT)]
            self.at = self._from + stop + (end >= 0)
            if end >= 0:
                return kept[:KEPT]

    def _more(self, length: int) -> int:
        """Hold what comes next; how much that is."""
        self._held, self._from = self._fetch(self.at, length), self.at
        self._read += len(self._held)
        if self._read > MOST_READ:
            raise Limit
        return len(self._held)
