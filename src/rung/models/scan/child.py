"""The program that looks into files nobody trusts: a short-lived process under limits that end it and no other.

It reads a list of paths on stdin and writes a line for each on stdout as soon as it is known; a line that is not final
says what was found before a step that may be the last. `scanner` starts it and reads what it says.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import stat
import sys
import time

import msgspec

from rung.models.scan.content import Content
from rung.models.scan.inspection import look_at
from rung.models.scan.isolation import isolate
from rung.models.scan.report import Finding, Seen

MEMORY = 144 * 1024 * 1024
"""Bytes of address space, which is more than it ever needs of memory."""
WALL_S = 10.0
"""For one file, most of which can only be waiting for a disk."""
LEAST_CPU_S = 0.6
"""CPU seconds for one file, from its first byte on; up to twice as much for one of `_LARGE` bytes and more, because the
longest headers and tokenizers take half a second."""
_LARGE = 32 * 1024 * 1024
_STARTS = 5
"""On a slow machine a file may take as long as starting this process so many times."""
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


def inspect(path: bytes, cpu: float) -> Line:
    """Look at one file; what is found on the way is written to stdout.

    Args:
        path: of the file.
        cpu: seconds that it may take, when it is small.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return Line(_one("unreadable", f"a file that cannot be read: {error.strerror}"), 0, final=True)  # fmt: skip
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return Line(_one("special-file", "no regular file"), 0, final=True)
        allowed = cpu * (1 + min(1.0, facts.st_size / _LARGE))
        signal.setitimer(signal.ITIMER_PROF, allowed)
        return Line(_looked(Content(descriptor), facts.st_size), facts.st_size, final=True)
    except OSError as error:
        return Line(_one("unreadable", f"a file that cannot be read: {error.strerror}"), 0, final=True)  # fmt: skip
    finally:
        os.close(descriptor)


def _looked(content: Content, size: int) -> Seen:
    def tell(seen: Seen) -> None:
        _write(Line(seen, size, final=False))

    try:
        return look_at(content, tell)
    except MemoryError:
        return _one("undecidable", "a file that takes too much memory to look at")


def _one(rule: str, what: str) -> Seen:
    return Seen("unknown", (Finding(rule, what, "file"),))


def _write(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Look at the paths on stdin, in order, under limits."""
    cpu = max(LEAST_CPU_S, _STARTS * time.process_time())
    paths = msgspec.json.decode(sys.stdin.buffer.read(), type=Job).paths
    isolate()
    whole = math.ceil(len(paths) * 2 * cpu) + 2
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
    ):
        resource.setrlimit(kind, (most, most))
    for path in paths:
        signal.setitimer(signal.ITIMER_REAL, WALL_S)
        _write(inspect(path, cpu))


if __name__ == "__main__":
    main()
