"""The Muon step for matrices: momentum, made orthogonal by a Newton-Schulz iteration, in fp32.

After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the step is scaled as in
J. Liu et al., "Muon is scalable for LLM training" (2025), so that a matrix moves about as far as under AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

A, B, C = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic iteration, from the first of the two papers."""

Part = tuple[Tensor, Tensor]
"""A matrix and its momentum, both views into what they are a part of."""


@torch.no_grad()
def muon_step(parts: Sequence[Part], grads: Sequence[Tensor], rate: float, decay: float) -> None:
    """Move every matrix; `rate` and `decay` mean what they mean for AdamW."""
    by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor, bool]]] = {}
    for (weight, momentum), grad in zip(parts, grads, strict=True):
        momentum.lerp_(grad, 0.05)
        ahead = grad.lerp(momentum, 0.95)
        tall = ahead.shape[0] > ahead.shape[1]
        wide = ahead.T if tall else ahead
        by_shape.setdefault((wide.shape[0], wide.shape[1]), []).append((weight, wide, tall))
    for (_, width), items in by_shape.items():
        steps = orthogonal(torch.stack([wide for _, wide, _ in items]))
        scale = rate * 0.2 * width**0.5
        for (weight, _, tall), step in zip(items, steps, strict=True):
            weight.mul_(1 - rate * decay).sub_(step.T if tall else step, alpha=scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the same row and column spaces, for (n, rows, columns), rows <= columns."""
    x = matrices / (matrices.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x


def parts_of(name: str, weight: Tensor) -> list[Tensor]:
    """The matrices that are stored as one: queries, keys and values; gate and up."""
    pieces = 3 if "qkv" in name else 2 if "gate_up" in name else 1
    return list(weight.chunk(pieces, dim=0))
