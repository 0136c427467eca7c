"""The same model under growing contexts and more slots: where it stops fitting."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rung.models.fit.estimate import Estimate, correction, estimate
from rung.models.fit.measured import Measured
from rung.models.fit.model import Model
from rung.models.fit.rules import Rules
from rung.models.fit.run import MOST_TOKENS, Run
from rung.models.hardware.machine import Machine

_FIRST = 2048
_USUAL_LAST = 131_072
SLOTS = (1, 2, 4)
"""Requests at once that are tried where nothing else is asked for."""


class Row(msgspec.Struct, frozen=True):
    """One context.

    Attributes:
        per_slot: tokens that one request may take: of all of them, where slots share one cache.
        estimates: one for each number of slots, in the order asked for.
    """

    per_slot: int
    estimates: tuple[Estimate, ...]


def contexts_of(trained: int | None) -> tuple[int, ...]:
    """Contexts worth trying: doubling from 2,048 to what the model was trained for, that one included.

    Args:
        trained: tokens; None where the model does not say, for which 131,072 stand.
    """
    last = min(trained or _USUAL_LAST, MOST_TOKENS)
    found = []
    context = _FIRST
    while context < last:
        found.append(context)
        context *= 2
    return (*found, last)


def sweep(
    model: Model,
    run: Run,
    machine: Machine,
    *,
    contexts: Sequence[int] | None = None,
    slots: Sequence[int] | None = None,
    rules: Rules | None = None,
    measured: Measured | None = None,
    reserve: int | None = None,
) -> tuple[Row, ...]:
    """An estimate for each context and each number of slots.

    Args:
        model: that runs.
        run: everything else of how it runs.
        machine: where.
        contexts: tokens of one slot; None for those of `contexts_of`, and those of the run.
        slots: requests at once; None for `SLOTS`, and those of the run.
        rules: of the engine; None for the embedded one's.
        measured: what the model took under the run here; the figures of others are corrected by it.
        reserve: bytes that a process of the engine takes; None for the rule.

    Raises:
        InputError: a run is none that the rules allow.
    """
    own = run.context if run.unified else max(1, run.context // run.slots)
    usual = contexts_of(model.shape.context_length)
    tried = sorted({*usual, own}) if contexts is None else contexts
    counts = sorted({*SLOTS, run.slots}) if slots is None else slots
    corrected = None
    if measured is not None:
        corrected = correction(model, run, machine, measured, rules=rules, reserve=reserve)

    def one(per_slot: int, count: int) -> Estimate:
        total = per_slot if run.unified else min(MOST_TOKENS, per_slot * count)
        how = msgspec.structs.replace(run, context=total, slots=count)
        return estimate(model, how, machine, rules=rules, corrected=corrected, reserve=reserve)

    return tuple(Row(each, tuple(one(each, count) for count in counts)) for each in tried)
