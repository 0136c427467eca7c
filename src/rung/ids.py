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
_RANDOM_BYTES = _RANDOM_BITS // 8
_RANDOM_AT_ONCE = 128  # the system takes longer to be asked than to answer
_CHUNKS = range(120, -1, -10)  # 13 groups of ten bits make 26 characters


class _Sequence:
    """The last id of this process, random bytes for the next ones, and the lock that keeps each above the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._last = 0
        self._random = b""

    def next(self) -> int:
        """A 128-bit number above every earlier one of this process."""
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS
        with self._lock:
            # A forked child starts from its own random bits, or it would repeat its parent's ids.
            if self._owner != os.getpid():
                self._owner, self._last, self._random = os.getpid(), 0, b""
            if fresh > self._last:
                self._last = fresh | self._random_bits()
            else:
                self._last += 1
            return self._last

    def _random_bits(self) -> int:
        """Bits that were never given before."""
        if not self._random:
            self._random = os.urandom(_RANDOM_BYTES * _RANDOM_AT_ONCE)
        taken, self._random = self._random[:_RANDOM_BYTES], self._random[_RANDOM_BYTES:]
        return int.from_bytes(taken)


_SEQUENCE = _Sequence()


def new_id() -> str:
    """A fresh id; sorts after every id this process made before."""
    number = _SEQUENCE.next()
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _CHUNKS])


def now() -> str:
    """The current time, UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
