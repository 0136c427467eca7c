"""How many bytes a second this machine's processors read and write: measured, kept, and mended by later measurements.

Vendors' peaks of memory are not told to programs, so decoding speed on a processor rests on this. Other programs only
ever slow a copy down, so the best of a week counts.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from rung.errors import StorageError
from rung.files import write_atomically
from rung.models.home import home

_MIB = 1024 * 1024
_MOST_THREADS = 16
_BURSTS, _BURST_S, _PAUSE_S = 3, 0.08, 0.04  # apart, so that one busy moment does not spoil all
_AGAIN_S = 0.03
_KEPT = timedelta(days=7)
_TRIED = timedelta(hours=1)
_BUFFER = 192 * _MIB  # of all threads together: beyond the caches of most processors
_MODEST_BUFFER = 32 * _MIB  # where memory is short


class Bandwidth(msgspec.Struct, frozen=True):
    """A measured rate.

    Attributes:
        rate: bytes read and written per second by all threads together.
        at: when, RFC 3339 in UTC.
        machine: which processors, so that a home on another machine is not believed.
        tried: when it was last measured, maybe with a lesser result.
    """

    rate: float
    at: str
    machine: str
    tried: str = ""


def stored_bandwidth() -> Bandwidth | None:
    """What was measured on this machine before."""
    try:
        kept = msgspec.json.decode(_place().read_bytes(), type=Bandwidth)
    except (OSError, msgspec.DecodeError):
        return None  # never measured, or the file is damaged: it is measured again
    return kept if kept.machine == _machine() and kept.rate > 0 else None


def measured_bandwidth(available: int) -> Bandwidth:
    """The best that was measured on this machine within a week; once an hour a short copy may mend it.

    It is kept where the home can be written. With little memory the copies are small and may stay in a processor's
    caches, so that those do not mend what was measured before.

    Args:
        available: bytes that may be had; of them a small share is used.
    """
    kept, now = stored_bandwidth(), datetime.now(UTC)
    stamp, large = now.isoformat(timespec="seconds"), available > 8 * _BUFFER
    if kept is None or not _within(_KEPT, kept.at, now):
        rate = _measure(_BUFFER if large else _MODEST_BUFFER, bursts=_BURSTS, burst_s=_BURST_S)
        best = Bandwidth(rate, stamp, _machine(), stamp)
    elif not large or _within(_TRIED, kept.tried, now):
        return kept
    else:
        rate = _measure(_BUFFER, bursts=1, burst_s=_AGAIN_S)
        best = msgspec.structs.replace(kept, tried=stamp)
        if rate > kept.rate:
            best = Bandwidth(rate, stamp, _machine(), stamp)
    with contextlib.suppress(StorageError):  # a home that is read-only: measured again next time
        write_atomically(_place(), msgspec.json.encode(best))
    return best


def _within(span: timedelta, moment: str, now: datetime) -> bool:
    try:
        return abs(now - datetime.fromisoformat(moment)) < span
    except (ValueError, TypeError):
        return False  # no time, or one without a zone


def _measure(buffer: int, *, bursts: int, burst_s: float) -> float:
    """The best of a few rounds in which every thread copies its own share of a buffer."""
    import numpy as np  # noqa: PLC0415

    threads = min(_cores(), _MOST_THREADS)
    size = buffer // threads
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for burst in range(bursts):
            time.sleep(_PAUSE_S if burst else 0)
            end = time.perf_counter() + burst_s
            once = False
            while not once or time.perf_counter() < end:
                start = time.perf_counter()
                list(pool.map(lambda pair: np.copyto(*pair), pairs))
                best = max(best, 2 * size * threads / (time.perf_counter() - start))
                once = True
    return best


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, allowed or 1)


def _machine() -> str:
    return f"{platform.node()} {platform.machine()} {_cores()}"


def _place() -> Path:
    return home() / "bandwidth.json"
