"""Graphics cards that NVIDIA's management library tells of."""

from __future__ import annotations

from rung.models.hardware.machine import Device, DeviceKind

_TRANSFERS_PER_CLOCK = 2  # the memory clock that the library states is that of double data rate


def nvidia_devices() -> tuple[Device, ...]:
    """The cards in the driver's order; none where the library or the driver is missing."""
    try:
        import pynvml  # type: ignore[import-untyped]  # noqa: PLC0415  # it has no types
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        found = (_device(place) for place in range(pynvml.nvmlDeviceGetCount()))
        return tuple(device for device in found if device is not None)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def bus_bandwidth(clock_mhz: int, bus_bits: int) -> float | None:
    """Peak bytes per second of a memory of double data rate; None when a figure is not told.

    Args:
        clock_mhz: of the memory.
        bus_bits: width of its bus.
    """
    if clock_mhz <= 0 or bus_bits <= 0:
        return None
    return clock_mhz * 1e6 * _TRANSFERS_PER_CLOCK * bus_bits / 8


def _device(place: int) -> Device | None:
    """One card; None for one whose memory is not its own (GB10) or is not told."""
    import pynvml  # noqa: PLC0415

    handle = pynvml.nvmlDeviceGetHandleByIndex(place)
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        return None
    name = pynvml.nvmlDeviceGetName(handle)
    return Device(
        name=name.decode() if isinstance(name, bytes) else str(name),
        kind=DeviceKind.GPU,
        backend="cuda",
        total=int(memory.total),
        available=int(memory.free),
        bandwidth=_bandwidth(handle),
    )


def _bandwidth(handle: object) -> float | None:
    import pynvml  # noqa: PLC0415

    try:
        clock = int(pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM))
        width = int(pynvml.nvmlDeviceGetMemoryBusWidth(handle))
    except pynvml.NVMLError:
        return None
    return bus_bandwidth(clock, width)
