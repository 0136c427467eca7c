"""Headers of models that were never written to a file: only what memory depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rung.models.fit.model import Model, model_of
from rung.models.fit.shape import Shape, shape_of
from rung.models.header import Header, Tensor
from rung.models.metadata import Array, Entry, Value
from rung.models.tensortypes import TensorType

Given = int | float | str | Sequence[int]
MIB = 1 << 20

DENSE: Mapping[str, Given] = {
    "block_count": 4,
    "context_length": 8192,
    "embedding_length": 512,
    "feed_forward_length": 1536,
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
    "vocab_size": 9000,
}
"""A small dense model with grouped queries; heads have 64 elements."""


def header(
    architecture: str,
    numbers: Mapping[str, Given | None] = {},
    tensors: Mapping[str, tuple[tuple[int, ...], TensorType]] = {},
    *,
    tokenizer: Mapping[str, int] = {},
) -> Header:
    """A header of `DENSE` with other numbers.

    Args:
        architecture: the keys follow it.
        numbers: by key, without the architecture, in place of those of `DENSE`; None leaves one out.
        tensors: shape and type by name.
        tokenizer: lengths of its arrays by key.
    """
    told = {**DENSE, **numbers}
    entries = {
        f"{architecture}.{key}": entry(value) for key, value in told.items() if value is not None
    }
    entries["general.architecture"] = entry(architecture)
    entries["general.file_type"] = entry(15)
    for key, length in tokenizer.items():
        entries[f"tokenizer.ggml.{key}"] = Entry(Array(length, None), 9, 0, 0, b"")
    made = tuple(Tensor(name, shape, kind, 0) for name, (shape, kind) in tensors.items())
    return Header("model.gguf", 0, 32, entries, made)


def entry(value: Given) -> Entry:
    """An entry of the metadata; its place in a file and its type are not looked at."""
    held: Value = value if isinstance(value, int | float | str) else Array(len(value), tuple(value))
    return Entry(held, 0, 0, 0, b"")


def shape(architecture: str, numbers: Mapping[str, Given | None] = {}) -> Shape:
    """The shape of such a model."""
    return shape_of([header(architecture, numbers)])


def model(
    architecture: str = "llama",
    *,
    layers: int = 2,
    dim: int = 256,
    experts: int = 0,
    tied: bool = False,
) -> Model:
    """A model with tensors: table and output in Q6_K, blocks in Q4_K, norms in F32."""
    square = ((dim, dim), TensorType.Q4_K)
    tensors: dict[str, tuple[tuple[int, ...], TensorType]] = {
        "token_embd.weight": ((dim, 1000), TensorType.Q6_K),
        "output_norm.weight": ((dim,), TensorType.F32),
    }
    if not tied:
        tensors["output.weight"] = ((dim, 1000), TensorType.Q6_K)
    for number in range(layers):
        tensors[f"blk.{number}.attn_q.weight"] = square
        tensors[f"blk.{number}.attn_norm.weight"] = ((dim,), TensorType.F32)
        if experts:
            tensors[f"blk.{number}.ffn_up_exps.weight"] = ((dim, 3 * dim, experts), TensorType.Q4_K)
        else:
            tensors[f"blk.{number}.ffn_up.weight"] = ((dim, 3 * dim), TensorType.Q4_K)
    numbers = {"block_count": layers, "embedding_length": dim, "attention.head_count": dim // 64}
    more = {"expert_count": experts, "expert_used_count": 2, "expert_feed_forward_length": 3 * dim}
    made = header(architecture, {**numbers, **(more if experts else {})}, tensors)
    return model_of([made], "made")
