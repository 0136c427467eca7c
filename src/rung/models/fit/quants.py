"""Other quantisations of a model that was read: what they would take, and what to say of few bits."""

from __future__ import annotations

import re

import msgspec

from rung.models.fit.model import Model

_BELOW_4_BITS = "below 4 bits: evaluate on your edge cases first"
_BELOW_3_BITS = "below 3 bits: a smaller model of more bits is usually better"
_LABEL_BITS = re.compile(r"^(?:UD-)?I?Q(\d)")


def requantised(model: Model, file_type: str, total: int) -> Model:
    """The same model in another quantisation, of whose file only the size is known: every group scaled alike.

    Args:
        model: one quantisation, read from its header.
        file_type: the other one's label.
        total: bytes of its files.
    """
    weights = model.weights
    ratio = total / max(1, weights.total)

    def scaled(size: int) -> int:
        return int(size * ratio)

    return Model(
        name=model.name.replace(model.file_type, file_type) if model.file_type else model.name,
        shape=model.shape,
        weights=msgspec.structs.replace(
            weights,
            total=total,
            embedding=scaled(weights.embedding),
            output=scaled(weights.output),
            per_layer=tuple(map(scaled, weights.per_layer)),
            experts_per_layer=tuple(map(scaled, weights.experts_per_layer)),
            active_bytes=scaled(weights.active_bytes),
            host_tables=scaled(weights.host_tables),
            matrices_by_type={},
        ),
        file_type=file_type,
        exact=False,
    )


def quant_caution(file_type: str, bits_per_weight: float) -> str:
    """What to say of a quantisation with few bits; empty for four and more.

    Args:
        file_type: its label, which tells the bits of most of its weights.
        bits_per_weight: over the whole file, for labels that tell nothing.
    """
    labelled = _LABEL_BITS.match(file_type.upper())
    bits = float(labelled[1]) if labelled else bits_per_weight
    if bits < 3:
        return _BELOW_3_BITS
    return _BELOW_4_BITS if bits < 4 else ""
