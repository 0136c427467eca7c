"""What a pull tells while it works; how it is shown is the caller's."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rung.models.fit.estimate import Estimate
from rung.models.header import Header
from rung.models.sources.resolved import Resolved


class Settled(msgspec.Struct, frozen=True):
    """What will be fetched is known, to the byte, and nothing has been fetched yet.

    Attributes:
        resolved: the revision and its files.
        headers: of each part of the weights.
        estimate: how it fits this machine; None of an adapter.
    """

    resolved: Resolved
    headers: tuple[Header, ...]
    estimate: Estimate | None


class Waiting(msgspec.Struct, frozen=True):
    """Another process is fetching the same file."""

    name: str


class Resumed(msgspec.Struct, frozen=True):
    """Bytes of an earlier attempt are used."""

    name: str
    have: int


class Restarted(msgspec.Struct, frozen=True):
    """Bytes of an earlier attempt are of no use."""

    name: str
    why: str


class Changed(msgspec.Struct, frozen=True):
    """The source has another file than when it was asked what it has; what came counts."""

    name: str


class Fetching(msgspec.Struct, frozen=True):
    """Bytes have come; `total` is None when the source does not say how many there are."""

    name: str
    done: int
    total: int | None


class Retrying(msgspec.Struct, frozen=True):
    """The source failed and is asked again after a pause."""

    name: str
    why: str
    have: int
    pause_s: float


class Hashing(msgspec.Struct, frozen=True):
    """A file that is on this machine is being read to see whether it is the right one."""

    name: str
    done: int
    total: int


class Here(msgspec.Struct, frozen=True):
    """The right file lies where it belongs already."""

    name: str


class Linked(msgspec.Struct, frozen=True):
    """The file of another program's store is used, not copied."""

    name: str
    store: str
    symbolic: bool


Event = (
    Settled
    | Waiting
    | Resumed
    | Restarted
    | Changed
    | Fetching
    | Retrying
    | Hashing
    | Here
    | Linked
)
Tell = Callable[[Event], None]
