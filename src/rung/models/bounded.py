"""A model file read from its start, no further than its header may reach; what the bytes mean is `metadata`'s.

The file is not trusted: a length in it is compared with what is left before it is used, and nothing is mapped into
memory, because a mapped file that someone shortens ends the process. The bytes may come from a disk or from anywhere
else that gives them in order.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rung.errors import ModelError

HEADER_BYTES = 64 * 1024 * 1024
"""Longest header accepted; vocabularies of some hundred thousand tokens take a sixth of it."""
TEXT_BYTES = 4 * 1024 * 1024
"""Longest text accepted; chat templates, the longest that occur, are some kilobytes."""

KEPT_TEXT_BYTES = 16 * 1024 * 1024
"""All texts that are kept, together: decoded they take up to four times as much memory."""
SKIPPED_TEXTS = 2 * 1024 * 1024
"""Texts stepped over in one header; the largest vocabularies have 0.8 million tokens and merges."""

Number = int | float | bool
Read = Callable[[int], bytes]
"""Gives the next bytes of a file, at most as many as asked for and none only at its end."""

_PIECE = 1024 * 1024  # divides HEADER_BYTES, so that no more than that is ever held
_COUNT = struct.Struct("<Q")
_ANOTHER = "download or convert it again, or choose another file"
_FOREIGN = "choose another file, and let no program load this one"


def facts_of(path: Path) -> os.stat_result:
    """What the system says of a model file.

    Raises:
        ModelError: there is none, it is no regular file, or it may not be looked at.
    """
    try:
        facts = path.stat()
    except FileNotFoundError as error:
        raise ModelError(
            f"the model file {str(path)!r} does not exist", hint="check the path"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error}", hint="check the path"
        ) from error
    if not stat.S_ISREG(facts.st_mode):
        raise ModelError(
            f"the model {str(path)!r} is not a regular file", hint="name one .gguf file"
        )
    return facts


@contextmanager
def opened(path: Path) -> Iterator[BoundedReader]:
    """Open a model file for as long as its header is read.

    Raises:
        ModelError: there is none, it is no regular file, or it may not be read.
    """
    facts_of(path)  # asked before: opening a pipe waits for somebody to write to it
    try:
        with path.open("rb") as file:
            yield BoundedReader(str(path), os.fstat(file.fileno()).st_size, file.read, here=True)
    except OSError as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error.strerror or error}",
            hint="check its permissions",
        ) from error


class BoundedReader:
    """Takes values one after the other; every method raises `ModelError` where the file or the bounds end.

    Args:
        name: of the file, for messages.
        size: of the file, in bytes.
        read: gives its bytes from the start on; what it raises passes through.
        here: whether the name is the path of a file on this machine.

    Attributes:
        size: of the file, in bytes.
        at: bytes taken so far, which is also where the next value starts in the file.
    """

    def __init__(self, name: str, size: int, read: Read, *, here: bool = False) -> None:
        self.size = size
        self.at = 0
        self._name = name
        self._here = here
        self._read = read
        self._held = bytearray()
        self._kept_text = 0
        self._skipped_texts = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self.skip(count)
        return bytes(self._held[start : self.at])

    def count(self) -> int:
        """The next length, 64 bits wide."""
        value: int = _COUNT.unpack_from(self._held, self.skip(_COUNT.size))[0]
        return value

    def number(self, letter: str) -> Number:
        """The next number, `letter` as in `struct`."""
        return self.numbers(letter)[0]

    def numbers(self, layout: str) -> tuple[Number, ...]:
        """The next numbers, `layout` as in `struct` (`4Q`), packed without gaps."""
        form = "<" + layout
        start = self.skip(struct.calcsize(form))
        values: tuple[Number, ...] = struct.unpack_from(form, self._held, start)
        return values

    def text(self) -> str:
        """The next text; bytes that are no UTF-8 are replaced."""
        return self._text().decode(errors="replace")

    def name(self, what: str, longest: int) -> str:
        """The next text, which names something: no longer than `longest` bytes and without control characters."""
        raw = self._text()
        if len(raw) > longest:
            raise self.damaged(
                f"has {what} of {len(raw):,} bytes in its header, longer than {longest:,}"
            )
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise self.damaged(f"has {what} in its header that is not UTF-8") from None
        if not name or not name.isprintable():
            raise self.damaged(f"has {what} in its header that cannot be printed: {name!r}")
        return name

    def skip_texts(self, count: int) -> None:
        """Step over texts without making them."""
        self._skipped_texts += count
        if self._skipped_texts > SKIPPED_TEXTS:
            raise self.damaged(f"has more than {SKIPPED_TEXTS:,} texts in its header")
        held, at, length = self._held, self.at, _COUNT.unpack_from
        last = len(held) - _COUNT.size
        for _ in range(count):  # written out: a vocabulary has hundreds of thousands
            if at > last:
                self._hold(at + _COUNT.size)
                last = len(held) - _COUNT.size
            at += _COUNT.size + length(held, at)[0]
        self.skip(at - self.at)

    def digest(self, start: int) -> bytes:
        """SHA-256 of what was taken from `start` on."""
        with memoryview(self._held) as held, held[start : self.at] as taken:
            return hashlib.sha256(taken).digest()

    def skip(self, count: int) -> int:
        """Step over the next `count` bytes.

        Returns:
            Where they start; they are held until the reader is gone.
        """
        start, end = self.at, self.at + count
        if end > len(self._held):
            self._hold(end)
        self.at = end
        return start

    def check_room(self, count: int, size: int, what: str) -> None:
        """Refuse a number of things, each of at least `size` bytes, that cannot follow."""
        if count * size > HEADER_BYTES:
            raise self.damaged(f"has {count:,} {what} in its header, which cannot fit in it")
        if self.at + count * size > self.size:
            raise self._cut_short()

    def check_count(self, count: int, most: int, what: str) -> None:
        """Refuse a number of things that is beyond what any model has."""
        if count > most:
            raise self.damaged(f"has {count:,} {what} in its header, more than {most:,}")

    def damaged(self, what: str, *, hint: str = _ANOTHER) -> ModelError:
        """The file, and what is wrong with it."""
        return ModelError(f"the model file {self._name!r} {what}", hint=hint)

    def foreign(self, what: str) -> ModelError:
        """The file, and that it is something else than a model or holds something besides: what, a scan tells."""
        look = f"see what it is, before any program loads it: rung scan {self._name}"
        return self.damaged(what, hint=look if self._here else _FOREIGN)

    def _cut_short(self) -> ModelError:
        return self.damaged(
            f"ends inside its header, after {self.size} bytes: it is incomplete or damaged"
        )

    def _text(self) -> bytearray:
        length = self.count()
        if length > TEXT_BYTES:
            raise self.damaged(f"has a text of {length:,} bytes in its header")
        self._kept_text += length
        if self._kept_text > KEPT_TEXT_BYTES:
            raise self.damaged(f"has texts of more than {KEPT_TEXT_BYTES:,} bytes in its header")
        start = self.skip(length)
        return self._held[start : self.at]

    def _hold(self, end: int) -> None:
        """Read on until the first `end` bytes are held."""
        if end > self.size:
            raise self._cut_short()
        if end > HEADER_BYTES:
            raise self.damaged(f"has a header of more than {HEADER_BYTES:,} bytes")
        while len(self._held) < end:
            piece = self._read(_PIECE)
            if not piece:
                raise self.damaged("became shorter while it was read")
            self._held += piece
