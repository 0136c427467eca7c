"""A machine as far as running models on it goes: its memories, how large, how free and how fast.

What this machine has is `detection`'s, other machines are `profiles`'.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence

import msgspec

from rung.errors import InputError

_UNSURE = ("assumed", "recalled", "taken to")
"""Words of the sources of figures that nobody has looked up."""


class DeviceKind(enum.StrEnum):
    """Whose memory it is: the processor's, a graphics card's own, or one that both share."""

    HOST = "host"
    GPU = "gpu"
    UNIFIED = "unified"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One memory that a model may lie in, with what computes on it.

    Attributes:
        name: as people call it, such as `RTX 4090`.
        kind: whose memory it is.
        backend: what computes there: `cpu`, `cuda`, `rocm`, `metal`, `vulkan`.
        total: bytes in all.
        available: bytes that models may take; on a described machine, what its system usually leaves them.
        bandwidth: peak bytes per second; None when unknown.
        efficiency: share of the bandwidth that decoding reaches, measured for such a device; None for the default.
        overhead_s: seconds a token takes beyond reading memory, measured likewise; None for the default.
    """

    name: str
    kind: DeviceKind
    backend: str
    total: int
    available: int
    bandwidth: float | None = None
    efficiency: float | None = None
    overhead_s: float | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """All memories of a machine.

    Attributes:
        name: `this machine`, or the name of its profile.
        devices: the host's memory first, or the one unified memory alone; then graphics cards. No two have one name,
            for what lies where is told by it.
        detected: whether it was looked at rather than described.
        notes: what a person should know about these figures, with their source.
    """

    name: str
    devices: tuple[Device, ...]
    detected: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse devices that nothing could tell apart.

        Raises:
            InputError: two have one name.
        """
        twice = [
            name for name, count in Counter(one.name for one in self.devices).items() if count > 1
        ]
        if twice:
            raise InputError(
                f"two devices of the machine {self.name!r} are named {twice[0]!r}",
                hint="give each a name of its own",
            )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Those of the notes that say that a figure was assumed or recalled; of a machine that was looked at, all."""
        if self.detected:
            return self.notes
        return tuple(note for note in self.notes if any(word in note for word in _UNSURE))

    @property
    def host(self) -> Device:
        """The memory that the processor computes in."""
        return self.devices[0]

    @property
    def cards(self) -> tuple[Device, ...]:
        """Graphics cards with a memory of their own."""
        return self.devices[1:]


def told_apart(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The same devices, those of one name numbered: `RTX 3060 (1)`, `RTX 3060 (2)`."""
    often, seen = Counter(one.name for one in devices), Counter[str]()
    named = []
    for one in devices:
        seen[one.name] += 1
        name = f"{one.name} ({seen[one.name]})" if often[one.name] > 1 else one.name
        named.append(msgspec.structs.replace(one, name=name))
    return tuple(named)
