"""What one block of a model keeps of what it has read."""

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
