"""What is checked before a child is started: the files, the parameters against them, and the memory.

Everything found here is cheaper and clearer than what the engine would say, or than what it would do: some
parameters make it hang.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rung.config import FlashAttention, KvType
from rung.engines.llama_cpp.footprint import Footprint
from rung.engines.llama_cpp.model_file import (
    ModelFile,
    model_file_of,
    read_model_file,
)
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.errors import ModelError
from rung.models.fingerprint import Fingerprint, fingerprint
from rung.models.fit.measured import Measurements
from rung.models.hardware.memory import MemoryReading
from rung.models.scan.gate import check_loadable
from rung.models.shards import read_model

_BOUNDS = {
    "context": (16, 16_777_216),
    "slots": (1, 256),
    "threads": (1, 512),
    "batch_tokens": (16, 65_536),
    "gpu_layers": (0, 10_000),
    "memory_mib": (256, 16_777_216),
}


class Loadable(msgspec.Struct, frozen=True):
    """A model that may be loaded.

    Attributes:
        prints: of the model's and its adapters' files.
        footprint: what it will take.
    """

    prints: tuple[Fingerprint, ...]
    footprint: Footprint


def look_at(
    parameters: ModelParameters,
    memory: MemoryReading,
    role: Role = Role.SERVER,
    measurements: Measurements | None = None,
) -> Loadable:
    """Check a model before it is loaded.

    Args:
        parameters: the model.
        memory: reads the machine's memory.
        role: the program that is to load it.
        measurements: what models took here before; None for rules alone.

    Raises:
        ModelError: a file is missing, blocked or no model, a parameter is out of bounds or does not fit the model,
            or the model needs more memory than the machine has.
    """
    check_bounds(parameters)
    before = fingerprint(Path(parameters.path))
    headers = read_model(Path(parameters.path))
    file = model_file_of(headers[0], before)
    _check_kind(file)
    adapters = [read_model_file(Path(adapter.path)) for adapter in parameters.adapters]
    for adapter in adapters:
        _check_adapter(adapter, file)
    _check_context(file, parameters)
    _check_tokenizer(file)
    for each in (file, *adapters):
        check_loadable(Path(each.path))
    footprint = Footprint(headers, parameters, role, measurements)
    if footprint.needed > (total := memory().total):
        raise ModelError(
            f"the model {file.path!r} needs about {size_text(footprint.needed)} of memory with {parameters.slots} × "
            f"{parameters.context} tokens of context, this machine has {size_text(total)}",
            hint="choose a smaller model or quantisation, a shorter context, fewer slots, or a quantised kv_type",
        )
    return Loadable((file.fingerprint, *(adapter.fingerprint for adapter in adapters)), footprint)


def check_bounds(parameters: ModelParameters) -> None:
    """Check parameters that no model can be loaded with.

    Raises:
        ModelError: one is out of bounds, or two exclude each other.
    """
    for name, (least, most) in _BOUNDS.items():
        value = getattr(parameters, name)
        if value is not None and not least <= value <= most:
            raise ModelError(f"{name} = {value} is not within {least} and {most}")
    if parameters.kv_type is not KvType.F16 and parameters.flash_attention is FlashAttention.OFF:
        raise ModelError(
            f"kv_type = {parameters.kv_type.value!r} needs flash attention, which is off",
            hint="set flash_attention to 'auto', or kv_type to 'f16'",
        )


def prints(parameters: ModelParameters) -> tuple[Fingerprint, ...] | None:
    """The files as they are now, None where one is missing."""
    paths = (parameters.path, *(adapter.path for adapter in parameters.adapters))
    try:
        return tuple(fingerprint(Path(path)) for path in paths)
    except ModelError:
        return None


def _check_kind(file: ModelFile) -> None:
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise ModelError(
            f"{file.path!r} is not a model but of the type {kind!r}",
            hint="name the model's file; rung.toml has a rung's adapters in load.adapters",
        )


def _check_adapter(adapter: ModelFile, model: ModelFile) -> None:
    if adapter.metadata.get("adapter.type") != "lora":
        raise ModelError(f"{adapter.path!r} is not a LoRA adapter")
    if adapter.architecture != model.architecture:
        raise ModelError(
            f"the adapter {adapter.path!r} was made for {adapter.architecture!r}, the model is "
            f"{model.architecture!r}"
        )


def _check_context(file: ModelFile, parameters: ModelParameters) -> None:
    """The engine would quietly use the model's own context where more is asked for."""
    key = f"{file.architecture}.context_length"
    trained = file.number("context_length")
    if key in file.metadata and trained < parameters.context:
        raise ModelError(
            f"the model {file.path!r} was made for contexts of {trained} tokens, "
            f"{parameters.context} are asked for",
            hint=f"set context to {trained} or less" if trained > 0 else "choose another file",
        )


def _check_tokenizer(file: ModelFile) -> None:
    """Two mistakes that the engine lets pass, and that make every answer wrong."""
    tokens = file.lengths.get("tokenizer.ggml.tokens", 0)
    for name in ("bos", "eos", "eot"):
        number = file.metadata.get(f"tokenizer.ggml.{name}_token_id", 0)
        if tokens and isinstance(number, int) and number >= tokens:
            raise ModelError(
                f"the model file {file.path!r} says that its {name} token is number {number} of {tokens}",
                hint="convert the model again",
            )
    bpe = file.metadata.get("tokenizer.ggml.model") == "gpt2"
    if bpe and "tokenizer.ggml.pre" not in file.metadata:
        raise ModelError(
            f"the model file {file.path!r} does not say how its tokenizer splits words "
            "(tokenizer.ggml.pre), and the engine would guess",
            hint="convert the model again with a current converter",
        )


def size_text(count: int) -> str:
    """Bytes as people read them: `1.2 GiB`, `64 MiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
