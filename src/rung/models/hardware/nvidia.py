"""Graphics cards that NVIDIA's management library tells of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rung.models.hardware.machine import Device, DeviceKind

_TRANSFERS_PER_CLOCK = 2  # the memory clock that the library states is that of double data rate

Library = Any  # `pynvml`, which has no types


def nvidia_devices(library: Library | None = None) -> tuple[Device, ...]:
    """The cards in the driver's order; none where the library or the driver is missing.

    Args:
        library: what to ask; None for `pynvml` where it is installed.
    """
    asked = _installed() if library is None else library
    if asked is None:
        return ()
    try:
        asked.nvmlInit()
    except asked.NVMLError:
        return ()
    try:
        return tuple(_devices(asked))
    except asked.NVMLError:
        return ()  # the driver went away
    finally:
        asked.nvmlShutdown()


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


def _devices(asked: Library) -> Iterator[Device]:
    """Every card that tells its memory; GB10 does not, whose memory is the machine's."""
    for place in range(asked.nvmlDeviceGetCount()):
        handle = asked.nvmlDeviceGetHandleByIndex(place)
        try:
            memory = asked.nvmlDeviceGetMemoryInfo(handle)
        except asked.NVMLError:
            continue
        name = asked.nvmlDeviceGetName(handle)
        yield Device(
            name=name.decode() if isinstance(name, bytes) else str(name),
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
