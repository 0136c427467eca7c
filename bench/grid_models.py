"""Random models of three families whose memory differs: llama, qwen3 (explicit head size), gemma3 (sliding windows).

Each has as many blocks as make its file as large as asked for, and costs the memory that a real one of its shape does.
Prompts are to be given as token numbers: only the first tokens, which the starter model lends, can be written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rung.models.filetypes import FileType
from rung.models.quantize import quantize
from rung.starter import model_path

_BITS = {"F16": 16.0, "Q8_0": 8.5, "Q4_K_M": 4.9, "Q4_0": 4.6}
_UNUSED = 5
_CONTEXT = 32_768


class Family(NamedTuple):
    """A family of models.

    Attributes:
        arch: `general.architecture`.
        dim, inner: widths, multiples of 256.
        heads, kv_heads, head: attention heads, those of keys and values, and the width of one.
        vocabulary: tokens.
        tied: whether the output layer is the embedding.
        normed: whether queries and keys are normalised.
        post_norms: whether blocks normalise what they add, too.
        window: of five blocks in six; 0 for none.
    """

    arch: str
    dim: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool
    normed: bool
    post_norms: bool
    window: int


FAMILIES = {
    family.arch: family
    for family in (
        Family("llama", 1024, 2816, 16, 4, 64, 32_000, False, False, False, 0),
        Family("qwen3", 1024, 3072, 16, 8, 128, 49_152, True, True, False, 0),
        Family("gemma3", 768, 2048, 4, 1, 256, 49_152, True, True, True, 512),
    )
}


def write_family_model(path: Path, family: Family, *, kind: str, size: int, seed: int) -> Path:
    """Write a model of at least `size` bytes.

    Args:
        path: of the file to write; a larger one stands beside it for a moment.
        family: what it is like.
        kind: a file type that `rung quantize` writes, or F16.
        size: bytes, at least.
        seed: of the weights.
    """
    layers = _layers(family, size / (_BITS[kind] / 8))
    if kind == "F16":
        return _write(path, family, layers, seed)
    whole = _write(path.with_suffix(".f16.gguf"), family, layers, seed)
    quantize(whole, path, FileType[kind], threads=2)
    whole.unlink()
    return path


def _layers(family: Family, weights: float) -> int:
    """Blocks that make up so many weights."""
    fixed = sum(math.prod(shape) for _, shape in _tensors(family, 0))
    block = sum(math.prod(shape) for _, shape in _tensors(family, 1)) - fixed
    return max(2, -int(-(weights - fixed) // block))


def _write(path: Path, family: Family, layers: int, seed: int) -> Path:
    import gguf  # noqa: PLC0415

    writer = gguf.GGUFWriter(path, family.arch)
    _tokenizer(writer, family.vocabulary)
    for name, value in {
        "context_length": _CONTEXT,
        "embedding_length": family.dim,
        "block_count": layers,
        "feed_forward_length": family.inner,
        "attention.head_count": family.heads,
        "attention.head_count_kv": family.kv_heads,
        "attention.key_length": family.head,
        "attention.value_length": family.head,
        "rope.dimension_count": family.head,
        "vocab_size": family.vocabulary,
        **({"attention.sliding_window": family.window} if family.window else {}),
    }.items():
        writer.add_uint32(f"{family.arch}.{name}", value)
    writer.add_float32(f"{family.arch}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{family.arch}.rope.freq_base", 10_000.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    chance = np.random.default_rng(seed)
    for name, shape in _tensors(family, layers):
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, dtype=np.float32))
        else:
            noise = chance.standard_normal(shape, dtype=np.float32) * np.float32(shape[1] ** -0.5)
            writer.add_tensor(name, noise.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tokenizer(writer: Any, vocabulary: int) -> None:  # Any: a GGUFWriter
    """The starter's tokenizer, filled up with tokens that are never written."""
    import gguf  # noqa: PLC0415

    fields = gguf.GGUFReader(model_path()).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    missing = vocabulary - len(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokens, *(f"<unused{number}>" for number in range(missing))])
    writer.add_token_types([*types, *[_UNUSED] * missing])
    writer.add_token_merges(fields["tokenizer.ggml.merges"].contents())
    writer.add_eos_token_id(fields["tokenizer.ggml.eos_token_id"].contents())


def _tensors(family: Family, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order that converters write them."""
    dim, inner = family.dim, family.inner
    queries, keys = family.heads * family.head, family.kv_heads * family.head
    yield "token_embd.weight", (family.vocabulary, dim)
    for layer in range(layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (dim,)
        yield block + "attn_q.weight", (queries, dim)
        yield block + "attn_k.weight", (keys, dim)
        yield block + "attn_v.weight", (keys, dim)
        yield block + "attn_output.weight", (dim, queries)
        if family.normed:
            yield block + "attn_q_norm.weight", (family.head,)
            yield block + "attn_k_norm.weight", (family.head,)
        if family.post_norms:
            yield block + "post_attention_norm.weight", (dim,)
            yield block + "post_ffw_norm.weight", (dim,)
        yield block + "ffn_norm.weight", (dim,)
        yield block + "ffn_gate.weight", (inner, dim)
        yield block + "ffn_up.weight", (inner, dim)
        yield block + "ffn_down.weight", (dim, inner)
    yield "output_norm.weight", (dim,)
    if not family.tied:
        yield "output.weight", (family.vocabulary, dim)
