"""How fast a model will write: reading its weights and cache once a token, and a moment beside that.

The two-factor model `t = bytes / (efficiency x bandwidth) + t0`, summed over the devices that hold a part. Figures of
devices are data, `speeds.json`. How fast a prompt is read follows from no bandwidth: it is unknown until measured. What
was measured of the very model takes the rule's place.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from importlib import resources

import msgspec

from rung.models.fit.measured import Measured
from rung.models.fit.tags import Tag
from rung.models.hardware.machine import Device

BAND = 0.35
"""Share by which a speed may be off on a device whose own series was fitted; more where that one missed by more."""

UNFITTED_BAND = 0.45
"""The same where only the usual figures of a backend are known."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens a second that one request writes while no other one does.

    Attributes:
        tokens_per_s: with little in the context.
        full_tokens_per_s: with a slot's whole context in use.
        band: share by which both may be off, upwards and downwards.
        tag: `rule`, or `measured` where the model wrote under this run here; with a full context it is that, less what
            the rule says that the cache costs.
        basis: what it was worked out of, in words.
        prompt_tokens_per_s: at which prompts were read here; None where that was not measured.
    """

    tokens_per_s: float
    full_tokens_per_s: float
    band: float
    tag: Tag = Tag.RULE
    basis: str
    prompt_tokens_per_s: float | None = None

    @property
    def low(self) -> float:
        """The slow end of the band."""
        return self.tokens_per_s * (1 - self.band)

    @property
    def high(self) -> float:
        """The fast end of the band."""
        return self.tokens_per_s * (1 + self.band)


class Reading(msgspec.Struct, frozen=True):
    """What a token reads from one device.

    Attributes:
        device: which.
        weights: bytes.
        cache: bytes of keys and values when a slot's context is full.
        experts: whether the weights are those of a mixture of experts, which are read piece by piece.
    """

    device: Device
    weights: int
    cache: int
    experts: bool = False


class Pace(msgspec.Struct, frozen=True):
    """How a device turns bytes into time.

    Attributes:
        rate: bytes a second that it really reads.
        overhead_s: seconds of a token that do not depend on bytes.
    """

    rate: float
    overhead_s: float

    def seconds(self, size: int | float) -> float:
        """Time of a token that reads so many bytes."""
        return size / self.rate + self.overhead_s


class _Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: str
    words: tuple[str, ...]
    efficiency: float
    overhead_ms: float
    rows: int
    largest_error: float


class _Experts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the rate at which a device reads dense weights, the share at which it reads those of experts."""

    efficiency: float
    rows: int
    largest_error: float


class _Usual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    backend: str
    efficiency: float
    overhead_ms: float


class _Speeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    as_of: str
    source: str
    fitted: tuple[_Fitted, ...]
    experts: _Experts
    usual: tuple[_Usual, ...]


def speed_of(readings: Sequence[Reading]) -> Speed | None:
    """The speed of a model whose parts are read from these devices; None where a bandwidth is unknown.

    Args:
        readings: one a device; devices that hold nothing that a token reads are left out.
    """
    paces = [_pace(reading) for reading in readings]
    if not readings or any(pace is None for pace in paces):
        return None
    known = [pace for pace in paces if pace is not None]
    together = list(zip(known, readings, strict=True))
    empty = sum(pace.seconds(reading.weights) for pace, reading in together)
    full = sum(pace.seconds(reading.weights + reading.cache) for pace, reading in together)
    return Speed(
        tokens_per_s=1 / empty,
        full_tokens_per_s=1 / full,
        band=max(_band(reading.device) for reading in readings),
        basis=" + ".join(_basis(reading) for reading in readings),
    )


def with_measured(speed: Speed, measured: Measured) -> Speed:
    """The speed that was measured, where it was; what a full context costs stays the rule's.

    Args:
        speed: by the rule.
        measured: of the same model under the same run, on this machine.
    """
    prompts = measured.prompt_tokens_per_s
    if measured.tokens_per_s is None:
        return msgspec.structs.replace(speed, prompt_tokens_per_s=prompts)
    return Speed(
        tokens_per_s=measured.tokens_per_s,
        full_tokens_per_s=measured.tokens_per_s * speed.full_tokens_per_s / speed.tokens_per_s,
        band=0.0,
        tag=Tag.MEASURED,
        basis=f"the fastest here so far, {measured.at[:10]}",
        prompt_tokens_per_s=prompts,
    )


def _pace(reading: Reading) -> Pace | None:
    pace = pace_of(reading.device)
    if pace is None or not reading.experts:
        return pace
    return Pace(pace.rate * _read().experts.efficiency, pace.overhead_s)


def pace_of(device: Device) -> Pace | None:
    """How fast a device reads: its own figures, those of its series, else the usual ones of its backend."""
    if not device.bandwidth:
        return None
    series, usual = _series(device.name), _usual(device.backend)
    efficiency = device.efficiency or (series.efficiency if series else usual.efficiency)
    overhead = device.overhead_s
    if overhead is None:
        overhead = (series.overhead_ms if series else usual.overhead_ms) / 1000
    return Pace(device.bandwidth * efficiency, overhead)


def has_series(name: str) -> bool:
    """Whether there are fitted figures of a device with this name."""
    return _series(name) is not None


def fitted_pace(points: Sequence[tuple[float, float]]) -> Pace | None:
    """The pace that fits measured tokens best, by least squares of the relative error; None with too few of them.

    Args:
        points: bytes that a token reads, and the seconds it took.
    """
    if len({size for size, _ in points}) < 2:
        return None
    # (slope x size + overhead - time) / time, so each row counts by its share, not by its size
    rows = [(size / time, 1 / time) for size, time in points]
    aa, ab = sum(a * a for a, _ in rows), sum(a * b for a, b in rows)
    bb, a, b = sum(b * b for _, b in rows), sum(a for a, _ in rows), sum(b for _, b in rows)
    determinant = aa * bb - ab * ab
    slope, overhead = (a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant
    if overhead < 0:  # no device is faster than reading alone
        slope, overhead = a / aa, 0.0
    return Pace(1 / slope, overhead) if slope > 0 and math.isfinite(slope) else None


def _band(device: Device) -> float:
    series = _series(device.name)
    return max(BAND, series.largest_error) if series else UNFITTED_BAND


def _basis(reading: Reading) -> str:
    said = f"{(reading.device.bandwidth or 0) / 1e9:,.0f} GB/s on {reading.device.name}"
    if not reading.experts:
        return said
    known = _read().experts
    return f"{said}, {known.efficiency:.0%} of it for experts (by {known.rows} measurements)"


def _series(name: str) -> _Fitted | None:
    words = set(re.findall(r"\w+", name.casefold()))
    matching = (series for series in _read().fitted if words.issuperset(series.words))
    return next(matching, None)


def _usual(backend: str) -> _Usual:
    usual = {one.backend: one for one in _read().usual}
    return usual.get(backend, usual["cpu"])


@functools.cache
def _read() -> _Speeds:
    content = resources.files(__package__).joinpath("speeds.json").read_bytes()
    return msgspec.json.decode(content, type=_Speeds)
