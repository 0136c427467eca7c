"""AMD graphics as the Linux driver tells of them: cards, and processors that share the machine's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rung.models.hardware.machine import Device, DeviceKind
from rung.models.hardware.memory import Memory

_CARVE_OUT = 2 * 1024**3
"""Below this much memory of its own, a graphics processor lives on what it shares (GTT); the usual share set
aside for such a one is 512 MB, and one that was given more is used like a card."""


def amd_devices(folder: Path, memory: Memory) -> tuple[Device, ...]:
    """What the driver lists.

    Args:
        folder: `/sys/class/drm`.
        memory: of the machine; a processor that shares it can have no more.
    """
    return tuple(_devices(folder, memory))


def _devices(folder: Path, memory: Memory) -> Iterator[Device]:
    for place in sorted(folder.glob("card*/device")):
        own = _number(place / "mem_info_vram_total")
        own_used = _number(place / "mem_info_vram_used")
        if own is None or own_used is None:
            continue
        if own >= _CARVE_OUT:
            yield Device(
                name="AMD graphics",
                kind=DeviceKind.GPU,
                backend="rocm",
                total=own,
                available=max(0, own - own_used),
            )
            continue
        shared = _number(place / "mem_info_gtt_total") or 0
        shared_used = _number(place / "mem_info_gtt_used") or 0
        free = max(0, own - own_used) + max(0, shared - shared_used)
        if shared:
            yield Device(
                name="AMD graphics, shared memory",
                kind=DeviceKind.UNIFIED,
                backend="vulkan",
                total=memory.total,
                available=min(free, memory.available),
            )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
