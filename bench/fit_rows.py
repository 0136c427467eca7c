"""Rows of other people's logs as `bench/fit.py` needs them: a shape, a run, an engine's rules, and what was logged.

A row says hyperparameters, not a header, so they are put as a header would put them and read by the product's own code.
Nothing depends on a row's name. What a row does not say is left out and counted with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rung.errors import RungError
from rung.models.fit.catalogued import Hyperparameters, shape_from, weights_from
from rung.models.fit.keys import MOST_LAYERS
from rung.models.fit.rules import Rules, rules
from rung.models.fit.run import Run
from rung.models.fit.shape import Shape
from rung.models.fit.weights import Weights

MIB = 1 << 20
Row = Mapping[str, Any]  # a row of a file that somebody else writes

ENGINES = (
    (r"ik_llama", "ik_llama.cpp"),
    (r"LM Studio", "lmstudio"),
    (r"pre-MLA|\b202[34]\b", "llama.cpp-2024"),
    (r"\b2025\b", "llama.cpp-2025"),
    (r"Ollama", "ollama"),
    (r"llama-server|Unsloth", "llama.cpp-2026"),
    (r"llama-bench|\b202[6-9]\b", "llama.cpp-2026-bench"),
)
"""The first pattern that a row's engine matches names its rules; a build number decides where none does."""

BUILDS = ((5140, "llama.cpp-2024"), (8000, "llama.cpp-2025"))
"""Builds of llama.cpp before which a set of rules holds; later ones have the newest one."""

NEWEST = "llama.cpp-2026-bench"

DIRECT = {
    "ssm_d_conv": "ssm.conv_kernel",
    "ssm_d_inner": "ssm.inner_size",
    "ssm_d_state": "ssm.state_size",
    "ssm_n_group": "ssm.group_count",
    "full_attention_interval": "full_attention_interval",
    "nextn_predict_layers": "nextn_predict_layers",
    "kv_lora_rank": "attention.kv_lora_rank",
    "n_embd_head_k": "attention.key_length",
    "n_embd_head_v": "attention.value_length",
    "head_dim": "attention.key_length",
    "n_embd_head_k_swa": "attention.key_length_swa",
    "n_embd_head_v_swa": "attention.value_length_swa",
    "n_rot": "rope.dimension_count",
    "swa_pattern": "attention.sliding_window_pattern",
    "shortconv_l_cache": "shortconv.l_cache",
    "l_cache": "shortconv.l_cache",
    "n_layer_kv_shared": "attention.shared_kv_layers",
    "indexer_key_length": "attention.indexer.key_length",
    "wkv_head_size": "wkv.head_size",
    "token_shift_count": "token_shift_count",
}
"""Names of the rows' hyperparameters, as the keys of a header."""

NAMED = {
    "n_layer", "n_head", "n_head_kv", "n_embd", "n_vocab", "n_ff", "n_expert", "n_expert_used", "n_ff_exp", "n_swa",
    "n_ctx_train", "head_count_kv_global", "head_count_kv_swa", "tied_embeddings", "swa",
}  # fmt: skip
"""Hyperparameters that `hyperparameters_of` reads itself."""


class Case(NamedTuple):
    """One row, and why some of it cannot be compared."""

    row: Row
    shape: Shape
    run: Run
    rules: Rules
    weights: Weights
    cards: int
    output_on_card: bool
    lacks: tuple[str, ...]


def case_of(row: Row) -> Case:
    """Read a row.

    Raises:
        RungError, LookupError, TypeError, ValueError: it lacks what every comparison needs.
    """
    hparams = row["hparams"]
    shape = shape_from(hyperparameters_of(row), str(row.get("model")))
    host_mib, card_mib = model_buffers(row)
    cards = len({name for name, _ in buffers(row, "compute_mib") if not is_host(name)})
    run = run_of(row, experts_on_host=bool(hparams.get("n_expert")) and host_mib > card_mib > 0)
    parameters = int(row.get("n_params") or 1)
    size = row.get("model_size_mib") or 0
    weights = weights_from(shape, file_bytes=int(size * MIB), parameters=parameters)
    needed = {
        "n_embd": hparams,
        "n_vocab": hparams,
        "flash_attn": row,
        "n_ubatch": row,
        "n_ctx": row,
    }
    lacks = tuple(name for name, place in needed.items() if place.get(name) is None)
    on_card = not host_mib or card_mib > 0
    return Case(row, shape, run, rules_of(row), weights, cards, on_card, lacks)


def run_of(row: Row, *, experts_on_host: bool) -> Run:
    flash = row.get("flash_attn")
    return Run(
        context=row.get("n_ctx") or 512,
        slots=row.get("n_seq") or 1,
        unified=bool(row.get("kv_unified")),
        type_k=row.get("type_k") or "f16",
        type_v=row.get("type_v") or "f16",
        flash_attention=flash is not False,
        ubatch=row.get("n_ubatch") or 512,
        batch=row.get("n_batch") or 2048,
        experts_on_host=experts_on_host,
    )


def rules_of(row: Row) -> Rules:
    """The rules of the engine that a row names."""
    engine = " ".join(
        str(row.get(field) or "") for field in ("engine", "backend", "command", "device")
    )
    found = next((name for pattern, name in ENGINES if re.search(pattern, engine)), None)
    if found is None:
        build = re.search(r"\b(?:b|build )(\d{4,5})\b", engine)
        number = int(build[1]) if build else math.inf
        found = next((name for before, name in BUILDS if number < before), NEWEST)
    if found == "ik_llama.cpp" and row.get("mla_attn") in (0, 1):
        found = f"{found}-mla{row['mla_attn']}"  # its own setting, which is no setting of llama.cpp
    return rules(found)


def hyperparameters_of(row: Row) -> Hyperparameters:
    known = row["hparams"]
    layers = known["n_layer"]
    if not 0 < layers <= MOST_LAYERS:
        raise ValueError(f"n_layer is {layers!r}")
    key = known.get("n_embd_head_k") or known.get("head_dim")
    heads = known.get("n_head") or _heads_without(known, key)
    further = {name: known[field] for field, name in DIRECT.items() if known.get(field) is not None}
    if "head_dim" in known:
        further["attention.value_length"] = known["head_dim"]
    rank = known.get("kv_lora_rank")
    if rank and (known.get("n_head_kv") == 1 or (key or 0) > rank):  # made for keeping the latent
        further["attention.key_length_mla"] = key
    further |= _listed(row) | _indexed(row)
    shared = further.pop("attention.head_count_kv", known.get("n_head_kv"))
    return Hyperparameters(
        architecture=row.get("arch") or known.get("gguf_arch") or "",
        layers=layers,
        heads=heads,
        kv_heads=shared,
        embedding=known.get("n_embd") or max(1, _largest(heads) * (key or 1)),
        vocabulary=known.get("n_vocab") or 1,
        feed_forward=known.get("n_ff") or 0,
        tied=bool(known.get("tied_embeddings")),
        experts=known.get("n_expert") or 0,
        experts_used=known.get("n_expert_used") or 0,
        expert_feed_forward=known.get("n_ff_exp") or 0,
        window=known.get("n_swa") or (known.get("swa") or {}).get("window") or 0,
        context=known.get("n_ctx_train") or 0,
        further=further,
    )


def _listed(row: Row) -> dict[str, Any]:
    """Per-layer lists of a model of which a row only says how many layers are of each kind."""
    known = row["hparams"]
    whole, windowed = known.get("head_count_kv_global"), known.get("head_count_kv_swa")
    if whole is None or windowed is None:
        return {}
    dense = sum(part["layers"] for part in row["kv_parts"] if not part.get("swa"))
    period = known["n_layer"] // dense
    has_window = [n % period < period - 1 for n in range(known["n_layer"])]
    return {
        "attention.sliding_window_pattern": [int(one) for one in has_window],
        "attention.head_count_kv": [windowed if one else whole for one in has_window],
    }


def _indexed(row: Row) -> dict[str, Any]:
    """Keys for choosing what to attend to, of which a row only says how wide they are and in how many layers."""
    parts = row.get("kv_parts") or []
    known = row["hparams"]
    if not known.get("kv_lora_rank") or len(parts) < 2:
        return {}
    widest = max(part["k_width"] for part in parts)
    narrow = [part for part in parts if part["k_width"] < widest and not part["v_width"]]
    widths = [part["k_width"] for part in narrow for _ in range(part["layers"])]
    rest = [0] * (known["n_layer"] - len(widths))
    return {"attention.indexer.key_length": [*widths, *rest]} if widths else {}


def _heads_without(known: Row, key: int | None) -> Any:
    """Heads of queries where a row says none: a whole number, or a list as long as the layers."""
    if known.get("n_embd") and key:
        return known["n_embd"] // key
    return known.get("n_head_kv") or 0


def _largest(heads: int | Sequence[int]) -> int:
    return heads if isinstance(heads, int) else max(heads)


def buffers(row: Row, field: str) -> list[tuple[str, float]]:
    """Logged buffers as pairs of device and MiB."""
    return [(str(one["device"]), float(one["mib"])) for one in row.get(field) or ()]


def is_host(device: str) -> bool:
    return "Host" in device or device.startswith(("CPU", "BLAS", "AMX"))


def model_buffers(row: Row) -> tuple[float, float]:
    """MiB of weights in the host's memory and on cards."""
    found = buffers(row, "model_buffers_mib")
    return (
        sum(mib for name, mib in found if is_host(name)),
        sum(mib for name, mib in found if not is_host(name)),
    )


def unread(rows: Sequence[Row]) -> list[str]:
    """Hyperparameters that no code here reads."""
    names = {name for row in rows for name in row.get("hparams") or ()}
    return sorted(names - NAMED - DIRECT.keys())


FAULTS = (RungError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What a row that lacks something ends in."""
