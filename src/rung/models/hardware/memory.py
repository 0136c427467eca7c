"""How much memory this machine, or the container it is, has and has left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil


class Memory(msgspec.Struct, frozen=True):
    """Memory in bytes.

    Attributes:
        total: that there is.
        available: that can be had without swapping; file caches count as available.
    """

    total: int
    available: int


MemoryReading = Callable[[], Memory]


def read_memory() -> Memory:
    """The machine's memory now, or that of the tightest control group around this process."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in control_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")):
        total = min(total, group.total)
        available = min(available, group.available)
    return Memory(total, available)


def control_groups(membership: Path, root: Path) -> Iterator[Memory]:
    """The limits of the groups that this process is in, innermost first; groups without a limit are left out."""
    try:
        lines = membership.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return  # no Linux: no control groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = root / controllers if controllers else root
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            if (group := _limit_of(place, *names)) is not None:
                yield group
            if place == base:
                break


def _limit_of(folder: Path, limit: str, usage: str, reclaimable: str) -> Memory | None:
    """One group's memory, None where it has no limit of its own."""
    try:
        most = int((folder / limit).read_text(encoding="ascii"))
        used = int((folder / usage).read_text(encoding="ascii"))
        facts = (folder / "memory.stat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None  # "max", or the root group, which has no such files
    cached = dict(zip(facts[::2], facts[1::2], strict=False)).get(reclaimable, "0")
    return Memory(most, max(0, most - used + int(cached)))
