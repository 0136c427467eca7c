"""A model as `fit` knows it: from its header, or from a catalogue where there is no header yet."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rung.errors import ModelError
from rung.models.filetypes import file_type_name
from rung.models.fit.shape import Shape, shape_of
from rung.models.fit.weights import Weights, weights_of
from rung.models.header import Header


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


def is_adapter(header: Header) -> bool:
    """Whether a file changes another model, as a LoRA does, and is none by itself."""
    return header.text("general.type") == "adapter"


def model_of(headers: Sequence[Header], name: str) -> Model:
    """What the header of a model, or the headers of its parts in their order, tell.

    Raises:
        ModelError: a number that memory depends on is missing or impossible, or it is an adapter.
    """
    if is_adapter(headers[0]):
        raise ModelError(
            f"the file {headers[0].name!r} is an adapter, not a model",
            hint="estimate the model that it is for; an adapter takes little more than its own size",
        )
    return Model(
        name=name,
        shape=shape_of(headers),
        weights=weights_of(headers),
        file_type=file_type_name(headers[0].number("general.file_type")),
        exact=True,
    )
