"""What this machine offers models: its memory, its graphics cards, and how fast it reads.

A part that cannot be asked (no driver, no such system) is left out with nothing said; figures it gives are believed.
"""

from __future__ import annotations

from pathlib import Path

from rung.models.hardware.amd import amd_devices
from rung.models.hardware.apple import apple_device
from rung.models.hardware.bandwidth import measured_bandwidth, stored_bandwidth
from rung.models.hardware.machine import Device, DeviceKind, Machine
from rung.models.hardware.memory import read_memory
from rung.models.hardware.nvidia import nvidia_devices

_COPY_EFFICIENCY = 0.8
"""Share of a measured copying rate that decoding reaches; a measured rate lies below the peak that vendors state."""


def this_machine(*, measure: bool = False) -> Machine:
    """The machine that this runs on, as free as it is now.

    Args:
        measure: copy memory for about 0.2 s when its bandwidth was not measured here before; otherwise it
            stays unknown until somebody asks for that.
    """
    if (apple := apple_device(read_memory())) is not None:
        return Machine(name="this machine", devices=(apple,), detected=True)
    amd = amd_devices(Path("/sys/class/drm"), read_memory())
    shared = [device for device in amd if device.kind is DeviceKind.UNIFIED]
    cards = (*nvidia_devices(), *(device for device in amd if device.kind is DeviceKind.GPU))
    host, notes = _host(measure=measure)
    if shared and not cards:
        return Machine(name="this machine", devices=(shared[0],), detected=True)
    return Machine(name="this machine", devices=(host, *cards), detected=True, notes=notes)


def _host(*, measure: bool) -> tuple[Device, tuple[str, ...]]:
    memory = read_memory()
    bandwidth = measured_bandwidth(memory.available) if measure else stored_bandwidth()
    device = Device(
        name="CPU",
        kind=DeviceKind.HOST,
        backend="cpu",
        total=memory.total,
        available=memory.available,
        bandwidth=bandwidth.rate if bandwidth else None,
        efficiency=_COPY_EFFICIENCY if bandwidth else None,
    )
    if bandwidth is None:
        return device, ()
    said = f"CPU, bandwidth: {bandwidth.rate / 1e9:,.1f} GB/s measured here on {bandwidth.at[:10]}"
    return device, (said,)
