"""Rows of measured memory of whole cards or processes as `bench/fit.py` needs them.

What lies on the card is added up as the product does: weights without the table of tokens where the output has a matrix
of its own, cache, state and compute. ROCm's pool for one matrix in f16 is added where the device is one of its.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fit_formulas import Known
from fit_rows import MIB, Row, hyperparameters_of, rules_of, run_of
from rung.models.fit.cache import cache_bytes
from rung.models.fit.catalogued import shape_from, weights_from
from rung.models.fit.compute import compute
from rung.models.fit.shape import Shape
from rung.models.fit.state import state_bytes


class Total(NamedTuple):
    """One row in MiB: what is predicted without the machine's constant, and what was measured."""

    id: str
    device: str
    model: str
    predicted: float
    measured: float
    unsure: bool
    known: Known


def total_of(row: Row, catalogue: Mapping[str, Row]) -> Total:
    """Read a row.

    Raises:
        RungError, LookupError, TypeError, ValueError: it lacks what is needed.
    """
    measured = row.get("measured_peak_mib") or row.get("measured_delta_mib")
    if not measured:
        raise ValueError("no memory is stated")
    row = _filled(row, catalogue)
    shape = shape_from(hyperparameters_of(row), str(row.get("model")))
    run, rules = run_of(row, experts_on_host=False), rules_of(row)
    file_mib = row.get("weights_gpu_mib") or row["file_tensor_mib"]
    weights = weights_from(
        shape,
        file_bytes=int(file_mib * MIB),
        parameters=int(row["n_params"]),
        file_type=file_type(row),
    )
    left = 0 if row.get("weights_gpu_mib") or is_tied(row, shape) else weights.embedding
    card = compute(shape, weights, run, rules, cards=1).card
    pool = 2 * shape.embedding * shape.feed_forward if "ROCm" in row["device"] else 0
    size = cache_bytes(shape, run, rules)[1].bytes + state_bytes(shape, run, rules)[1].bytes
    return Total(
        str(row.get("id")),
        f"{row['device']}".split(" (")[0],
        str(row.get("model")),
        file_mib + (size + card.bytes + pool - left) / MIB,
        float(measured),
        card.low_confidence or not run.flash_attention,
        Known(float(row["n_params"]), int(row["n_ctx"]), float(file_mib), shape),
    )


def _filled(row: Row, catalogue: Mapping[str, Row]) -> Row:
    """A row with the hyperparameters that a catalogue has of its model, where it has none."""
    if row.get("hparams"):
        return row
    found = catalogue.get(str(row.get("model", "")).split("/")[-1].lower())
    if found is None:
        raise ValueError("no hyperparameters, neither in the row nor in the catalogue")
    return {
        **row,
        "hparams": found["hparams"],
        "arch": found["gguf_arch"],
        "n_params": found["n_params"],
    }


def file_type(row: Row) -> str:
    """The mix of types that a row names: `llama 70B Q4_K - Medium` is Q4_K_M; only where a table's type is known."""
    found = re.search(
        r"\b(Q\d_[K0-9](?:_[SML])?)(?: - (Small|Medium|Large))?$", str(row.get("quant"))
    )
    return found[1] if found and "UD-" not in str(row.get("model")) else ""


def is_tied(row: Row, shape: Shape) -> bool:
    """Whether the output has no matrix of its own: told by the number of parameters, where a row does not say."""
    stated = row["hparams"].get("tied_embeddings")
    if stated is not None:
        return bool(stated)
    queries = shape.heads * shape.head_width
    shared = max(layer.width_k + layer.width_v for layer in shape.layers)
    block = shape.embedding * (2 * queries + shared + 3 * shape.feed_forward)
    table = shape.vocabulary * shape.embedding
    once = len(shape.layers) * block + table
    return abs(row["n_params"] - once) < abs(row["n_params"] - once - table) and not shape.experts


def constants(totals: Sequence[Total], predict: Callable[[Total], float]) -> list[float]:
    """For each row what its machine takes besides: the median residual of its sure rows of other models."""
    found = []
    for one in totals:
        rest = [
            other.measured - predict(other)
            for other in totals
            if other.model != one.model and other.device == one.device and not other.unsure
        ]
        found.append(float(np.median(rest)) if rest else 0.0)
    return found


def is_vllm(row: Row) -> bool:
    return "gpu_blocks" in row


def vllm_check(row: Row) -> dict[str, Any]:
    """A row of vLLM by its own semantics: the cache is what is left of a share of the card."""
    left = (
        row["budget_gib"] - row["weights_gib"] - row["non_torch_gib"] - row["activation_peak_gib"]
    )
    return {"id": row.get("id"), "left_gib": round(left, 2), "cache_gib": row["kv_gib"]}
