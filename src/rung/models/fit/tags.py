"""How a figure came about, so that a sum of bytes never says more than is known of it."""

from __future__ import annotations

import enum

import msgspec


class Tag(enum.StrEnum):
    """Where a figure is from, the surest first."""

    EXACT = "exact"
    """Follows from the file's header and the engine's own arithmetic."""
    MEASURED = "measured"
    """Was read from an engine that ran."""
    RULE = "rule"
    """A formula that was checked on measurements of others."""
    UNKNOWN = "unknown"
    """Nothing is known; an upper bound where one can be given."""


class Amount(msgspec.Struct, frozen=True):
    """Some memory.

    Attributes:
        bytes: how much.
        tag: where the figure is from.
        note: what a person should know about it; empty for nothing.
        low_confidence: whether the rule is known to miss by more than a tenth in such a setting.
    """

    bytes: int
    tag: Tag
    note: str = ""
    low_confidence: bool = False

    def __add__(self, other: Amount) -> Amount:
        """Both together, as sure as the less sure one."""
        return Amount(
            self.bytes + other.bytes,
            max(self.tag, other.tag, key=_ORDER.index),
            "; ".join(dict.fromkeys(note for note in (self.note, other.note) if note)),
            self.low_confidence or other.low_confidence,
        )


NOTHING = Amount(0, Tag.EXACT)
"""No memory at all."""

_ORDER = tuple(Tag)
