"""How many bytes a second this machine's processors read and write: measured once, then kept.

Vendors' peaks of memory are not told to programs, so decoding speed on a processor rests on this.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from rung.errors import StorageError
from rung.files import write_atomically
from rung.models.home import home

_MIB = 1024 * 1024
_MOST_THREADS = 16
_SECONDS = 0.15
_BUFFER = 192 * _MIB  # of all threads together: beyond the caches of most processors
_MODEST_BUFFER = 32 * _MIB  # where memory is short


class Bandwidth(msgspec.Struct, frozen=True):
    """A measured rate.

    Attributes:
        rate: bytes read and written per second by all threads together.
        at: when, RFC 3339 in UTC.
        machine: which processors, so that a home on another machine is not believed.
    """

    rate: float
    at: str
    machine: str


def stored_bandwidth() -> Bandwidth | None:
    """What was measured on this machine before."""
    try:
        kept = msgspec.json.decode(_place().read_bytes(), type=Bandwidth)
    except (OSError, msgspec.DecodeError):
        return None  # never measured, or the file is damaged: it is measured again
    return kept if kept.machine == _machine() and kept.rate > 0 else None


def measured_bandwidth(available: int) -> Bandwidth:
    """What was measured on this machine before, else measured now and kept where the home can be written.

    Args:
        available: bytes that may be had; of them a small share is used.
    """
    if (kept := stored_bandwidth()) is not None:
        return kept
    now = datetime.now(UTC).isoformat(timespec="seconds")
    measured = Bandwidth(_measure(available), now, _machine())
    with contextlib.suppress(StorageError):  # a home that is read-only: measured again next time
        write_atomically(_place(), msgspec.json.encode(measured))
    return measured


def _measure(available: int) -> float:
    """The best of a few rounds in which every thread copies its own buffer."""
    import numpy as np  # noqa: PLC0415

    threads = min(_cores(), _MOST_THREADS)
    size = (_BUFFER if available > 8 * _BUFFER else _MODEST_BUFFER) // threads
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        end = time.perf_counter() + _SECONDS
        while time.perf_counter() < end or not best:
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(*pair), pairs))
            best = max(best, 2 * size * threads / (time.perf_counter() - start))
    return best


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, allowed or 1)


def _machine() -> str:
    return f"{platform.node()} {platform.machine()} {_cores()}"


def _place() -> Path:
    return home() / "bandwidth.json"
