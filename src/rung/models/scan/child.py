"""The program that looks into files nobody trusts: a short-lived process under limits that end it and no other.

It reads a list of paths on stdin and writes a line for each on stdout as soon as it is known; a line that is not final
says what was found before a step that may be the last. `scanner` starts it and reads what it says.
"""

from __future__ import annotations

import os
import resource
import signal
import stat
import sys

import msgspec

from rung.models.scan.content import Content
from rung.models.scan.inspection import look_at
from rung.models.scan.report import Finding, Seen

MEMORY = 144 * 1024 * 1024
"""Bytes of address space, which is more than it ever needs of memory."""
WALL_S = 20.0
"""For one file; the largest headers take one or two."""
STEPS_S = 0.6
"""CPU seconds for what is told before: rendering chat templates, parsing a text as a program, a second opinion."""
_DESCRIPTORS = 64


class Job(msgspec.Struct, frozen=True):
    """What is to be looked at, each a path."""

    paths: tuple[bytes, ...]


class Line(msgspec.Struct, frozen=True):
    """What is known of one path.

    Attributes:
        seen: what it is.
        size: in bytes.
        final: whether that is all.
    """

    seen: Seen
    size: int
    final: bool


def inspect(path: bytes) -> Line:
    """Look at one file; what is found on the way is written to stdout."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return Line(_one("unreadable", f"a file that cannot be read: {error.strerror}"), 0, final=True)  # fmt: skip
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return Line(_one("special-file", "no regular file"), 0, final=True)
        return Line(_looked(Content(descriptor), facts.st_size), facts.st_size, final=True)
    except OSError as error:
        return Line(_one("unreadable", f"a file that cannot be read: {error.strerror}"), 0, final=True)  # fmt: skip
    finally:
        os.close(descriptor)


def _looked(content: Content, size: int) -> Seen:
    begun = False

    def tell(seen: Seen) -> None:
        nonlocal begun
        _write(Line(seen, size, final=False))
        if not begun:  # one allowance for all steps of a file
            signal.setitimer(signal.ITIMER_VIRTUAL, STEPS_S)
            begun = True

    try:
        return look_at(content, tell)
    except MemoryError:
        return _one("undecidable", "a file that takes too much memory to look at")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _one(rule: str, what: str) -> Seen:
    return Seen("unknown", (Finding(rule, what, "file"),))


def _write(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Look at the paths on stdin, in order, under limits."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    for path in msgspec.json.decode(sys.stdin.buffer.read(), type=Job).paths:
        signal.setitimer(signal.ITIMER_REAL, WALL_S)
        _write(inspect(path))


if __name__ == "__main__":
    main()
