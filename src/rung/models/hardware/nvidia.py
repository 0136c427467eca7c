"""Graphics cards that NVIDIA's management library tells of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rung.models.hardware.machine import Device, DeviceKind

_TRANSFERS_PER_CLOCK = 2  # the memory clock that the library states is that of double data rate

Library = Any  # `pynvml`, which has no types


class Cards(NamedTuple):
    """What the library tells of.

    Attributes:
        devices: cards with a memory of their own, in the driver's order.
        shared: names of those that tell of none, because theirs is the machine's.
    """

    devices: tuple[Device, ...] = ()
    shared: tuple[str, ...] = ()


def nvidia_cards(library: Library | None = None) -> Cards:
    """The cards; none where the library or the driver is missing.

    Args:
        library: what to ask; None for `pynvml` where it is installed.
    """
    asked = _installed() if library is None else library
    if asked is None:
        return Cards()
    try:
        asked.nvmlInit()
    except asked.NVMLError:
        return Cards()
    try:
        found = list(_found(asked))
    except asked.NVMLError:
        return Cards()  # the driver went away
    finally:
        asked.nvmlShutdown()
    return Cards(
        tuple(one for one in found if isinstance(one, Device)),
        tuple(one for one in found if isinstance(one, str)),
    )


def bus_bandwidth(clock_mhz: int, bus_bits: int) -> float | None:
    """Peak bytes per second of a memory of double data rate; None when a figure is not told.

    Args:
        clock_mhz: of the memory.
        bus_bits: width of its bus.
    """
    if clock_mhz <= 0 or bus_bits <= 0:
        return None
    return clock_mhz * 1e6 * _TRANSFERS_PER_CLOCK * bus_bits / 8


def _installed() -> Library | None:
    try:
        import pynvml  # type: ignore[import-untyped]  # noqa: PLC0415  # it has no types
    except ImportError:
        return None
    return pynvml


def _found(asked: Library) -> Iterator[Device | str]:
    """Every card that tells its memory, and the name of one that does not, such as GB10."""
    for place in range(asked.nvmlDeviceGetCount()):
        handle = asked.nvmlDeviceGetHandleByIndex(place)
        told = asked.nvmlDeviceGetName(handle)
        name = told.decode() if isinstance(told, bytes) else str(told)
        try:
            memory = asked.nvmlDeviceGetMemoryInfo(handle)
        except asked.NVMLError:
            yield name
            continue
        yield Device(
            name=name,
            kind=DeviceKind.GPU,
            backend="cuda",
            total=int(memory.total),
            available=int(memory.free),
            bandwidth=_bandwidth(asked, handle),
        )


def _bandwidth(asked: Library, handle: object) -> float | None:
    try:
        clock = int(asked.nvmlDeviceGetMaxClockInfo(handle, asked.NVML_CLOCK_MEM))
        width = int(asked.nvmlDeviceGetMemoryBusWidth(handle))
    except asked.NVMLError:
        return None
    return bus_bandwidth(clock, width)
