"""Second copies of matrices, in the order that a processor multiplies them fastest in.

Which types are copied is the engine's, `rules`; how much of a file is in them is told by its header, or where there is
none by its mix of types (`mixes.json`).

llama.cpp copies nothing where it sees a graphics card: it then prefers the memory that cards can read quickly to that
of its processor's extra buffers (its changes 12498 and 12632; its option `--no-host` turns that round).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources

import msgspec

from rung.models.fit.model import Model
from rung.models.fit.placement import Place, weight_bytes
from rung.models.fit.rules import Rules
from rung.models.fit.run import Run
from rung.models.fit.tags import NOTHING, Amount, Tag
from rung.models.fit.weights import Weights
from rung.models.hardware.machine import DeviceKind, Machine


def repacks(run: Run, rules: Rules, machine: Machine) -> bool:
    """Whether an engine copies anything on a machine.

    Args:
        run: with no layer on cards, the engine is taken to be one without support for them, as the embedded one is.
        rules: of the engine.
        machine: with cards or without.
    """
    return rules.repacks_beside_cards or not machine.cards or run.gpu_layers == 0


def repacked_bytes(model: Model, place: Place, rules: Rules) -> Amount:
    """What copies take on one device; nothing on one that is no processor's own."""
    if place.device.kind is not DeviceKind.HOST:
        return NOTHING
    weights = model.weights
    tables = weights.total - weights.output - sum(weights.per_layer)
    multiplied = max(1, weights.total - tables)
    here = min(1.0, (weight_bytes(model, place) - (tables if place.table else 0)) / multiplied)
    if weights.matrices_by_type:
        return _by_header(weights, rules, here)
    mix = _mixes().get(model.file_type, {})
    share = sum(share for kind, share in mix.items() if kind in rules.repacked)
    return Amount(int(here * share * multiplied), Tag.RULE, "second copies, by the type of file")


def _by_header(weights: Weights, rules: Rules, here: float) -> Amount:
    by_type = weights.matrices_by_type
    kinds = [kind for kind in rules.repacked if by_type.get(kind)]
    size = int(here * sum(by_type[kind] for kind in kinds))
    pages = "the first are file pages, which can be had back"
    return Amount(size, Tag.RULE, f"second copies of {', '.join(kinds)}; {pages}")


class _Mixes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data file: of each mix, the share of its matrices that is in a type."""

    format: int
    source: str
    shares: Mapping[str, Mapping[str, float]]


@functools.cache
def _mixes() -> Mapping[str, Mapping[str, float]]:
    content = resources.files(__package__).joinpath("mixes.json").read_bytes()
    return msgspec.json.decode(content, type=_Mixes).shares
