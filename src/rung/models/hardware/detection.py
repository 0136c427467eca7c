"""What this machine offers models: its memory, its graphics cards, and how fast it reads.

A part that cannot be asked (no driver, no such system) is left out with nothing said; figures it gives are believed.
Graphics that share the machine's memory are left out, too, and that is said: the engine within Rung computes on the
processor, so that a verdict for them would be one for an engine that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rung.models.hardware.amd import amd_devices
from rung.models.hardware.apple import apple_device
from rung.models.hardware.bandwidth import measured_bandwidth, stored_bandwidth
from rung.models.hardware.machine import Device, DeviceKind, Machine, told_apart
from rung.models.hardware.memory import read_memory
from rung.models.hardware.nvidia import Cards, nvidia_cards

_GIB = 1024**3
_COPY_EFFICIENCY = 0.8
"""Share of a measured copying rate that decoding reaches; a measured rate lies below the peak that vendors state."""


def this_machine(*, measure: bool = False) -> Machine:
    """The machine that this runs on, as free as it is now.

    Args:
        measure: copy memory for a moment to learn its bandwidth, or to mend what is known of it; otherwise it is what
            was measured before, unknown where it never was.
    """
    if (apple := apple_device(read_memory())) is not None:
        return Machine(name="this machine", devices=(apple,), detected=True)
    amd = amd_devices(Path("/sys/class/drm"), read_memory())
    host, notes = _host(measure=measure)
    return with_graphics(host, notes, nvidia_cards(), amd)


def with_graphics(
    host: Device, notes: Sequence[str], nvidia: Cards, amd: Sequence[Device]
) -> Machine:
    """This machine with its cards; graphics that share its memory are mentioned.

    Args:
        host: its memory.
        notes: on that.
        nvidia: cards that their library tells of.
        amd: what the driver lists.
    """
    cards = (*nvidia.devices, *(device for device in amd if device.kind is DeviceKind.GPU))
    return Machine(
        name="this machine",
        devices=told_apart((host, *cards)),
        detected=True,
        notes=(*notes, *_shared(nvidia, amd)),
    )


def _shared(nvidia: Cards, amd: Sequence[Device]) -> Iterator[str]:
    on_processor = "the engine within Rung computes on the processor"
    for name in nvidia.shared:
        yield f"{name} tells of no memory of its own and is left out: {on_processor}"
    for device in amd:
        if device.kind is DeviceKind.UNIFIED:
            of = f"{device.available / _GIB:,.1f} GiB of the machine's memory"
            yield f"{device.name} could use {of} and is left out: {on_processor}"


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
    rate = f"{bandwidth.rate / 1e9:,.1f} GB/s measured here on {bandwidth.at[:10]}"
    said = (
        "less where the machine was busy: tried again once an hour, and the best of a week counts"
    )
    return device, (f"CPU, bandwidth: {rate}, {said}",)
