"""How a model is to be run, as far as memory depends on it: the settings of a llama.cpp server."""

from __future__ import annotations

import msgspec

from rung.errors import InputError
from rung.models.tensortypes import TensorType

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Types that keys and values may have, the largest first."""

MOST_TOKENS = 1 << 30
"""Bound of everything that counts tokens; the longest contexts there are have ten million."""
MOST_SLOTS = 256


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is to be run.

    Attributes:
        context: tokens over all slots, llama.cpp's `-c`.
        slots: sequences that are worked on at once.
        unified: whether the slots share one cache instead of having a part each.
        type_k: of cached keys, one of `CACHE_TYPES`.
        type_v: of cached values, likewise; a quantised one needs flash attention.
        flash_attention: whether attention is computed without keeping its scores.
        ubatch: tokens evaluated at once.
        batch: tokens handed over at once, at least `ubatch`.
        gpu_layers: layers on the card, the output counting as one more; None for all that there is a card for.
        experts_on_host: whether the weights of experts stay in the host's memory.
        swa_full: whether sliding windows keep the whole context.
    """

    context: int
    slots: int = 1
    unified: bool = False
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    ubatch: int = 512
    batch: int = 2048
    gpu_layers: int | None = None
    experts_on_host: bool = False
    swa_full: bool = False

    def __post_init__(self) -> None:
        """Refuse what no engine would run.

        Raises:
            InputError: a number is out of bounds, a type of keys or values is none, or quantised values are asked for
                without flash attention.
        """
        bounds = {"context": MOST_TOKENS, "slots": MOST_SLOTS, "ubatch": MOST_TOKENS}
        for name, most in {**bounds, "batch": MOST_TOKENS}.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(f"{name} = {value!r} is not 1 to {most:,}")
        if self.gpu_layers is not None and self.gpu_layers < 0:
            raise InputError(f"gpu_layers = {self.gpu_layers!r} is negative")
        for kind in (self.type_k, self.type_v):
            if kind not in CACHE_TYPES:
                raise InputError(
                    f"{kind!r} is no type of a cache",
                    hint=f"choose one of {', '.join(CACHE_TYPES)}",
                )
        if not self.flash_attention and TensorType[self.type_v.upper()].block > 1:
            raise InputError(
                f"values of the type {self.type_v!r} need flash attention",
                hint="switch flash attention on, or keep values in f16",
            )

    @property
    def tokens_at_once(self) -> int:
        """Tokens that one step really evaluates: no more than the batch or the context have."""
        return min(self.ubatch, self.batch, self.context)


def cached_bytes(kind: str, elements: int) -> int:
    """Bytes of so many cached elements of one of `CACHE_TYPES`; a begun block counts as a whole one."""
    tensor_type = TensorType[kind.upper()]
    return tensor_type.row_bytes(-(-elements // tensor_type.block) * tensor_type.block)
