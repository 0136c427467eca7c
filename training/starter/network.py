"""The decoder in torch, written so that its weights go into a GGUF of architecture `llama` as they are.

Rotary embedding turns neighbouring pairs (llama.cpp's order for this architecture), norms are RMS, the feed-forward
is SwiGLU, input and output share one embedding. That embedding is factorised: a piece with a leading space is the
piece without it plus one vector for the space; `embedding()` is the table a GGUF holds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The decoder's dimensions; widths are multiples of 256 so that every K-quantisation fits."""

    vocab: int
    dim: int = 256
    layers: int = 4
    heads: int = 4
    ff: int = 512
    context: int = 512
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)


class Block(nn.Module):
    """Attention and feed-forward, each added to what came in."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attn_norm = nn.RMSNorm(shape.dim, eps=shape.norm_eps)
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.dim, eps=shape.norm_eps)
        self.gate_up = nn.Linear(shape.dim, 2 * shape.ff, bias=False)
        self.down = nn.Linear(shape.ff, shape.dim, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, time, dim) to the same shape."""
        batch, time, dim = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.attn_norm(x)).split(dim, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True
        )
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(batch, time, dim)))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.drop(self.down(functional.silu(gate) * up))


class Decoder(nn.Module):
    """Token ids to hidden states; `logits` turns chosen hidden states into scores over the vocabulary."""

    bases: Tensor
    spaced: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, bases: list[tuple[int, bool]], dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.pieces = nn.Parameter(torch.randn(shape.vocab, shape.dim) * 0.02)
        self.space = nn.Parameter(torch.zeros(shape.dim))
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.dim, eps=shape.norm_eps)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("bases", torch.tensor([base for base, _ in bases]))
        self.register_buffer("spaced", torch.tensor([[float(space)] for _, space in bases]))
        cos, sin = rotations(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and name != "pieces":
                std = 0.02 / (2 * shape.layers) ** 0.5 if "out" in name or "down" in name else 0.02
                nn.init.normal_(weight, std=std)

    def embedding(self) -> Tensor:
        """The table of every token's vector, (vocab, dim)."""
        return self.pieces[self.bases] + self.spaced * self.space

    def forward(self, ids: Tensor, table: Tensor) -> Tensor:
        """(batch, time) ids to normed hidden states (batch, time, dim)."""
        time = ids.shape[1]
        x = self.drop(functional.embedding(ids, table))
        for block in self.blocks:
            x = block(x, self.cos[:time], self.sin[:time])
        return self.norm(x)


def rotations(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's angles, each (context, head_dim / 2)."""
    half = shape.dim // shape.heads // 2
    speeds = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(shape.context, dtype=torch.float64)[:, None] * speeds
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (2i, 2i + 1) of the last dimension by its position's angle."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
