"""What a model's header says about its layers, as far as the memory of a run depends on it.

`layers` works out the layers, `keys` reads the numbers; how many bytes an engine makes of them is `cache`'s, `state`'s
and `compute`'s.
"""

from __future__ import annotations

import msgspec


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One block of a model.

    Attributes:
        kv_heads: heads of keys and values, 0 where the layer does not attend.
        width_k: elements of one token's cached keys, over all heads.
        width_v: of its values, likewise.
        window: tokens that the layer looks back on; 0 for the whole context.
        state: floats (f32) that the layer keeps per sequence, whatever the context; 0 for none.
        owns_cache: whether keys and values are kept for this layer, rather than another layer's used or none.
        indexer: elements of one token's key for choosing what to attend to, beside the others; 0 for none.
    """

    kv_heads: int
    width_k: int
    width_v: int
    window: int = 0
    state: int = 0
    owns_cache: bool = True
    indexer: int = 0


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
            whole context, which is at least what it takes.
        layers: the blocks in their order, those for predicting further tokens included.
        embedding: elements of a token between blocks.
        heads: of queries, the most that any layer has.
        vocabulary: rows of the output, padding included.
        feed_forward: elements inside a block, the most of any layer.
        context_length: tokens that the model was trained for; None when it does not say.
        experts: of each layer that has any; 0 for none.
        experts_used: by one token.
        causal: False for models that embed and keep no cache.
        mla: None without latent attention.
        tied: whether the output has no matrix of its own.
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
    causal: bool = True
    mla: Latent | None = None
    tied: bool = False
    notes: tuple[str, ...] = ()
