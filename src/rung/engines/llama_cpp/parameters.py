"""What one loaded model is: its file and everything that is fixed when it is loaded.

Two rungs with equal parameters share one child process. What a request may ask is `guard`'s.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from rung.config import FlashAttention, KvType, LoadSettings, Pooling
from rung.engines.llama_cpp.model_file import read_model_file
from rung.errors import ModelError

USUAL_CONTEXT = 4096
"""Tokens a request may take where nothing else is asked for."""


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
        memory_mib: address space the child may take beyond the model's files; None for what its estimate allows.
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
    memory_mib: int | None = None
    start_s: float = LoadSettings().start_s


def parameters_of(path: Path, load: LoadSettings, *, root: Path) -> ModelParameters:
    """The parameters that settings ask for; what they leave open is taken from this machine.

    Args:
        path: of the GGUF file.
        load: how it is to be loaded.
        root: the folder that adapters' paths are relative to.
    """
    return ModelParameters(
        path=str(path.absolute()),
        context=load.context or _usual_context(path),
        slots=load.slots,
        threads=load.threads or _cores(),
        batch_tokens=load.batch_tokens,
        kv_type=load.kv_type,
        flash_attention=load.flash_attention,
        gpu_layers=load.gpu_layers,
        pooling=load.pooling,
        adapters=tuple(
            Adapter(name, str((root / file).absolute())) for name, file in load.adapters.items()
        ),
        start_s=load.start_s,
    )


def _cores() -> int:
    """Cores this process may use; two threads of one core only wait for each other in matrix products."""
    import psutil  # noqa: PLC0415  # children, which start often, import this module too

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, psutil.cpu_count(logical=False) or 1))


def _usual_context(path: Path) -> int:
    """What the model was trained for, as far as its file tells and memory is usually spent on."""
    try:
        trained = read_model_file(path).number("context_length")
    except ModelError:  # said when the model is to be loaded, with what is wrong
        return USUAL_CONTEXT
    return min(trained or USUAL_CONTEXT, USUAL_CONTEXT)
