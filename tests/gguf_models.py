"""Tiny random GGUF models and adapters: real files that the real engine loads in well under a second.

The weights are noise, so answers mean nothing; tokens, probabilities, grammars, slots and crashes are real. The
tokenizer is a byte-level BPE trained here, so that a common word is one token and any text can be written.
"""

from __future__ import annotations

import collections
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ENDOFTEXT, IM_START, IM_END = CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""The control tokens, last in the vocabulary; a chat turn ends with the third, which is also end-of-generation."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TEXT = """
My card payment was declined and the transfer to my account is still pending. Please tell me why the card was not
accepted, what the exchange rate is, and how long the refund takes. I lost my card. I want to change my pin, to top up
my account, to cancel the order and to book a table for two people at seven in the evening. Is there a fee for a cash
withdrawal? The answer is yes. The answer is no. A label is one of card, cash, account, transfer, refund, order, table
or other. Write the name of the topic, then the next message. The user said that the system did not work and that the
assistant should answer with one word. This is a message from a user to an assistant, with the system in between.
{"name": "value", "date": null, "people": 2, "city": "Paris", "time": "seven"} {"label": "card"} {"label": "transfer"}
"""


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level vocabulary."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


@functools.cache
def merges(count: int) -> tuple[tuple[str, str], ...]:
    """The first `count` merges (or as many as the sample text has) of a byte-level BPE, most frequent pair first."""
    letters = _byte_letters()
    words = collections.Counter(
        tuple(letters[byte] for byte in word.encode())
        for word in re.findall(r" ?\w+| ?[^\w\s]+", TEXT)
    )
    found: list[tuple[str, str]] = []
    while len(found) < count:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, times in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        words = collections.Counter({_merged(word, best): times for word, times in words.items()})
    return tuple(found)


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """A word with every occurrence of a pair made one piece."""
    pieces: list[str] = []
    for piece in word:
        if pieces and (pieces[-1], piece) == pair:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)


def tiny_model(
    path: Path,
    *,
    seed: int = 0,
    dim: int = 256,
    layers: int = 2,
    vocab: int = 512,
    context: int = 2048,
    arch: str = "llama",
    template: str | None = CHATML,
    extra: Mapping[str, object] = {},
    norm_type: type[np.generic] = np.float32,
    damage: Mapping[str, npt.NDArray[Any]] = {},
) -> Path:
    """Write a random llama-architecture model with a byte-level BPE and a ChatML-like template.

    Args:
        path: the GGUF file to write.
        seed: of the weights; other files with other seeds answer differently.
        dim: hidden size, a multiple of 64 (of 256 for K-quantising); heads have 64.
        layers: blocks.
        vocab: most tokens; fewer where the sample text has no more pairs to merge.
        context: the training context the file states.
        arch: `general.architecture`; the keys follow it.
        template: chat template, None for none.
        extra: metadata that replaces what would be written; None leaves a key out.
        norm_type: element type of the norms; the engine aborts on float16.
        damage: tensors by name that replace the right ones.

    Returns:
        `path`.
    """
    import gguf

    tokens, types, joined = vocabulary(vocab)
    writer = gguf.GGUFWriter(path, arch)
    facts: dict[str, object] = {
        **_hyperparameters(arch, dim, layers, len(tokens), context),
        **_tokenizer(tokens, types, joined),
        "tokenizer.chat_template": template,
        **extra,
    }
    for key, value in facts.items():
        if value is not None and key != "general.architecture":
            writer.add_key_value(key, value, _value_type(value))
    weights = _weights(np.random.default_rng(seed), dim, layers, len(tokens), norm_type)
    for name, tensor in {**weights, **damage}.items():
        writer.add_tensor(name, tensor)
    _write(writer)
    return path


def tiny_lora(
    path: Path, *, seed: int = 0, dim: int = 256, layers: int = 2, rank: int = 4, scale: float = 1.0
) -> Path:
    """Write a random LoRA adapter on the query and output projections of the `tiny_model` of that size.

    Args:
        path: the GGUF file to write.
        seed: of the weights.
        dim: the model's.
        layers: the model's.
        rank: of the update.
        scale: how much the adapter changes; at 1 the greedy text is another one.

    Returns:
        `path`.
    """
    import gguf

    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_key_value("general.type", "adapter", gguf.GGUFValueType.STRING)
    writer.add_key_value("adapter.type", "lora", gguf.GGUFValueType.STRING)
    writer.add_key_value("adapter.lora.alpha", float(rank), gguf.GGUFValueType.FLOAT32)
    for layer in range(layers):
        for name in ("attn_q", "attn_output"):
            down = random.normal(0, dim**-0.5, (rank, dim)).astype(np.float32)
            up = random.normal(0, scale, (dim, rank)).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_a", down)
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_b", up)
    _write(writer)
    return path


def vocabulary(limit: int = 512) -> tuple[list[str], list[int], list[str]]:
    """Tokens (a few less than asked for), their types (1 normal, 3 control), and the merges as the file states them."""
    letters = _byte_letters()
    pairs = merges(max(0, limit - 256 - len(CONTROL)))
    tokens = list(dict.fromkeys([*letters, *(a + b for a, b in pairs)]))
    types = [1] * len(tokens) + [3] * len(CONTROL)
    return [*tokens, *CONTROL], types, [f"{a} {b}" for a, b in pairs]


def _hyperparameters(
    arch: str, dim: int, layers: int, vocab: int, context: int
) -> dict[str, object]:
    return {
        "general.name": "tiny",
        "general.file_type": 1,
        f"{arch}.context_length": context,
        f"{arch}.embedding_length": dim,
        f"{arch}.block_count": layers,
        f"{arch}.feed_forward_length": 2 * dim,
        f"{arch}.attention.head_count": dim // 64,
        f"{arch}.attention.head_count_kv": dim // 64,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.rope.dimension_count": 64,
        f"{arch}.vocab_size": vocab,
    }


def _tokenizer(tokens: list[str], types: list[int], joined: list[str]) -> dict[str, object]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": joined,
        "tokenizer.ggml.bos_token_id": tokens.index(ENDOFTEXT),
        "tokenizer.ggml.eos_token_id": tokens.index(IM_END),
        "tokenizer.ggml.padding_token_id": tokens.index(ENDOFTEXT),
        "tokenizer.ggml.add_bos_token": False,
    }


def _weights(
    random: np.random.Generator, dim: int, layers: int, vocab: int, norm_type: type[np.generic]
) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of the model: matrices float16, norms as asked for; logits come out with a deviation near 3."""

    def matrix(rows: int, columns: int, spread: float = 1.0) -> npt.NDArray[np.float16]:
        values = random.standard_normal((rows, columns), dtype=np.float32)
        scaled: npt.NDArray[np.float16] = (values * (spread * columns**-0.5)).astype(np.float16)
        return scaled

    norm = np.ones(dim, dtype=norm_type)
    tensors: dict[str, npt.NDArray[Any]] = {"token_embd.weight": matrix(vocab, dim, dim**0.5)}
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors[block + "attn_norm.weight"] = norm
        tensors[block + "ffn_norm.weight"] = norm
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{name}.weight"] = matrix(dim, dim)
        tensors[block + "ffn_gate.weight"] = matrix(2 * dim, dim)
        tensors[block + "ffn_up.weight"] = matrix(2 * dim, dim)
        tensors[block + "ffn_down.weight"] = matrix(dim, 2 * dim)
    tensors["output_norm.weight"] = norm
    tensors["output.weight"] = matrix(vocab, dim, 3.0)
    return tensors


def _value_type(value: object) -> Any:  # a GGUFValueType; gguf is imported at the point of use
    """The GGUF type of a metadata value: whole numbers are unsigned unless negative."""
    import gguf

    if isinstance(value, Sequence) and not isinstance(value, str):
        return gguf.GGUFValueType.ARRAY
    if isinstance(value, int) and not isinstance(value, bool):
        return gguf.GGUFValueType.UINT32 if value >= 0 else gguf.GGUFValueType.INT32
    return gguf.GGUFValueType.get_type(value)


def _write(writer: Any) -> None:  # a GGUFWriter
    """Write a file whole and close it."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
