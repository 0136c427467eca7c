"""The layers of a model, one by one: what each keeps of every token, of a window, or of the sequence as a whole.

Trap by trap as llama.cpp has it; `families` has what differs between
architectures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from rung.models.fit.families import Family, Recurrent, Windows
from rung.models.fit.keys import MOST_CONTEXT, MOST_LAYERS, Keys
from rung.models.fit.layer import Layer
from rung.models.fit.recurrence import state_elements
from rung.models.header import Header

_INDEXER = re.compile(r"blk\.(\d+)\.indexer\.attn_k\.")


class Attention(msgspec.Struct, frozen=True):
    """Numbers of all layers: heads of queries, heads of keys and values, elements of a head's key and value."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key: int
    value: int
    window_key: int
    window_value: int

    def widest(self) -> Attention:
        """The same with the wider heads in every layer."""
        key, value = max(self.key, self.window_key), max(self.value, self.window_value)
        return msgspec.structs.replace(
            self, key=key, value=value, window_key=key, window_value=value
        )


def layer_count(keys: Keys) -> int:
    """Blocks of the model."""
    return keys.needed("block_count", most=MOST_LAYERS)


def attention_of(keys: Keys, layers: int, embedding: int) -> Attention:
    """What the header says of attention.

    A head's size is stated or the embedding divided by the heads; heads of keys and values are those of queries where
    nothing is said of them.

    Raises:
        ModelError: a number is missing or out of bounds.
    """
    heads = keys.per_layer("attention.head_count", layers, 0)
    most = max(heads)
    usual = embedding // most if most else 0
    key = keys.count("attention.key_length", usual)
    value = keys.count("attention.value_length", usual)
    shared = heads
    if keys.has("attention.head_count_kv"):
        shared = keys.per_layer("attention.head_count_kv", layers, 0)
    return Attention(
        heads,
        shared,
        key,
        value,
        keys.count("attention.key_length_swa", key),
        keys.count("attention.value_length_swa", value),
    )


def layers_of(
    keys: Keys,
    family: Family | None,
    attention: Attention,
    embedding: int,
    headers: Sequence[Header],
) -> tuple[Layer, ...]:
    """Every layer in its order.

    Args:
        keys: of the first part of the model.
        family: what is known of the architecture; None takes every layer to attend to the whole context.
        attention: see `attention_of`.
        embedding: elements of a token between blocks.
        headers: of all parts, for what only the tensors tell.

    Raises:
        ModelError: a number is missing or out of bounds.
    """
    count = len(attention.kv_heads)
    windows = _windows(keys, family, count)
    owners = _owners(keys, family, count)
    keepers = _keepers(keys, family, attention)
    state = state_elements(keys, embedding)
    if family is None:  # whichever of its layers have a window, none has wider heads
        attention = attention.widest()
    indexers = keys.per_layer("attention.indexer.key_length", count, 0)
    indexed = _indexed(headers)
    widest = max(attention.kv_heads)
    return tuple(
        _layer(
            attention,
            kv_heads=(attention.kv_heads[n] if family else widest) if owners[n] else 0,
            window=windows[n],
            attends=_attends(keys, family, n),
            state=state if keepers[n] and owners[n] else 0,
            indexer=indexers[n] if n in indexed or not indexed else 0,
        )
        for n in range(count)
    )


def _layer(
    attention: Attention, *, kv_heads: int, window: int, attends: bool, state: int, indexer: int
) -> Layer:
    if not kv_heads or not attends:
        return Layer(kv_heads=0, width_k=0, width_v=0, state=state, owns_cache=False)
    return Layer(
        kv_heads=kv_heads,
        width_k=kv_heads * (attention.window_key if window else attention.key),
        width_v=kv_heads * (attention.window_value if window else attention.value),
        window=window,
        state=state,
        indexer=indexer,
    )


def _windows(keys: Keys, family: Family | None, layers: int) -> tuple[int, ...]:
    """The window of each layer, 0 for the whole context."""
    if family is None or family.windows is Windows.NONE:
        return (0,) * layers
    window = keys.count("attention.sliding_window", family.window, most=MOST_CONTEXT)
    windowed = keys.flags("attention.sliding_window_pattern", layers)
    if windowed is None:
        windowed = _by_period(keys, family, layers)
    return tuple(window if has_one else 0 for has_one in windowed)


def _by_period(keys: Keys, family: Family, layers: int) -> tuple[bool, ...]:
    period = keys.count("attention.sliding_window_pattern", family.period)
    if period == 0:  # an explicit pattern that is missing: the whole context is the upper bound
        return (False,) * layers
    if family.dense_first:
        return tuple(n % period != 0 for n in range(layers))
    return tuple(n % period < period - 1 for n in range(layers))


def _owners(keys: Keys, family: Family | None, layers: int) -> tuple[bool, ...]:
    """Whether each layer has anything of its own: further-token blocks are skipped, some layers use those of others."""
    own = layers
    if family:
        own -= keys.count("nextn_predict_layers", 0)
        own -= keys.count("attention.shared_kv_layers", 0)
    if family and family.cached_layers:
        own = min(own, family.cached_layers)
    keeps = family is None or family.cache
    return tuple(keeps and n < own for n in range(layers))


def _attends(keys: Keys, family: Family | None, layer: int) -> bool:
    if family is None or family.recurrent is not Recurrent.INTERVAL:
        return family is None or family.recurrent is not Recurrent.ALL
    return _ends_interval(keys, family, layer)


def _keepers(keys: Keys, family: Family | None, attention: Attention) -> tuple[bool, ...]:
    """Whether each layer keeps a state; of an unknown family all do that may."""
    count = len(attention.kv_heads)
    kind = family.recurrent if family else Recurrent.BESIDE
    if family and kind is Recurrent.INTERVAL:
        return tuple(not _ends_interval(keys, family, n) for n in range(count))
    if kind in (Recurrent.HEADLESS, Recurrent.BARE):
        inside = keys.per_layer("feed_forward_length", count, 0)
        bare = kind is Recurrent.BARE
        pairs = zip(attention.kv_heads, inside, strict=True)
        return tuple(heads == 0 and not (bare and width) for heads, width in pairs)
    return (kind in (Recurrent.ALL, Recurrent.BESIDE),) * count


def _ends_interval(keys: Keys, family: Family, layer: int) -> bool:
    interval = max(1, keys.count("full_attention_interval", family.interval))
    return (layer + 1) % interval == 0


def _indexed(headers: Sequence[Header]) -> frozenset[int]:
    """Layers with a key for choosing what to attend to, where the tensors tell."""
    names = (tensor.name for header in headers for tensor in header.tensors)
    return frozenset(int(found[1]) for name in names if (found := _INDEXER.match(name)))
