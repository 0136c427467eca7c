"""A machine of which only the memory is told: like the described laptops, less what their system takes."""

from __future__ import annotations

import msgspec

from rung.models.hardware.machine import Machine
from rung.models.hardware.profiles import machine_named

_LAPTOPS = ("laptop-8gb", "laptop-16gb", "laptop-32gb")
_GIB = 1024**3


def machine_with(ram: float) -> Machine:
    """A machine without a graphics card and with `ram` GiB of memory.

    What its system takes and its bandwidth are those of the largest described laptop that has no more memory. With less
    than the smallest one, the system is taken to use the same share of it.
    """
    total = round(ram * _GIB)
    laptops = [machine_named(name) for name in _LAPTOPS]
    like = next((one for one in reversed(laptops) if one.host.total <= total), laptops[0])
    taken = like.host.total - like.host.available
    left = total - min(taken, taken * total // like.host.total)
    host = msgspec.structs.replace(like.host, total=total, available=left)
    return Machine(
        name=f"a machine with {ram:g} GiB",
        devices=(host,),
        detected=False,
        notes=(
            f"{(total - left) / _GIB:.1f} GiB are left to its system and it reads"
            f" {(like.host.bandwidth or 0) / 1e9:.0f} GB/s, much as {like.name} (assumed)",
        ),
    )
