"""Apple's unified memory: how much of it the graphics processor may hold."""

from __future__ import annotations

import platform
import subprocess

from rung.models.hardware.machine import Device, DeviceKind
from rung.models.hardware.memory import Memory

_GIB = 1024**3
_LARGE = 36 * _GIB
_BANDWIDTHS = {
    "M1": 68e9,
    "M1 Max": 400e9,
    "M1 Ultra": 800e9,
    "M2 Ultra": 800e9,
    "M3 Ultra": 819.2e9,
    "M4": 120e9,
    "M4 Pro": 273e9,
    "M4 Max": 410e9,
    "M5": 153.6e9,
    "M5 Pro": 307e9,
    "M5 Max": 614e9,
}
"""Peak bytes per second as Apple and the press state them; of two variants the slower one."""


def apple_device(memory: Memory) -> Device | None:
    """The one memory of an Apple computer of their own make; None on any other machine."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return None
    limit = _asked("iogpu.wired_limit_mb")
    chip = _asked("machdep.cpu.brand_string").removeprefix("Apple ")
    most = working_set(memory.total, int(limit) if limit.isdecimal() else 0)
    return Device(
        name=f"Apple {chip}".strip(),
        kind=DeviceKind.UNIFIED,
        backend="metal",
        total=memory.total,
        available=min(most, memory.available),
        bandwidth=_BANDWIDTHS.get(chip),
    )


def working_set(total: int, limit_mib: int) -> int:
    """Bytes the graphics processor may hold: the limit that was set, else the system's share.

    The shares are two thirds up to 36 GiB and three quarters above, as observed on machines of 8 to 48 GB.

    Args:
        total: the machine's memory in bytes.
        limit_mib: the setting `iogpu.wired_limit_mb`; 0 when nobody set it.
    """
    if limit_mib > 0:
        return min(total, limit_mib * 1024 * 1024)
    return total * 2 // 3 if total <= _LARGE else total * 3 // 4


def _asked(setting: str) -> str:
    """One answer of `sysctl`, empty when it has none."""
    command = ["/usr/sbin/sysctl", "-n", setting]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
