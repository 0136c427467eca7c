"""What recurrent layers keep of each sequence, whatever its length."""

from __future__ import annotations

from rung.models.fit.rules import Rules
from rung.models.fit.run import Run
from rung.models.fit.shape import Shape
from rung.models.fit.tags import Amount, Tag

_FLOAT = 4
"""Bytes; states are f32 under every setting."""


def state_bytes(shape: Shape, run: Run, rules: Rules) -> tuple[tuple[int, ...], Amount]:
    """Bytes of all slots' states.

    Args:
        shape: of the model.
        run: how many slots it has.
        rules: of the engine; every set there is keeps one state per slot.

    Returns:
        Of each layer, and of all of them together.
    """
    per_layer = tuple(_FLOAT * layer.state * run.slots for layer in shape.layers)
    tag = Tag.EXACT if shape.known else Tag.UNKNOWN
    unsure = not shape.known and any(per_layer)
    note = f"as if the architecture {shape.architecture!r} kept it in every layer" if unsure else ""
    return per_layer, Amount(sum(per_layer), tag, note, low_confidence=unsure)
