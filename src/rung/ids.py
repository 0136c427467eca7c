"""Ids that sort by the time they were made, and the one spelling of that time.

An id is a ULID: 48 bits of milliseconds since 1970 and 80 random bits, as 26 characters of Crockford's base 32.
Within one process ids only ever grow, even when the clock is set back.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime

ID_LENGTH = 26
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)
_RANDOM_BITS = 80
_CHUNKS = range(120, -1, -10)  # 13 groups of ten bits make 26 characters


class _Sequence:
    """The last id of this process, and the lock that keeps the next one above it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._last = 0

    def next(self) -> int:
        """A 128-bit number above every earlier one of this process."""
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS
        with self._lock:
            # A forked child starts from its own random bits, or it would repeat its parent's ids.
            if fresh > self._last or self._owner != os.getpid():
                self._owner = os.getpid()
                self._last = fresh | int.from_bytes(os.urandom(_RANDOM_BITS // 8))
            else:
                self._last += 1
            return self._last


_SEQUENCE = _Sequence()


def new_id() -> str:
    """A fresh id; sorts after every id this process made before."""
    number = _SEQUENCE.next()
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _CHUNKS])


def now() -> str:
    """The current time, UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
