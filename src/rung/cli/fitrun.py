"""What `rung fit` is asked about, as a run of the engine, and what was measured of it here."""

from __future__ import annotations

import msgspec

from rung.cli.fitmodel import Opened
from rung.errors import InputError
from rung.models.fit.measured import Measured
from rung.models.fit.rules import Rules
from rung.models.fit.run import MOST_TOKENS, Run
from rung.models.hardware.machine import Machine
from rung.quantities import counted

_USUAL_CONTEXT = 4096  # of one request, as the embedded engine has it


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How the model is to run, as the command line says it."""

    ctx: int | None
    parallel: int | None
    unified: bool | None
    kv_type: str | None
    kv_type_k: str | None
    kv_type_v: str | None
    flash_attn: str
    ubatch: int
    gpu_layers: int | None
    cpu_moe: bool


def run_of(asked: Asked, opened: Opened, machine: Machine, served: Rules | None) -> Run:
    """The run that is asked for; what is left open is as the embedded engine would have it.

    Args:
        asked: on the command line.
        opened: the model.
        machine: where.
        served: of the engine whose server is asked about, which opens slots unasked; None for the embedded engine.
    """
    slots, unified = asked.parallel, bool(asked.unified)
    if slots is None:
        slots = served.default_slots if served else 1
        if served and asked.unified is None:
            unified = served.default_unified
    if asked.ctx is not None and asked.ctx < slots and not unified:
        raise InputError(
            f"{counted(asked.ctx, 'token')} cannot be split over {slots} slots",
            hint="ask for more with --ctx, for fewer slots with --parallel, or for --unified",
        )
    per_slot = min(opened.model.shape.context_length or _USUAL_CONTEXT, _USUAL_CONTEXT)
    both = asked.kv_type or "f16"
    gpu_layers = asked.gpu_layers
    if gpu_layers is None and not machine.cards:
        gpu_layers = 0
    return Run(
        context=asked.ctx or min(per_slot * (1 if unified else slots), MOST_TOKENS),
        slots=slots,
        unified=unified,
        type_k=asked.kv_type_k or both,
        type_v=asked.kv_type_v or both,
        flash_attention=asked.flash_attn == "on",
        ubatch=asked.ubatch,
        batch=asked.ubatch,
        gpu_layers=gpu_layers,
        experts_on_host=asked.cpu_moe,
    )


def measured_here(
    opened: Opened, run: Run, machine: Machine, rule_set: str | None
) -> tuple[Measured | None, int | None]:
    """What was measured of this model and of a process here, where it is about this machine and the embedded engine."""
    if not machine.detected or rule_set is not None:
        return None, None
    from rung.engines.llama_cpp.build import engine_build
    from rung.models.fit.measured import Measurements

    engine, kept = engine_build(), Measurements()
    if engine is None:
        return None, None
    return kept.find(opened.key, run, engine), kept.process_reserve(engine)
