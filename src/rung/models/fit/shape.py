"""What a model's header says about its layers, as far as the memory of a run depends on it.

`layers` works out the layers, `keys` reads the numbers; how many bytes an engine makes of them is `cache`'s, `state`'s
and `compute`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rung.errors import ModelError
from rung.models.fit.families import Family, Windows, family
from rung.models.fit.keys import MOST_CONTEXT, Keys
from rung.models.fit.layer import Layer
from rung.models.fit.layers import Attention, attention_of, layer_count, layers_of
from rung.models.fit.recurrence import unread_recurrence
from rung.models.header import Header, Tensor

__all__ = ["Latent", "Layer", "Shape", "shape_of"]


class Latent(msgspec.Struct, frozen=True, kw_only=True):
    """Multi-head latent attention: what all heads share instead of keys and values of their own.

    Attributes:
        rank: elements of the shared part.
        rope: elements of the part with positions.
        absorbed: whether the file's matrices are made for keeping the latent alone.
    """

    rank: int
    rope: int
    absorbed: bool

    @property
    def width(self) -> int:
        """Elements of one token's latent key."""
        return self.rank + self.rope


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What memory depends on.

    Attributes:
        architecture: the family, as the file names it.
        known: whether Rung knows how this family keeps keys and values; otherwise every layer is taken to attend to the
            whole context, which is at least what it takes, unless something is `unread`.
        layers: the blocks in their order, those for predicting further tokens included.
        embedding: elements of a token between blocks.
        heads: of queries, the most that any layer has.
        vocabulary: rows of the output, padding included.
        feed_forward: elements inside a block, the most of any layer.
        context_length: tokens that the model was trained for; None when it does not say.
        experts: of each layer that has any; 0 for none.
        experts_used: by one token.
        expert_feed_forward: elements inside one expert; 0 for none.
        causal: False for models that embed and keep no cache.
        mla: None without latent attention.
        tied: whether the output has no matrix of its own.
        merges: of the tokenizer, which a process keeps tables of.
        unread: names in the header that tell of a state nothing is known of, where the family is not; then even an
            upper bound is not known.
        notes: what a person should know about this reading.
    """

    architecture: str
    known: bool
    layers: tuple[Layer, ...]
    embedding: int
    heads: int
    vocabulary: int
    feed_forward: int
    context_length: int | None = None
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    causal: bool = True
    mla: Latent | None = None
    tied: bool = False
    merges: int = 0
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def head_width(self) -> int:
        """Elements of one head's key, the most of any layer."""
        widths = (layer.width_k // layer.kv_heads for layer in self.layers if layer.kv_heads)
        return max(widths, default=0)


def shape_of(headers: Sequence[Header]) -> Shape:
    """What the header of a model, or the headers of its parts in their order, say of its layers.

    Raises:
        ModelError: a number that memory depends on is missing, out of bounds, or no number.
    """
    keys = Keys(headers[0])
    found = family(keys.architecture)
    count = layer_count(keys)
    embedding = keys.needed("embedding_length")
    attention = attention_of(keys, count, embedding)
    layers = layers_of(keys, found, attention, embedding, headers)
    if (found is None or found.cache) and not any(map(_keeps, layers)):
        raise ModelError(
            f"the model {headers[0].name!r} cannot be estimated: none of its layers keeps anything",
            hint="its header lacks the number of heads; choose another file",
        )
    return Shape(
        architecture=keys.architecture,
        known=found is not None,
        layers=layers,
        embedding=embedding,
        heads=max(attention.heads),
        vocabulary=_vocabulary(keys, headers),
        feed_forward=keys.count("feed_forward_length", 0),
        context_length=keys.count("context_length", 0, most=MOST_CONTEXT) or None,
        experts=keys.count("expert_count", 0),
        experts_used=keys.count("expert_used_count", 0),
        expert_feed_forward=keys.count("expert_feed_forward_length", 0),
        causal=found is None or found.cache,
        mla=_latent(keys, found, attention),
        tied=_tensor(headers, "output.weight") is None,
        merges=keys.header.length("tokenizer.ggml.merges") or 0,
        unread=() if found else unread_recurrence(keys, headers),
        notes=_notes(keys, found, count),
    )


def _keeps(layer: Layer) -> bool:
    """Whether a layer keeps anything; heads without elements keep nothing."""
    return bool(layer.owns_cache and layer.width_k + layer.width_v) or layer.state > 0


def _latent(keys: Keys, found: Family | None, attention: Attention) -> Latent | None:
    rank = keys.count("attention.kv_lora_rank", 0)
    if not rank or found is None or not found.latent:
        return None
    absorbed = keys.has("attention.key_length_mla")  # its key is the latent with the positions
    left = attention.key - (rank if absorbed else attention.value)
    rope = keys.count("rope.dimension_count", max(0, left))
    return Latent(rank=rank, rope=rope, absorbed=absorbed)


def _vocabulary(keys: Keys, headers: Sequence[Header]) -> int:
    """Rows of the output: of its matrix, which may be padded, or as many as there are tokens."""
    matrix = _tensor(headers, "output.weight") or _tensor(headers, "token_embd.weight")
    if matrix is not None:
        return matrix.rows
    return keys.count("vocab_size", keys.header.length("tokenizer.ggml.tokens") or 0)


def _tensor(headers: Sequence[Header], name: str) -> Tensor | None:
    every = (tensor for header in headers for tensor in header.tensors)
    return next((tensor for tensor in every if tensor.name == name), None)


def _notes(keys: Keys, found: Family | None, count: int) -> tuple[str, ...]:
    notes = []
    if (
        found
        and found.windows is Windows.EXPLICIT
        and not keys.has("attention.sliding_window_pattern")
    ):
        notes.append(
            "the header does not say which layers have a window: all keep the whole context"
        )
    if found and found.windows is Windows.NONE and keys.count("attention.sliding_window", 0):
        notes.append("the header has a window that llama.cpp does not use for this architecture")
    further = keys.count("nextn_predict_layers", 0)
    if found and further:
        notes.append(
            f"{further} of {count} blocks predict further tokens; they count as weights, not as cache"
        )
    return tuple(notes)
