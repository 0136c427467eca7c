"""Writes the trained decoder and its tokenizer as one GGUF that llama.cpp reads."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from bpe import Vocabulary, spaced_bases
from network import Decoder, Shape
from prompts import CHAT_TEMPLATE, CONTROL, END, PAD
from torch import Tensor

NAME = "rung-starter"
LICENSE = "Apache-2.0"


def export(state: dict[str, Tensor], shape: Shape, vocabulary: Vocabulary, path: Path) -> None:
    """Write an F16 file; norms stay F32, because llama.cpp aborts on others."""
    model = Decoder(shape, spaced_bases(vocabulary))
    model.load_state_dict(state)
    writer = gguf.GGUFWriter(path, "llama")
    _write_facts(writer, shape)
    _write_tokenizer(writer, vocabulary)
    for name, weight in tensors(model).items():
        kind = np.float32 if weight.dim() == 1 else np.float16
        writer.add_tensor(name, weight.detach().numpy().astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(model: Decoder) -> dict[str, Tensor]:
    """The weights by the names that llama.cpp knows; the output shares the embedding by being absent."""
    named = {
        "token_embd.weight": model.embedding(),
        "output_norm.weight": model.norm.weight,
    }
    for index, block in enumerate(model.blocks):
        q, k, v = block.qkv.weight.chunk(3)
        gate, up = block.gate_up.weight.chunk(2)
        parts = {
            "attn_norm": block.attn_norm.weight,
            "attn_q": q,
            "attn_k": k,
            "attn_v": v,
            "attn_output": block.out.weight,
            "ffn_norm": block.ffn_norm.weight,
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": block.down.weight,
        }
        named.update({f"blk.{index}.{name}.weight": part for name, part in parts.items()})
    return named


def load_average(run: Path) -> tuple[dict[str, Tensor], Shape]:
    """The averaged weights of the last checkpoint in a run's folder, and the decoder's shape."""
    step = json.loads((run / "checkpoint.json").read_text(encoding="utf-8"))["step"]
    stored = torch.load(run / f"checkpoint-{step}-0.pt", weights_only=True)
    state = stored["average"]
    vocab, dim = state["pieces"].shape
    layers = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    ff = state["blocks.0.down.weight"].shape[1]
    return state, Shape(vocab=vocab, dim=dim, layers=layers, ff=ff)


def _write_facts(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(NAME)
    writer.add_license(LICENSE)
    writer.add_description(
        "A small decoder for Rung's first steps: intents and slots of five public data sets. See MODEL_CARD.md."
    )
    writer.add_string("rung.prompt", "short")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.dim // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _write_tokenizer(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    tokens = vocabulary.tokens()
    kinds = (
        [gguf.TokenType.NORMAL] * len(vocabulary.pieces)
        + [gguf.TokenType.CONTROL] * len(CONTROL)
        + [gguf.TokenType.USER_DEFINED] * len(vocabulary.names)
    )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_eos_token_id(tokens.index(END))
    writer.add_pad_token_id(tokens.index(PAD))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
