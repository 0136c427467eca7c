"""What a running child takes, kept for the next estimate: its log's buffers, its most memory, its highest speeds.

Looking costs microseconds and writing happens in other threads; neither ever fails a start. Reading the log is
`buffers`'.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from rung.engines.llama_cpp.answer import Timings
from rung.engines.llama_cpp.buffers import Buffers
from rung.engines.llama_cpp.footprint import Footprint, role_name
from rung.engines.llama_cpp.process import ChildProcess
from rung.engines.llama_cpp.role import Role
from rung.models.fit.measured import Measured, Measurements, Reserve

_PAUSE_S = 1.0
_GROWN = 1.01
_TINY_BYTES = 64 * 1024 * 1024
_FASTER = 1.02
_LEAST_WRITTEN, _LEAST_READ = 16, 128
"""Tokens of an answer and of a prompt below which a speed says more of the clock than of the model."""


class Observation:
    """One child, observed.

    Args:
        child: that is ready.
        build: of its engine.
        footprint: what it was thought to take.
        role: its program.
        measurements: where what it took is kept; None keeps nothing.
    """

    def __init__(
        self,
        child: ChildProcess,
        build: str,
        footprint: Footprint,
        role: Role,
        measurements: Measurements | None,
    ) -> None:
        self._child = child
        self._build = build
        self._footprint = footprint
        self._role = role
        self._measurements = measurements
        self._started_rss = self._peak = peak_rss(child.pid)
        self._kept_peak: int | None = None
        self._writing: float | None = None
        self._reading: float | None = None
        self._faster = False
        self._looked = time.monotonic()

    @property
    def buffers(self) -> Buffers:
        """What its log says it allocated."""
        return self._child.buffers

    @property
    def peak(self) -> int | None:
        """Most resident bytes that were seen; None where the system does not tell."""
        return self._peak

    def answered(self, timings: Timings) -> None:
        """Learn from how long one answer took; its first token counts to the prompt.

        Args:
            timings: of a request that was alone.
        """
        writing = _rate(timings.predicted_n - 1, timings.predicted_ms, _LEAST_WRITTEN)
        reading = _rate(timings.prompt_n, timings.prompt_ms, _LEAST_READ)
        if writing > (self._writing or 0.0) * _FASTER:
            self._writing, self._faster = writing, True
        if reading > (self._reading or 0.0) * _FASTER:
            self._reading, self._faster = reading, True

    def look(self, *, now: bool = False) -> bool:
        """Look how much memory the child has taken, and tell whether that, or its speed, is worth keeping.

        Args:
            now: look even if the last look was a moment ago.
        """
        if self._measurements is None or (not now and time.monotonic() - self._looked < _PAUSE_S):
            return False
        self._looked = time.monotonic()
        self._peak = max(filter(None, (self._peak, peak_rss(self._child.pid))), default=None)
        grown = self._kept_peak is None or (self._peak or 0) > self._kept_peak * _GROWN
        return grown or self._faster

    def keep(self) -> None:
        """Keep what was seen; takes milliseconds, so best called in a thread."""
        if self._measurements is None:
            return
        self._kept_peak, self._faster = self._peak or 0, False
        buffers, at = self.buffers, datetime.now(UTC).isoformat(timespec="seconds")
        measured = Measured(
            engine=self._build,
            backend=_backend(buffers),
            weights=buffers.weights,
            cache=buffers.cache,
            state=buffers.state,
            compute=buffers.compute,
            output=buffers.output,
            started_rss=self._started_rss,
            peak_rss=self._peak,
            tokens_per_s=self._writing,
            prompt_tokens_per_s=self._reading,
            at=at,
        )
        if buffers.total:
            self._measurements.record(
                self._footprint.key, self._footprint.run, measured, role=role_name(self._role)
            )
        if self._role is Role.SERVER and (taken := self._reserve()) is not None:
            self._measurements.record_reserve(Reserve(engine=self._build, bytes=taken, at=at))

    def _reserve(self) -> int | None:
        """What a process takes beside buffers and tokenizer: only a small model shows it.

        Before it was ready nothing was computed, so that its working memory was not touched yet; later it may be.
        """
        buffers, footprint = self.buffers, self._footprint
        if not 0 < buffers.total < _TINY_BYTES or footprint.run.gpu_layers:
            return None
        if self._started_rss is None or self._peak is None:
            return None
        untouched = sum(buffers.compute.values())
        taken = max(self._started_rss + untouched, self._peak) - buffers.total
        return max(0, taken - footprint.tokenizer)


def peak_rss(pid: int) -> int | None:
    """The most memory that a process ever had, in bytes; None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None  # no Linux, or it is gone
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name == "VmHWM" and (words := rest.split()) and words[0].isdecimal():
            return int(words[0]) * 1024
    return None


def _rate(tokens: int, milliseconds: float, least: int) -> float:
    """Tokens a second, 0 where there were too few to say."""
    return tokens / milliseconds * 1000 if tokens >= least and milliseconds > 0 else 0.0


def _backend(buffers: Buffers) -> str:
    """What computed, by the buffers' names."""
    cards = [name for name in buffers.compute if not name.startswith("CPU")]
    return "".join(c for c in cards[0] if c.isalpha()).lower() if cards else "cpu"
