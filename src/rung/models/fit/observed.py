"""What an engine's own log and process told, in place of what rules would say: "measured here"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from rung.models.fit.demand import (
    CACHE,
    COMPUTE,
    OUTPUT,
    PARTS,
    PROCESS,
    REPACKED,
    STATE,
    WEIGHTS,
    Part,
)
from rung.models.fit.measured import Measured
from rung.models.fit.tags import Amount, Tag
from rung.models.hardware.machine import Machine

_REPACKED_BUFFER = "CPU_REPACK"
_CARD = re.compile(r"^(?!CPU)[A-Za-z]+(\d*)$")
"""An engine's name of a card; `CPU…` and `CUDA_Host` are the host's memory."""


def observed(parts: Sequence[Part], measured: Measured, machine: Machine) -> tuple[Part, ...]:
    """The parts with every figure that was measured.

    Args:
        parts: by the rules.
        measured: of the same model under the same run, on this machine.
        machine: whose devices the engine's names of buffers stand for.
    """
    note = f"measured here on {measured.at[:10]}"
    figures = {
        (what, device): Part(what, device, Amount(size, Tag.MEASURED, note))
        for what, buffers in _buffers(measured)
        for device, size in _by_device(buffers, machine).items()
    }
    for part in parts:
        if part.what == WEIGHTS and part.amount.tag is Tag.EXACT:
            figures.pop(
                (WEIGHTS, part.device), None
            )  # all of the file is read, not only what stays
    kept = [part for part in parts if (part.what, part.device) not in figures]
    together = _in_order([*kept, *figures.values()], machine)
    return tuple(_reaching(together, measured.peak_rss, machine.host.name, note))


class Correction:
    """What a measured run took beside what the rules say of it, for runs that differ from it in a setting or two.

    A figure that the rules give both runs is as it was measured; another is the rules' times what they missed by.

    Args:
        ruled: parts of the measured run, by the rules.
        measured: the same as `observed` has them.
    """

    def __init__(self, ruled: Sequence[Part], measured: Sequence[Part]) -> None:
        self._ruled = {(part.what, part.device): part.amount for part in ruled}
        self._measured = {(part.what, part.device): part for part in measured}

    def __call__(self, parts: Sequence[Part], machine: Machine) -> tuple[Part, ...]:
        """The parts of another run, by the rules, corrected."""
        places = {(part.what, part.device) for part in parts}
        kept = [
            part
            for place, part in self._measured.items()
            if place not in places and place not in self._ruled
        ]
        return tuple(_in_order([*map(self._corrected, parts), *kept], machine))

    def _corrected(self, part: Part) -> Part:
        place = (part.what, part.device)
        ruled, measured = self._ruled.get(place), self._measured.get(place)
        if ruled is None or measured is None or measured.amount.tag is not Tag.MEASURED:
            return part
        if ruled.bytes == part.amount.bytes:
            return measured
        size = part.amount.bytes * measured.amount.bytes // max(1, ruled.bytes)
        note = "; ".join(filter(None, (part.amount.note, "by what such a run took here")))
        return msgspec.structs.replace(
            part, amount=msgspec.structs.replace(part.amount, bytes=size, note=note)
        )


def _buffers(measured: Measured) -> Iterator[tuple[str, Mapping[str, int]]]:
    copies = {name: size for name, size in measured.weights.items() if name == _REPACKED_BUFFER}
    yield WEIGHTS, {name: size for name, size in measured.weights.items() if name not in copies}
    yield REPACKED, copies
    yield CACHE, measured.cache
    yield STATE, measured.state
    yield COMPUTE, measured.compute
    yield OUTPUT, measured.output


def _by_device(buffers: Mapping[str, int], machine: Machine) -> dict[str, int]:
    """Bytes by the machine's names of devices; several buffers of one device are added."""
    found: dict[str, int] = {}
    for name, size in buffers.items():
        card = _CARD.match(name)
        device = machine.host
        if card is not None and machine.cards:
            device = machine.cards[min(int(card[1] or 0), len(machine.cards) - 1)]
        found[device.name] = found.get(device.name, 0) + size
    return found


def _in_order(parts: Sequence[Part], machine: Machine) -> list[Part]:
    devices = [device.name for device in machine.devices]
    return sorted(parts, key=lambda part: (devices.index(part.device), PARTS.index(part.what)))


def _reaching(parts: Sequence[Part], peak: int | None, host: str, note: str) -> Iterator[Part]:
    """The parts, the process taking what they fall short of the highest peak that was seen."""
    on_host = sum(part.amount.bytes for part in parts if part.device == host)
    missing = max(0, (peak or 0) - on_host)
    for part in parts:
        if missing and part.device == host and part.what == PROCESS:
            amount = Amount(part.amount.bytes + missing, Tag.MEASURED, note)
            yield msgspec.structs.replace(part, amount=amount)
        else:
            yield part
