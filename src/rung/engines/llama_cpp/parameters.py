"""What one loaded model is: its file and everything that is fixed when it is loaded.

Two rungs with equal parameters share one child process. What a request may ask is `guard`'s.
"""

from __future__ import annotations

import enum

import msgspec


class KvType(enum.StrEnum):
    """The type of the key-value cache's elements."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class FlashAttention(enum.StrEnum):
    """Whether attention is computed without writing its matrix out."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Pooling(enum.StrEnum):
    """How token embeddings become the embedding of a text."""

    MEAN = "mean"
    LAST = "last"
    CLS = "cls"


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter that is loaded beside its model.

    Attributes:
        name: how requests choose it.
        path: absolute path of its GGUF file.
    """

    name: str
    path: str


class ModelParameters(msgspec.Struct, frozen=True, kw_only=True):
    """One model as it is loaded.

    Attributes:
        path: absolute path of the GGUF file.
        context: tokens that prompt and answer of one request may take together.
        slots: requests that are worked on at once.
        threads: CPU threads.
        batch_tokens: prompt tokens evaluated at once.
        kv_type: of keys and values.
        flash_attention: needed for a quantised value cache.
        gpu_layers: layers that a GPU computes, where the wheel has one.
        pooling: None for models that do not embed.
        adapters: chosen by name per request; none is applied unless asked for.
        memory_mib: address space the child may take beyond the model's files.
        start_s: seconds until a child that is not ready is given up.
    """

    path: str
    context: int = 4096
    slots: int = 2
    threads: int = 1
    batch_tokens: int = 512
    kv_type: KvType = KvType.F16
    flash_attention: FlashAttention = FlashAttention.AUTO
    gpu_layers: int = 0
    pooling: Pooling | None = None
    adapters: tuple[Adapter, ...] = ()
    memory_mib: int = 16_384
    start_s: float = 120.0
