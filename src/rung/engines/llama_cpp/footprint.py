"""How much memory a loaded model will take, estimated from its file before it is loaded.

An estimate for deciding what fits, on the high side for dense models, and from it what the child is never to exceed.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from rung.config import KvType
from rung.engines.llama_cpp.model_file import ModelFile, fingerprint
from rung.engines.llama_cpp.parameters import ModelParameters

_PROCESS_BYTES = (
    80 * 1024 * 1024
)  # interpreter, library and graph of a small model: 47 to 70 MiB measured
_RESERVED_BYTES = 1024 * 1024 * 1024
"""Address space of a child with a small model: libraries, allocator, interpreter; 370 to 780 MiB measured."""

_STACK_BYTES = 8 * 1024 * 1024
_LAYERS_LOOKED_AT = 512
_TENSORS_PER_LAYER = 16  # each is checked by a thread of its own while it is loaded
_CONTEXT_STEP = 256  # the engine rounds each slot's context up to this

_BYTES_PER_ELEMENT = {KvType.F16: 2.0, KvType.Q8_0: 34 / 32, KvType.Q4_0: 18 / 32}


def footprint(file: ModelFile, parameters: ModelParameters) -> int:
    """Bytes that the model will take once it is loaded: weights, key-value cache, working memory."""
    return (
        files_bytes(file, parameters)
        + max(0, _cache_bytes(file, parameters))  # a damaged file may name negative sizes
        + max(_PROCESS_BYTES, _working_bytes(file, parameters))
    )


def limit(file: ModelFile, parameters: ModelParameters) -> int:
    """Bytes of memory that the model is never to exceed: the estimate with a margin.

    The margin holds the whole attention matrix of a batch, which is written out for models without flash attention.
    """
    heads = max((0, *file.numbers("attention.head_count", _LAYERS_LOOKED_AT)))
    attention = 4 * parameters.batch_tokens * parameters.context * parameters.slots * heads
    return footprint(file, parameters) * 5 // 4 + attention


def reserved(file: ModelFile, parameters: ModelParameters) -> int:
    """Bytes of address space beyond that: the mapped files, and stacks of threads, which are hardly used."""
    threads = (os.cpu_count() or 1) + 2 * parameters.threads + parameters.slots
    threads += _TENSORS_PER_LAYER * max(0, file.number("block_count"))
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    stack = _STACK_BYTES if stack == resource.RLIM_INFINITY else max(stack, _STACK_BYTES)
    return files_bytes(file, parameters) + _RESERVED_BYTES + threads * stack


def files_bytes(file: ModelFile, parameters: ModelParameters) -> int:
    """Bytes of all files that are loaded; the parts of a split model are taken to be of one size."""
    parts = file.metadata.get("split.count", 1)
    parts = parts if isinstance(parts, int) and parts > 0 else 1
    adapters = sum(fingerprint(Path(adapter.path)).size for adapter in parameters.adapters)
    return file.fingerprint.size * parts + adapters


def _cache_bytes(file: ModelFile, parameters: ModelParameters) -> int:
    """Keys and values of every slot's whole context."""
    layers = file.number("block_count")
    heads = file.numbers("attention.head_count", 1)
    head_dim = file.number("embedding_length") // max(1, heads[0] if heads else 1)
    width = file.number("attention.key_length", head_dim)
    width += file.number("attention.value_length", head_dim)
    if f"{file.architecture}.attention.head_count_kv" in file.metadata:
        per_layer = file.metadata[f"{file.architecture}.attention.head_count_kv"]
    else:
        per_layer = heads[0] if heads else 0
    if isinstance(per_layer, tuple):
        kv_heads = sum(int(count) for count in per_layer if isinstance(count, int))
    else:
        kv_heads = layers * (per_layer if isinstance(per_layer, int) else 0)
    cells = -(-parameters.context // _CONTEXT_STEP) * _CONTEXT_STEP * parameters.slots
    return int(cells * kv_heads * width * _BYTES_PER_ELEMENT[parameters.kv_type])


def _working_bytes(file: ModelFile, parameters: ModelParameters) -> int:
    """The process, and the largest tensors of a batch: logits, and the widest activations a few times."""
    vocabulary = file.lengths.get("tokenizer.ggml.tokens", file.number("vocab_size"))
    activations = 4 * (
        file.number("embedding_length") + max(file.numbers("feed_forward_length", 1))
    )
    return _PROCESS_BYTES + 4 * parameters.batch_tokens * (vocabulary + activations)
