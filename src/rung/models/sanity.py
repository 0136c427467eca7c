"""Whether a GGUF model's numbers suit its tensors: what else only the engine would notice, often by ending itself.

A header that `header` accepts lies within its file; here it is asked whether it makes sense. Only contradictions are
found, so that an architecture which nobody has seen yet is not refused for being new.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import msgspec

from rung.errors import ModelError
from rung.models.header import Header, Tensor
from rung.models.metadata import Array
from rung.models.tensortypes import TensorType

MAX_CONTEXT = 1 << 27
"""Tokens; the longest context of any model is 10 million."""
MAX_BLOCKS = 512
"""Layers the engine has room for (LLAMA_MAX_LAYERS)."""
MAX_EXPERTS = 1024
"""Twice the experts the engine has room for (LLAMA_MAX_EXPERTS), which grows."""
MAX_WIDTH = 1 << 20
"""Elements of an embedding."""
TOKENS = "tokenizer.ggml.tokens"

_BLOCK = re.compile(r"(?:enc\.|dec\.)?blk\.([0-9]{1,9})\.")
_NORM = re.compile(
    r"(?:enc\.|dec\.)?(?:blk\.[0-9]+\.[a-z0-9_]+|output|token_embd)_norm\.(?:weight|bias)"
)
_MATRIX = re.compile(
    r"(?:output|token_embd|blk\.[0-9]+\.(?:attn_(?:q|k|v|qkv|output)|ffn_(?:gate|up|down)(?:_exps|_shexp)?))\.weight"
)
_EXPERTS = re.compile(r"blk\.[0-9]+\.ffn_(?:gate|up|down)_exps\.weight")
_NO_WEIGHTS = {TensorType.I8, TensorType.I16, TensorType.I32, TensorType.I64, TensorType.F64}


class Oddity(msgspec.Struct, frozen=True):
    """Something in a header that cannot be meant.

    Attributes:
        rule: stable id of the check that found it.
        what: a sentence without the file's name.
        grave: whether engines end themselves, hang or read foreign memory over it; otherwise they refuse it cleanly
            or pass over it.
    """

    rule: str
    what: str
    grave: bool = True


class _Model(msgspec.Struct, frozen=True):
    """The parts of a model as one; `whole` says whether all are there."""

    first: Header
    tensors: Mapping[str, Tensor]
    whole: bool

    def number(self, key: str) -> int | None:
        return self.first.number(f"{self.first.architecture}.{key}")

    def numbers(self, key: str) -> tuple[int, ...]:
        """One number or one each layer, none where the file does not say."""
        return self.first.numbers(f"{self.first.architecture}.{key}") or ()

    @property
    def blocks(self) -> int:
        """Layers by the names of the tensors."""
        found = (_BLOCK.match(name) for name in self.tensors)
        return max((int(match[1]) + 1 for match in found if match), default=0)


def oddities(*headers: Header) -> tuple[Oddity, ...]:
    """What in a model's header cannot be meant.

    Args:
        headers: of every part, in order; mostly one. Of a part alone less can be said.
    """
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    whole = (headers[0].number("split.count") or 1) <= len(headers)
    model = _Model(headers[0], tensors, whole)
    return tuple(oddity for check in _CHECKS for oddity in check(model))


def repeated_tokens(path: Path, header: Header) -> int:
    """How many tokens of a file's vocabulary occur more than once; engines end themselves over one.

    Tokens without a letter are left out, because engines name them apart.

    Args:
        path: the file.
        header: of it.

    Raises:
        ModelError: the file is no longer the one that the header was read from.
    """
    entry = header.metadata.get(TOKENS)
    if entry is None or not isinstance(entry.value, Array):
        return 0
    try:
        with path.open("rb") as file:
            file.seek(entry.start)
            raw = file.read(entry.end - entry.start)
        texts = _texts(raw, len(TOKENS) + 8 + 4 + 4 + 8)
        # Sorted hashes, because a set of the tokens would take several times the memory.
        hashes = sorted(array("q", (hash(token) for token in texts if token)))
    except (OSError, struct.error) as error:
        raise ModelError(
            f"the model file {str(path)!r} changed while it was read",
            hint="wait until nothing writes to it any more",
        ) from error
    return sum(one == other for one, other in pairwise(hashes))


def _texts(raw: bytes, at: int) -> Iterator[bytes]:
    while at < len(raw):
        (length,) = struct.unpack_from("<Q", raw, at)
        at += 8
        yield raw[at : at + length]
        at += length


def _context(model: _Model) -> Iterator[Oddity]:
    length = model.number("context_length")
    if length is not None and not 0 < length <= MAX_CONTEXT:
        yield Oddity("context-length", f"a context length of {length:,} tokens")


def _blocks(model: _Model) -> Iterator[Oddity]:
    said, found = model.number("block_count"), model.blocks
    if said is None:
        return
    said = max(said, model.number("decoder_block_count") or 0)
    if not 0 < said <= MAX_BLOCKS:
        yield Oddity("block-count", f"{said:,} layers, not 1 to {MAX_BLOCKS}")
    elif found > said:
        yield Oddity("block-count", f"{said:,} layers, and tensors of layer {found - 1:,}")
    elif model.whole and 0 < found < said - (model.number("nextn_predict_layers") or 0):
        yield Oddity("block-count", f"{said:,} layers, and tensors of only {found:,}")


def _width(model: _Model) -> Iterator[Oddity]:
    said, table = model.number("embedding_length"), model.tensors.get("token_embd.weight")
    if said is None:
        return
    if not 0 < said <= MAX_WIDTH:
        yield Oddity("embedding-length", f"embeddings of {said:,} elements")
    elif table is not None and table.columns not in (said, model.number("features_length")):
        yield Oddity(
            "embedding-length",
            f"embeddings of {said:,} elements, and rows of {table.columns:,} in token_embd.weight",
            grave=False,
        )


def _heads(model: _Model) -> Iterator[Oddity]:
    heads, shared = model.numbers("attention.head_count"), model.numbers("attention.head_count_kv")
    width = model.number("embedding_length") or MAX_WIDTH
    if heads and max(heads) > width:
        yield Oddity("head-count", f"{max(heads):,} attention heads for {width:,} elements")
    attends = any(".attn_q" in name for name in model.tensors)
    if attends and heads and not any(heads):
        yield Oddity("head-count", "no attention heads, and tensors of attention")
    per_layer = max(len(heads), len(shared))
    pairs = zip(_spread(heads, per_layer), _spread(shared, per_layer), strict=False)
    for all_heads, key_heads in pairs:
        if key_heads > all_heads > 0 or (key_heads and all_heads % key_heads):
            yield Oddity(
                "head-count-kv", f"{key_heads:,} heads of keys for {all_heads:,} of queries"
            )
            return


def _spread(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return numbers * count if len(numbers) == 1 else numbers


def _divisors(model: _Model) -> Iterator[Oddity]:
    """Numbers that are divided by, or that memory is taken for."""
    for key, most in _SIZES.items():
        value = model.number(key)
        if value is not None and not 0 < value <= most:
            yield Oddity("zero-or-absurd", f"{model.first.architecture}.{key} of {value:,}")
    for key in ("embedding_length", "vocab_size", "feed_forward_length", "expert_count"):
        for value in model.numbers(key):
            if value < 0 or value > 1 << 31:
                yield Oddity("zero-or-absurd", f"{model.first.architecture}.{key} of {value:,}")


_SIZES: Mapping[str, int] = {
    "attention.key_length": 1 << 16,
    "attention.value_length": 1 << 16,
    "full_attention_interval": MAX_BLOCKS,
}


def _experts(model: _Model) -> Iterator[Oddity]:
    counts = model.numbers("expert_count") or (0,)
    if len(counts) > 1:
        return  # one each layer: no rule of today's engines to hold it to
    count, used = counts[0], model.number("expert_used_count") or 0
    if not 0 <= count <= MAX_EXPERTS:
        yield Oddity("expert-count", f"{count:,} experts, more than {MAX_EXPERTS:,}")
    elif used > count or (count and used <= 0):
        yield Oddity("expert-count", f"{used:,} of {count:,} experts for each token")
    for name, tensor in model.tensors.items():
        if _EXPERTS.fullmatch(name) and tensor.shape[2:3] != (count,):
            yield Oddity(
                "expert-count",
                f"{count:,} experts, and {name!r} has the shape {tensor.shape}",
                grave=False,
            )
            return


def _vocabulary(model: _Model) -> Iterator[Oddity]:
    tokens, table = model.first.length(TOKENS), model.tensors.get("token_embd.weight")
    if tokens is None:
        return
    if tokens == 0:
        yield Oddity("vocabulary", "a vocabulary without a token")
    if table is not None and table.rows != tokens:
        yield Oddity(
            "vocabulary",
            f"{tokens:,} tokens, and {table.rows:,} rows in token_embd.weight",
            grave=False,
        )
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        length = model.first.length(key)
        if length is not None and length != tokens:
            yield Oddity("token-arrays", f"{tokens:,} tokens, and {length:,} items in {key}")


def _special_tokens(model: _Model) -> Iterator[Oddity]:
    tokens = model.first.length(TOKENS)
    for key in model.first.metadata:
        if tokens and key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            number = model.first.number(key)
            if number is not None and not 0 <= number < tokens:
                # Engines warn and take a default; some published models have such a padding token.
                yield Oddity("special-token", f"{key} of {number:,} in {tokens:,}", grave=False)


def _types(model: _Model) -> Iterator[Oddity]:
    for name, tensor in model.tensors.items():
        if _NORM.fullmatch(name) and tensor.type is not TensorType.F32:
            yield Oddity("norm-type", f"the norm {name!r} in {tensor.type.name}, not F32")
            return
        if _MATRIX.fullmatch(name) and tensor.type in _NO_WEIGHTS:
            yield Oddity("weight-type", f"the weights {name!r} in {tensor.type.name}")
            return


_CHECKS: tuple[Callable[[_Model], Iterator[Oddity]], ...] = (
    _context,
    _blocks,
    _width,
    _heads,
    _divisors,
    _experts,
    _vocabulary,
    _special_tokens,
    _types,
)
