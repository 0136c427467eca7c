"""Kinds of machine that models are bought or built for, described: `profiles.json`, each figure with its source.

They answer "would it fit there?" without being there. What this machine has is `detection`'s.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from importlib import resources

import msgspec

from rung.errors import InputError
from rung.models.hardware.machine import Device, DeviceKind, Machine

_MIB = 1024 * 1024


class _Described(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device as the data file has it; `sources` says where a figure is from."""

    name: str
    kind: DeviceKind
    backend: str
    total_mib: int
    available_mib: int
    bandwidth_gb_s: float
    sources: Mapping[str, str]


class _Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    aliases: tuple[str, ...]
    devices: tuple[_Described, ...]


class _Profiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    as_of: str
    profiles: tuple[_Profile, ...]


def profile_names() -> tuple[str, ...]:
    """The names that `machine_named` knows, aliases left out."""
    return tuple(profile.name for profile in _read().profiles)


def machine_named(name: str) -> Machine:
    """The machine that a profile describes.

    Args:
        name: of the profile or one of its aliases, in any case, words parted by `-`, `_` or spaces.

    Raises:
        InputError: there is no such profile.
    """
    wanted = "-".join(name.casefold().replace("_", " ").replace("-", " ").split())
    known = {word: one for one in _read().profiles for word in (one.name, *one.aliases)}
    if wanted in known:
        return _machine(known[wanted])
    near = difflib.get_close_matches(wanted, known, 1)
    hint = f"did you mean {known[near[0]].name!r}? " if near else ""
    raise InputError(
        f"there is no profile of a machine named {name!r}",
        hint=f"{hint}known are {', '.join(profile_names())}",
    )


def _machine(profile: _Profile) -> Machine:
    notes = (
        f"{device.name}, {figure}: {source}"
        for device in profile.devices
        for figure, source in device.sources.items()
    )
    return Machine(
        name=profile.name,
        devices=tuple(_device(device) for device in profile.devices),
        detected=False,
        notes=tuple(notes),
    )


def _device(described: _Described) -> Device:
    return Device(
        name=described.name,
        kind=described.kind,
        backend=described.backend,
        total=described.total_mib * _MIB,
        available=described.available_mib * _MIB,
        bandwidth=described.bandwidth_gb_s * 1e9,
    )


@functools.cache
def _read() -> _Profiles:
    content = resources.files(__package__).joinpath("profiles.json").read_bytes()
    return msgspec.json.decode(content, type=_Profiles)
