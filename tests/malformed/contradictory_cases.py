"""GGUF files that are well-formed and cannot be meant: over most, engines end themselves or read foreign memory."""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path

from malformed.gguf_cases import ARCH, Case, written
from malformed.gguf_parts import F16, FLOAT32, INT32, TEXT, array, gguf, number, tensor, text


def contradictory_cases(folder: Path) -> dict[str, Path]:
    """Write a file of every kind that is well-formed and that `oddities` finds something in, by the kind's name."""
    return written(folder, CONTRADICTORY)


_FLOATS = struct.pack("<3f", 0, 0, 0)
_TOKENS = array("tokenizer.ggml.tokens", TEXT, 3, text("a") + text("b") + text("c"))


def _model(
    *changes: bytes, experts: int = 0, norm: int = 0, output: int = 0, blocks: int = 1
) -> bytes:
    """A model of three tokens and eight elements, which makes sense but for the changes."""
    keys = {
        "llama.context_length": 128,
        "llama.embedding_length": 8,
        "llama.block_count": 1,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
    }
    changed = {change[8 : 8 + int.from_bytes(change[:8], "little")].decode() for change in changes}
    entries = [ARCH, *(number(key, value) for key, value in keys.items() if key not in changed)]
    entries += [*changes, *([] if "tokenizer.ggml.tokens" in changed else [_TOKENS])]
    shapes: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (8, 3), 0),
        ("output.weight", (8, 3), output),
        *((f"blk.{block}.attn_norm.weight", (8,), norm) for block in range(blocks)),
        ("blk.0.attn_q.weight", (8, 8), 0),
    ]
    if experts:
        shapes.append(("blk.0.ffn_up_exps.weight", (8, 8, experts), 0))
    width = {0: 4, F16: 2, 26: 4, 28: 8}
    sizes = [math.prod(shape) * width[kind] for _, shape, kind in shapes]
    padded = [-(-size // 32) * 32 for size in sizes]
    offsets = [0, *itertools.accumulate(padded)]
    infos = [
        tensor(name, shape, kind, offset)
        for (name, shape, kind), offset in zip(shapes, offsets, strict=False)
    ]
    return gguf(entries, infos, data=bytes(sum(padded)))


SENSIBLE = _model()
"""A model that makes sense."""

CONTRADICTORY: dict[str, Case] = {
    "context length 0": Case(_model(number("llama.context_length", 0)), "context-length"),
    "context length 2^32": Case(
        _model(number("llama.context_length", (1 << 32) - 1)), "context-length"
    ),
    "no layers": Case(_model(number("llama.block_count", 0)), "block-count"),
    "a thousand layers": Case(_model(number("llama.block_count", 1000)), "block-count"),
    "a million layers": Case(_model(number("llama.block_count", 1_000_000)), "block-count"),
    "fewer layers than tensors": Case(_model(blocks=3), "block-count"),
    "more layers than tensors": Case(_model(number("llama.block_count", 40)), "block-count"),
    "embedding of another length": Case(
        _model(number("llama.embedding_length", 16)), "embedding-length"
    ),
    "embedding of no length": Case(_model(number("llama.embedding_length", 0)), "embedding-length"),
    "no attention heads": Case(_model(number("llama.attention.head_count", 0)), "head-count"),
    "a billion attention heads": Case(
        _model(number("llama.attention.head_count", 1 << 30)), "head-count"
    ),
    "more heads of keys than of queries": Case(
        _model(number("llama.attention.head_count_kv", 4)), "head-count-kv"
    ),
    "heads that no group divides": Case(
        _model(number("llama.attention.head_count", 7), number("llama.attention.head_count_kv", 3)),
        "head-count-kv",
    ),
    "a billion experts": Case(_model(number("llama.expert_count", 1 << 30)), "expert-count"),
    "more experts used than there are": Case(
        _model(number("llama.expert_used_count", 2)), "expert-count"
    ),
    "experts that are never used": Case(
        _model(number("llama.expert_count", 4), experts=4), "expert-count"
    ),
    "experts of another count": Case(
        _model(number("llama.expert_count", 8), number("llama.expert_used_count", 2), experts=4),
        "expert-count",
    ),
    "keys of no length": Case(_model(number("llama.attention.key_length", 0)), "zero-or-absurd"),
    "interval of 0": Case(_model(number("llama.full_attention_interval", 0)), "zero-or-absurd"),
    "vocabulary without a token": Case(
        _model(array("tokenizer.ggml.tokens", TEXT, 0, b"")), "vocabulary"
    ),
    "more tokens than rows": Case(
        _model(array("tokenizer.ggml.tokens", TEXT, 4, b"".join(map(text, "abcd")))), "vocabulary"
    ),
    "fewer scores than tokens": Case(
        _model(array("tokenizer.ggml.scores", FLOAT32, 2, _FLOATS[:8])), "token-arrays"
    ),
    "more token types than tokens": Case(
        _model(array("tokenizer.ggml.token_type", INT32, 4, bytes(16))), "token-arrays"
    ),
    "token beyond the vocabulary": Case(
        _model(number("tokenizer.ggml.bos_token_id", 9)), "special-token"
    ),
    "norm in F16": Case(_model(norm=F16), "norm-type"),
    "output in F64": Case(_model(output=28), "weight-type"),
    "output in I32": Case(_model(output=26), "weight-type"),
}
"""By the kind's name; the sentence is the rule's id."""

TWICE = _model(array("tokenizer.ggml.tokens", TEXT, 3, text("a") + text("b") + text("a")))
"""A model with a token that occurs twice, which only `repeated_tokens` sees."""
