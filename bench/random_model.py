"""A llama-architecture model with random weights and another model's tokenizer: it costs what a real one costs.

What it answers means nothing. Its logits are spread so that it is as sure of itself as language models tend to be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rung.models.filetypes import FileType
from rung.models.quantize import quantize

_USER_DEFINED, _NORMAL = 4, 1
_HEAD = 64


class Size(NamedTuple):
    """What is to be made.

    Attributes:
        dim, inner: widths, multiples of 256.
        layers: blocks.
        sharpness: deviation of the logits.
        type: a file type that `rung quantize` writes, or F16.
        seed: of the weights.
    """

    dim: int
    inner: int
    layers: int
    sharpness: float
    type: str
    seed: int

    @property
    def kv(self) -> int:
        """Width of keys and values: a quarter of the heads."""
        return max(1, self.dim // _HEAD // 4) * _HEAD


def write_random_model(path: Path, vocabulary: Path, size: Size) -> Path:
    """Write the model.

    Args:
        path: of the file to write; a larger one stands beside it for a moment.
        vocabulary: the model that lends its tokenizer and chat template.
        size: what is to be made.
    """
    if size.type == "F16":
        return _write(path, vocabulary, size)
    whole = _write(path.with_suffix(".f16.gguf"), vocabulary, size)
    quantize(whole, path, FileType[size.type], threads=os.cpu_count() or 1)
    whole.unlink()
    return path


def _write(path: Path, vocabulary: Path, size: Size) -> Path:
    import gguf  # noqa: PLC0415

    source = gguf.GGUFReader(vocabulary)
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in source.fields.items():
        if key.startswith("tokenizer.") and key != "tokenizer.ggml.token_type":
            writer.add_key_value(key, field.contents(), field.types[0], *field.types[1:2])
    types = source.fields["tokenizer.ggml.token_type"].contents()
    # Labels that are one token of their own would flatter every way: they become words like others.
    writer.add_token_types([_NORMAL if kind == _USER_DEFINED else kind for kind in types])
    for name, value in {
        "context_length": 4096,
        "embedding_length": size.dim,
        "block_count": size.layers,
        "feed_forward_length": size.inner,
        "attention.head_count": size.dim // _HEAD,
        "attention.head_count_kv": size.kv // _HEAD,
        "rope.dimension_count": _HEAD,
        "vocab_size": len(types),
    }.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    chance = np.random.default_rng(size.seed)
    for name, shape in _shapes(size, len(types)):
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, dtype=np.float32))
        else:
            scale = size.sharpness if name == "output.weight" else 1.0
            weights = chance.standard_normal(shape, dtype=np.float32) * (scale * shape[1] ** -0.5)
            writer.add_tensor(name, weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(size: Size, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    dim, inner = size.dim, size.inner
    yield "token_embd.weight", (vocabulary, dim)
    yield "output_norm.weight", (dim,)
    yield "output.weight", (vocabulary, dim)
    for layer in range(size.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (dim,)
        yield block + "attn_q.weight", (dim, dim)
        yield block + "attn_k.weight", (size.kv, dim)
        yield block + "attn_v.weight", (size.kv, dim)
        yield block + "attn_output.weight", (dim, dim)
        yield block + "ffn_norm.weight", (dim,)
        yield block + "ffn_gate.weight", (inner, dim)
        yield block + "ffn_up.weight", (inner, dim)
        yield block + "ffn_down.weight", (dim, inner)
