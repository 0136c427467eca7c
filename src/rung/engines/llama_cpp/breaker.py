"""When a child that keeps dying may be started again: back-off between restarts, and a breaker for crash loops.

A value that is told what happened and when; it looks at no clock and starts nothing.
"""

from __future__ import annotations

from rung.engines.llama_cpp.options import SupervisorOptions


class Breaker:
    """The memory of one child's deaths.

    Args:
        options: limits; see there.

    Attributes:
        reason: of the last death, for messages.
    """

    def __init__(self, options: SupervisorOptions) -> None:
        self._options = options
        self._crashes: list[float] = []
        self._in_a_row = 0
        self._openings = 0
        self._closed_again = 0.0
        self._next_start = 0.0
        self.reason = ""

    def crashed(self, now: float, reason: str) -> None:
        """A child that had been ready died."""
        self.reason = reason
        self._in_a_row += 1
        self._crashes = [t for t in self._crashes if t > now - self._options.window_s] + [now]
        if self._openings or len(self._crashes) >= self._options.crashes:
            self._open(now)
            return
        further = self._in_a_row - 2  # the first restart is at once
        if further >= 0:
            pause = min(self._options.backoff_s * 2.0**further, self._options.backoff_most_s)
            self._next_start = now + pause

    def failed_to_start(self, now: float, reason: str) -> None:
        """A child never became ready; the same start would most likely fail again, so the breaker opens at once."""
        self.reason = reason
        self._open(now)

    def answered(self) -> None:
        """A lease came to a good end: the child works."""
        self._in_a_row = 0
        self._openings = 0
        self._next_start = 0.0

    def refused_for(self, now: float) -> float:
        """Seconds for which no start is tried, 0 when the breaker is closed or a trial is due."""
        return max(0.0, self._closed_again - now)

    def pause(self, now: float) -> float:
        """Seconds to wait before the next start."""
        return max(0.0, self._next_start - now)

    def _open(self, now: float) -> None:
        wait = self._options.open_s * 2.0 ** min(self._openings, 16)
        self._openings += 1
        self._closed_again = now + min(wait, self._options.backoff_most_s)
