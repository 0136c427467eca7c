"""A model without a header: its hyperparameters from a catalogue or a log, and the size of its file.

The hyperparameters are put as a header would put them, so that the same code reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rung.models.fit.model import Model
from rung.models.fit.shape import Shape, shape_of
from rung.models.fit.weights import Weights
from rung.models.header import Header
from rung.models.metadata import Array, Entry
from rung.models.tensortypes import TensorType

Numbers = int | Sequence[int] | None


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True):
    """What memory follows from; `further` has keys of the header that no field is for.

    Attributes:
        architecture: `general.architecture` of its GGUF files.
        layers: blocks.
        heads: of queries, of each layer or of all.
        kv_heads: of keys and values, likewise; None for as many as of queries.
        head_width: elements of one head's key and value; None for the embedding divided by the heads.
        embedding: elements of a token between blocks.
        feed_forward: elements inside a block.
        vocabulary: tokens.
        tied: whether the output has no matrix of its own.
        experts: of a layer.
        experts_used: by one token.
        expert_feed_forward: elements inside one expert.
        window: tokens that windowed layers look back on; 0 for what the architecture has.
        context: tokens it was trained for; 0 for unknown.
        further: by key, without the architecture.
    """

    architecture: str
    layers: int
    heads: Numbers
    embedding: int
    vocabulary: int
    kv_heads: Numbers = None
    head_width: int | None = None
    feed_forward: Numbers = 0
    tied: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    window: int = 0
    context: int = 0
    further: Mapping[str, Numbers] = {}


def shape_from(hyperparameters: Hyperparameters, name: str) -> Shape:
    """The shape that such a model has.

    Raises:
        ModelError: a number is missing or impossible.
    """
    shape = shape_of([_header(hyperparameters, name)])
    return msgspec.structs.replace(
        shape, vocabulary=hyperparameters.vocabulary, tied=hyperparameters.tied
    )


def model_from(
    hyperparameters: Hyperparameters,
    *,
    name: str,
    file_type: str,
    file_bytes: int,
    parameters: int,
) -> Model:
    """A model of which the hyperparameters and the size of the file are known.

    The table of tokens and the output have the types that llama.cpp's mixes give them, where `file_type` is one of
    those; the blocks share what is left.

    Raises:
        ModelError: a number is missing or impossible.
    """
    shape = shape_from(hyperparameters, name)
    return Model(
        name=name,
        shape=shape,
        weights=weights_from(
            shape, file_bytes=file_bytes, parameters=parameters, file_type=file_type
        ),
        file_type=file_type,
        exact=False,
    )


def weights_from(shape: Shape, *, file_bytes: int, parameters: int, file_type: str = "") -> Weights:
    """How a file of a known size is likely to divide into groups; an unknown mix is taken to be even."""
    count = len(shape.layers)
    each = file_bytes / max(1, parameters)
    table = _table_bytes(shape, file_type, each, multiplied=shape.tied)
    output = 0 if shape.tied else _table_bytes(shape, file_type, each, multiplied=True)
    table, output = min(table, file_bytes // 3), min(output, file_bytes // 3)
    layer = (file_bytes - table - output) // count
    of_experts = 3 * shape.experts * shape.expert_feed_forward * shape.embedding
    experts = min(layer, int(of_experts * each))
    unused = 0.0
    if shape.experts:
        unused = experts * count * max(0, shape.experts - shape.experts_used) / shape.experts
    return Weights(
        total=file_bytes,
        embedding=table,
        output=output,
        per_layer=(layer,) * count,
        experts_per_layer=(experts,) * count,
        parameters=parameters,
        active_bytes=file_bytes - (0 if shape.tied else table) - int(unused),
    )


def _table_bytes(shape: Shape, file_type: str, each: float, *, multiplied: bool) -> int:
    """Bytes of a matrix of tokens by embedding: of the type its mix is named after, of a larger one as the output."""
    elements = shape.vocabulary * shape.embedding
    names = [kind for kind in TensorType if file_type.upper().startswith(kind.name)]
    if not names:
        return int(elements * each)
    kind = max(names, key=lambda one: len(one.name))
    if multiplied and kind.block > 1 and kind is not TensorType.Q8_0:
        kind = TensorType.Q6_K
    if shape.embedding % kind.block:
        return int(elements * each)
    return shape.vocabulary * kind.row_bytes(shape.embedding)


def _header(known: Hyperparameters, name: str) -> Header:
    """The header that a file of the model would have, as far as memory depends on it; no tensors."""
    numbers: dict[str, Numbers] = {
        "block_count": known.layers,
        "embedding_length": known.embedding,
        "feed_forward_length": known.feed_forward,
        "context_length": known.context,
        "vocab_size": known.vocabulary,
        "attention.head_count": known.heads,
        "attention.head_count_kv": known.kv_heads,
        "attention.key_length": known.head_width,
        "attention.value_length": known.head_width,
        "attention.sliding_window": known.window or None,
        "expert_count": known.experts,
        "expert_used_count": known.experts_used,
        "expert_feed_forward_length": known.expert_feed_forward,
        **known.further,
    }
    prefix = known.architecture
    entries = {
        f"{prefix}.{key}": _entry(value) for key, value in numbers.items() if value is not None
    }
    entries["general.architecture"] = Entry(known.architecture, _TEXT, 0, 0, b"")
    return Header(name, 0, 32, entries, ())


def _entry(value: int | Sequence[int]) -> Entry:
    if isinstance(value, int):
        return Entry(value, _WHOLE, 0, 0, b"")
    return Entry(Array(len(value), tuple(value)), _ARRAY, 0, 0, b"")


_WHOLE, _TEXT, _ARRAY = 4, 8, 9  # types of the GGUF specification
