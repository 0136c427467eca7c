"""What a person should know beside the figures of an estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rung.models.fit.model import Model
from rung.models.fit.run import Run
from rung.models.fit.verdict import Budget
from rung.models.hardware.machine import Machine


def remarks(model: Model, run: Run, machine: Machine, budgets: Sequence[Budget]) -> Iterator[str]:
    """One sentence each.

    Args:
        model: that runs.
        run: how.
        machine: where.
        budgets: what each device has and what is needed of it.
    """
    yield from _ignored(model, run, machine)
    trained, slots = model.shape.context_length, 1 if run.unified else run.slots
    if trained and run.context // slots > trained:
        each = run.context // slots
        yield f"a slot has {each:,} tokens, more than the {trained:,} that the model was trained for"
    if model.shape.unread:
        yield (
            f"the architecture {model.shape.architecture!r} is not known, and no upper bound of what it takes is: its "
            f"header tells of something that Rung has no formula for ({', '.join(model.shape.unread[:3])})"
        )
    elif not model.shape.known:
        yield (
            f"the architecture {model.shape.architecture!r} is not known: every layer is taken to attend to the whole "
            "context, so the model takes at most this much"
        )
    if not model.exact:
        yield "no header was read: weights are from a catalogue or scaled by the size of the file"
    doubtful = [one.device for one in budgets if one.doubtful and one.headroom >= 0]
    if doubtful:
        yield (
            f"a figure on {' and on '.join(doubtful)} is known to miss in such a setting, so it counts twice before "
            "this is said to fit"
        )
    yield from model.shape.notes


def _ignored(model: Model, run: Run, machine: Machine) -> Iterator[str]:
    """Settings that change nothing here."""
    if run.gpu_layers and not machine.cards:
        yield "layers on a card were asked for, and there is no card with a memory of its own"
    if run.experts_on_host and not any(model.weights.experts_per_layer):
        yield "experts on the host were asked for, and the model has none"
    elif run.experts_on_host and (not machine.cards or run.gpu_layers == 0):
        yield "experts on the host were asked for, and nothing would be elsewhere"
