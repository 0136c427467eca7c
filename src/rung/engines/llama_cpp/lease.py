"""What callers see of a child: how it is, and the right to a part of it."""

from __future__ import annotations

import enum

import msgspec


class ChildState(enum.StrEnum):
    """How a model's child is."""

    DOWN = "down"  # not started, or unloaded
    LOADING = "loading"
    COLD = "cold"  # loaded, nothing answered yet
    WARM = "warm"
    SATURATED = "saturated"  # every slot is leased
    CRASHED = "crashed"  # it died or failed to start, and was not started again yet


class Lease(msgspec.Struct, frozen=True):
    """The right to one slot of a running child, until its context ends.

    Attributes:
        socket: path of the Unix socket.
        key: what every request has to show.
        generation: which start of the child this is.
    """

    socket: str
    key: str
    generation: int

    def __repr__(self) -> str:
        return f"Lease(generation={self.generation})"  # the key stays out of logs
