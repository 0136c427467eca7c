"""Published formulas for what a model takes, to stand beside Rung's; each sees what its authors say it sees.

All are given the true size of the weights, which is more than most of them have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rung.models.fit.shape import Shape

MIB = 1 << 20
GB = 1e9 / MIB
"""MiB of a gigabyte."""


class Known(NamedTuple):
    """What formulas may look at: parameters, tokens of context, MiB of weights, and the model's shape."""

    parameters: float
    context: int
    weights: float
    shape: Shape


class Formula(NamedTuple):
    """A formula: its KV term alone, and all of it, in MiB."""

    name: str
    cache: Callable[[Known], float]
    total: Callable[[Known], float]


def _per_parameter(factor: float) -> Callable[[Known], float]:
    """A KV term of `factor` GB per token of context and billion parameters."""
    return lambda known: factor * known.context * known.parameters / 1e9 * GB


def _whichllm_cache(known: Known) -> float:
    return 3.5 * known.parameters / 1e9 * known.context / 1000


def _koboldcpp_cache(known: Known) -> float:
    """4 x 1.1 bytes for each layer, head of keys and values, element of a head and token."""
    layers, heads, width = _counts(known.shape)
    return layers * heads * width * known.context * 4 * 1.1 / MIB


def _koboldcpp_compute(known: Known) -> float:
    layers, _, width = _counts(known.shape)
    return layers * 4 * width * known.context * 4 * 1.5 / MIB


def _counts(shape: Shape) -> tuple[int, int, int]:
    heads = max((layer.kv_heads for layer in shape.layers), default=0)
    return len(shape.layers), heads, shape.head_width


_thumb, _llmfit = _per_parameter(5e-6), _per_parameter(8e-6)

FORMULAS = (
    Formula("rule of thumb", _thumb, lambda known: known.weights + _thumb(known) + 4 * GB),
    Formula("llmfit's fallback", _llmfit, lambda known: known.weights + _llmfit(known) + 0.5 * GB),
    Formula(
        "whichllm",
        _whichllm_cache,
        lambda known: (
            known.weights + _whichllm_cache(known) + 0.4 * GB + 0.08 * GB * known.parameters / 1e9
        ),
    ),
    Formula(
        "KoboldCpp",
        _koboldcpp_cache,
        lambda known: known.weights + _koboldcpp_cache(known) + _koboldcpp_compute(known) + 1536,
    ),
)
"""The common rule of thumb, and what three programs compute, as their sources of 2024 to 2026 have it."""
