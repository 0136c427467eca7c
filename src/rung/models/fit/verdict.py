"""Whether what is needed goes into what there is, in one word.

A figure that is known to miss counts twice before anything is said to fit. What is needed is `estimate`'s to work out.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from rung.models.hardware.machine import DeviceKind

_MIB = 1024 * 1024
TIGHT_BYTES = 512 * _MIB
TIGHT_SHARE = 0.05
"""With less room left than either of these, a model is said to fit tightly."""

_CARD_DOUBT = 1024 * _MIB
"""Least that a doubtful figure on a card may be short of: rules missed by gigabytes there, never by less memory than
this where they missed at all."""


class Verdict(enum.StrEnum):
    """How a model fits, the best first."""

    FITS = "fits"
    TIGHT = "tight"
    """It fits with less than 5 % or 512 MiB left, or with figures that are known to miss."""
    SPILLS = "spills"
    """A part of it stays in the host's memory, beside the card."""
    NO = "no"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What one device has and what would be taken of it.

    Attributes:
        device: its name.
        kind: whose memory it is.
        needed: bytes.
        available: bytes.
        doubtful: bytes of what is needed that rest on a rule known to miss in such a setting.
    """

    device: str
    kind: DeviceKind
    needed: int
    available: int
    doubtful: int = 0

    @property
    def headroom(self) -> int:
        """Bytes that stay free; negative when they do not suffice."""
        return self.available - self.needed

    @property
    def margin(self) -> int:
        """Bytes that are to stay free before it is said to fit."""
        doubt = self.doubtful
        if doubt and self.kind is DeviceKind.GPU:
            doubt = max(doubt, _CARD_DOUBT)
        return doubt + max(TIGHT_BYTES, int(TIGHT_SHARE * self.available))

    @property
    def verdict(self) -> Verdict:
        """Of this device alone."""
        if self.headroom < 0:
            return Verdict.NO
        return Verdict.TIGHT if self.headroom < self.margin else Verdict.FITS


def verdict_of(budgets: Sequence[Budget], *, spilled: bool) -> Verdict:
    """The verdict of all devices together: that of the worst.

    Args:
        budgets: one a device.
        spilled: whether layers stay on the host that a card was to hold.
    """
    worst = max((budget.verdict for budget in budgets), key=_ORDER.index)
    return Verdict.SPILLS if spilled and worst is not Verdict.NO else worst


def better(one: Verdict, other: Verdict) -> bool:
    """Whether the first verdict is better than the second."""
    return _ORDER.index(one) < _ORDER.index(other)


_ORDER = tuple(Verdict)
