"""The walk through pickles, beside Python's own unpicklers: what one of them would import is found."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malformed.hostile_pickles import PICKLES
from rung.models.scan.pickles import begun, of_bytes

PIECES = [
    b"N", b"0", b"1", b"2", b"(", b")", b"]", b"}", b"l", b"t", b"d", b"a", b"e", b"s", b"u", b".", b"\x94", b"\x85",
    b"I0x10\n", b"I 7\n", b"I1_0\n", b"L0b1L\n", b"F 1e3\n", b"Finf\n", b"S'a'\n", b'S"\\x41"\n', b"S'\xff'\n",
    b"Vt\xc3\xa9xt\n", b"Pid\n", b"p0\n", b"p 1\n", b"g0\n", b"q\x00", b"h\x00", b"K\x01", b"M\x01\x02", b"J\0\0\0\0",
    b"G\0\0\0\0\0\0\0\0", b"U\x02os", b"T\x02\0\0\0os", b"X\x06\0\0\0getcwd", b"\x8c\x02os", b"\x8d\x01\0\0\0\0\0\0\0x",
    b"C\x01x", b"B\x01\0\0\0x", b"\x8a\x01\x07", b"\x8b\x01\0\0\0\x07", b"\x80\x02", b"\x80\x04", b"\x88", b"\x8f",
    b"\x90", b"\x91", b"\x95\x00\0\0\0\0\0\0\0", b"cos\ngetcwd\n", b"ios\ngetcwd\n", b"\x93", b"R", b"b", b"o", b"\x81",
]  # fmt: skip
"""Opcodes with arguments in every notation."""


class _Asked(Exception):
    """An unpickler asked for something."""


def _asked(module: str, name: str) -> Any:  # Any: as `find_class` says
    if not all(part.isidentifier() for part in module.split(".")):
        raise ImportError(module)
    raise _Asked(module, name)


class _Fast(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _asked(module, name)


class _Slow(pickle._Unpickler):  # type: ignore[misc]  # the one in Python has no other name
    def find_class(self, module: str, name: str) -> Any:
        return _asked(module, name)


def imports(content: bytes) -> bool:
    """Whether one of Python's unpicklers would import something; none gets to."""
    for kind in (_Fast, _Slow):
        for encoding in ("ASCII", "latin1"):
            if _raises(kind, content, encoding):
                return True
    return False


def _raises(kind: type[pickle.Unpickler], content: bytes, encoding: str) -> bool:
    try:
        kind(io.BytesIO(content), encoding=encoding).load()
    except _Asked:
        return True
    except Exception:  # noqa: BLE001  # what unpicklers raise over damage is anything
        return False
    return False


@pytest.mark.parametrize("name", PICKLES)
def test_what_an_unpickler_imports_is_found_from_the_first_byte_on(name: str) -> None:
    """For every kind of hostile pickle."""
    if imports(PICKLES[name]):
        assert begun(of_bytes(PICKLES[name]))


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=14),
    change=st.none() | st.tuples(st.integers(0, 60), st.integers(0, 255)),
)
def test_no_order_of_opcodes_hides_an_import(
    pieces: list[bytes], change: tuple[int, int] | None
) -> None:
    """Nor a changed byte in it."""
    content = bytearray(b"".join(pieces) + b"cos\ngetcwd\n)R.")
    if change is not None:
        content[change[0] % len(content)] = change[1]
    if imports(bytes(content)):
        assert begun(of_bytes(bytes(content)))
