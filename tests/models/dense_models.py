"""Random dense models of any shape and architecture, written with the `gguf` library: sources to quantise."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tensors = Mapping[str, npt.NDArray[Any]]


def weights(
    *,
    layers: int = 2,
    columns: int = 256,
    inner: int = 256,
    rows: int = 4,
    tied: bool = False,
    fused: bool = False,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a dense decoder; its matrices have few rows, so that it is quantised in no time.

    Args:
        layers: blocks.
        columns: of every matrix but `ffn_down`.
        inner: columns of `ffn_down`.
        rows: of every matrix.
        tied: without `output.weight`.
        fused: with one matrix for queries, keys and values.
        seed: of the weights.
    """
    count = itertools.count()

    def matrix(width: int) -> npt.NDArray[np.float32]:
        # Out of a hash, because digests of copies are kept and random generators change over the years.
        stream = hashlib.shake_256(f"{seed} {next(count)}".encode()).digest(6 * rows * width)
        uniform = np.frombuffer(stream, dtype="<i2").reshape(3, rows, width)
        return (uniform.astype(np.float32).sum(axis=0) / np.float32(1 << 20)).astype(np.float32)

    attention = ("attn_qkv",) if fused else ("attn_q", "attn_k", "attn_v")
    tensors = {"token_embd.weight": matrix(columns)}
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors[block + "attn_norm.weight"] = np.ones(columns, np.float32)
        for name in (*attention, "attn_output", "ffn_gate", "ffn_up"):
            tensors[f"{block}{name}.weight"] = matrix(columns)
        tensors[block + "ffn_down.weight"] = matrix(inner)
        tensors[block + "attn_output.bias"] = matrix(columns)[0]
    tensors["output_norm.weight"] = np.ones(columns, np.float32)
    if not tied:
        tensors["output.weight"] = matrix(columns)
    return tensors


def write_model(
    path: Path,
    tensors: Tensors,
    *,
    arch: str = "llama",
    heads: tuple[int, int] = (4, 4),
    extra: Mapping[str, Any] = {},
    raw: Mapping[str, int] = {},
) -> Path:
    """Write a GGUF file.

    Args:
        path: the file.
        tensors: by name; float16 and float32 as they are, uint16 as the bits of BF16.
        arch: `general.architecture`.
        heads: query heads and key heads.
        extra: more metadata; numbers are uint32.
        raw: type numbers of tensors that are not what their dtype says.
    """
    import gguf

    writer = gguf.GGUFWriter(path, arch)
    layers = len({name.split(".")[1] for name in tensors if name.startswith("blk.")})
    numbers = {
        "general.file_type": 1,
        f"{arch}.context_length": 128,
        f"{arch}.embedding_length": 256,
        f"{arch}.block_count": layers,
        f"{arch}.feed_forward_length": 256,
        f"{arch}.attention.head_count": heads[0],
        f"{arch}.attention.head_count_kv": heads[1],
    }
    for key, value in {**numbers, **extra}.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{arch}.attention.layer_norm_epsilon", 1e-5)
    for name, tensor in tensors.items():
        kind = raw.get(name, gguf.GGMLQuantizationType.BF16 if tensor.dtype == np.uint16 else None)
        writer.add_tensor(
            name,
            tensor,
            raw_shape=tensor.shape if tensor.dtype == np.uint16 else None,
            raw_dtype=None if kind is None else gguf.GGMLQuantizationType(kind),
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
