"""A model as `fit` knows it: from its header, or from a catalogue where there is no header yet."""

from __future__ import annotations

import msgspec

from rung.models.fit.shape import Shape
from rung.models.fit.weights import Weights


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model before it runs.

    Attributes:
        name: as people call it.
        shape: of its layers.
        weights: by group.
        file_type: the mix of types, such as `Q4_K_M`.
        exact: False when from a catalogue instead of a header.
    """

    name: str
    shape: Shape
    weights: Weights
    file_type: str
    exact: bool
