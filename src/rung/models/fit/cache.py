"""What keys and values take: exactly, from the header and the engine's rules.

A layer's cache has `cells x (bytes of a key + bytes of a value)` for each stream: one that all slots share, or one per
slot. Formulas: llama.cpp at ec98e2002, confirmed on 76 allocator logs.
"""

from __future__ import annotations

from rung.errors import InputError
from rung.models.fit.rules import LatentCache, Rules
from rung.models.fit.run import Run, cached_bytes
from rung.models.fit.shape import Layer, Shape
from rung.models.fit.tags import Amount, Tag
from rung.models.tensortypes import TensorType


def cache_bytes(shape: Shape, run: Run, rules: Rules) -> tuple[tuple[int, ...], Amount]:
    """Bytes of all slots' caches.

    Returns:
        Of each layer, and of all of them together.
    """
    per_layer = tuple(
        streams(run) * cells(layer, run, rules) * token_bytes(shape, layer, run, rules)
        for layer in shape.layers
    )
    if shape.known:
        return per_layer, Amount(sum(per_layer), Tag.EXACT)
    note = f"upper bound: the architecture {shape.architecture!r} is not known"
    return per_layer, Amount(sum(per_layer), Tag.UNKNOWN, note, low_confidence=True)


def check_types(shape: Shape, run: Run, rules: Rules) -> None:
    """Refuse types of keys and values that no engine keeps such heads in: blocks do not cross from head to head.

    Raises:
        InputError: the blocks of a type do not divide a head.
    """
    for layer in shape.layers:
        for kind, width in zip((run.type_k, run.type_v), _heads(shape, layer, rules), strict=True):
            block = TensorType[kind.upper()].block
            if width % block:
                raise InputError(
                    f"the cache cannot have the type {kind!r}: its blocks of {block} do not divide the heads of "
                    f"{width} elements that the model has",
                    hint="take f16 for keys and values of this model",
                )


def _heads(shape: Shape, layer: Layer, rules: Rules) -> tuple[int, int]:
    """Elements of one head's key and value; a latent is one head."""
    if not layer.owns_cache:
        return 0, 0
    key, value = widths(shape, layer, rules)
    if (key, value) != (layer.width_k, layer.width_v):
        return key, value
    return key // layer.kv_heads, value // layer.kv_heads


def token_bytes(shape: Shape, layer: Layer, run: Run, rules: Rules) -> int:
    """Bytes that one token takes in one layer's cache."""
    if not layer.owns_cache:
        return 0
    key, value = widths(shape, layer, rules)
    indexer = cached_bytes(run.type_k, layer.indexer)
    return cached_bytes(run.type_k, key) + cached_bytes(run.type_v, value) + indexer


def widths(shape: Shape, layer: Layer, rules: Rules) -> tuple[int, int]:
    """Elements of one token's key and value in one layer's cache."""
    latent = shape.mla
    if latent is None:
        return layer.width_k, layer.width_v
    kept = rules.absorbed if latent.absorbed else rules.plain
    if kept is LatentCache.HEADS:
        return layer.width_k, layer.width_v
    return latent.width, latent.rank if kept is LatentCache.LATENT_AND_VALUE else 0


def cells(layer: Layer, run: Run, rules: Rules) -> int:
    """Tokens that one stream of a layer's cache has room for."""
    whole = stream_cells(run, rules)
    if not layer.window or not rules.window_cache or run.swa_full:
        return whole
    sharing = run.slots if run.unified else 1
    seen = layer.window * sharing + run.tokens_at_once
    return min(whole, _padded(seen, rules.context_padding))


def stream_cells(run: Run, rules: Rules) -> int:
    """Tokens that one stream of a cache of the whole context has room for; slots split it, rounded up."""
    padding = rules.context_padding if run.flash_attention else rules.plain_padding
    return _padded(_padded(run.context, padding) // streams(run), padding)


def streams(run: Run) -> int:
    """How many caches there are: one, or one per slot."""
    return 1 if run.unified else run.slots


def _padded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
