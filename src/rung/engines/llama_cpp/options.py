"""How patient a supervisor is: time limits and counts, none of which change an answer."""

from __future__ import annotations

import msgspec


class SupervisorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor's patience.

    Attributes:
        idle_s: seconds without a lease until the model is unloaded; None keeps it.
        queue: leases that may wait for a slot before the next one is refused.
        ping_s: seconds between two looks at a leased child.
        unresponsive_s: a leased child that has not answered for so long is ended.
        backoff_s: wait before the second restart in a row, doubled for each further one; the first is at once.
        backoff_most_s: longest wait between restarts, and longest time the breaker stays open.
        crashes: so many within `window_s` open the breaker.
        window_s: see `crashes`.
        open_s: seconds the breaker stays open the first time; doubled each time the trial fails.
        room_s: seconds to wait until other models in use make room.
    """

    idle_s: float | None = 300.0
    queue: int = 1024
    ping_s: float = 2.0
    unresponsive_s: float = 10.0
    backoff_s: float = 0.5
    backoff_most_s: float = 60.0
    crashes: int = 5
    window_s: float = 60.0
    open_s: float = 5.0
    room_s: float = 10.0
