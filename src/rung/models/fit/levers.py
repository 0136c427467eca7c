"""Ways to need less memory, as settings to try: what each comes to is `remedies`' to work out."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import msgspec

from rung.errors import InputError
from rung.models.fit.cache import check_types
from rung.models.fit.model import Model
from rung.models.fit.quants import quant_caution
from rung.models.fit.rules import Rules
from rung.models.fit.run import Run, cached_bytes
from rung.models.hardware.machine import Machine

_LEAST_CONTEXT = 2048
_LEAST_UBATCH = 64
_BLOCK = 1024


class Lever(enum.IntEnum):
    """Ways to need less memory, that which costs least first."""

    UBATCH = 1
    """Fewer prompt tokens at once: prompts are read more slowly."""
    SLOTS = 2
    """Fewer requests at once."""
    CACHE_8_BIT = 3
    """Keys and values in 8 bits: hardly to be told from 16."""
    EXPERTS = 4
    """Experts in the host's memory: slower."""
    CONTEXT = 5
    """Less context."""
    QUANT = 6
    """A smaller quantisation of the same model."""
    CACHE_4_BIT = 7
    """Keys and values in 4 bits."""
    SMALLER = 8
    """A smaller model."""
    TOGETHER = 9
    """Several settings at once, where none alone makes this model fit."""


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """A lever to pull.

    Attributes:
        lever: which.
        label: the option to give, or the model to take instead.
        run: how it would then run.
        model: that would then run.
        caution: what it costs that nobody should miss.
    """

    lever: Lever
    label: str
    run: Run
    model: Model
    caution: str = ""


def tries(
    model: Model, run: Run, machine: Machine, quants: Sequence[Model], others: Sequence[Model]
) -> Iterator[Try]:
    """Every lever by itself; those of one kind in steps, the gentlest first.

    Args:
        model: that needs too much.
        run: how it was to run.
        machine: where.
        quants: other quantisations of the same model.
        others: other models, of which smaller ones are taken.
    """

    def with_run(lever: Lever, label: str, caution: str = "", **changed: object) -> Try:
        how = msgspec.structs.replace(run, **changed)
        return Try(lever=lever, label=label, run=how, model=model, caution=caution)

    if run.tokens_at_once > _LEAST_UBATCH:
        fewer = max(_LEAST_UBATCH, run.tokens_at_once // 4)
        yield with_run(
            Lever.UBATCH, f"--ubatch {fewer}", "prompts are read more slowly", ubatch=fewer
        )
    if run.slots > 1:
        per_slot = run.context if run.unified else max(1, run.context // run.slots)
        yield with_run(Lever.SLOTS, f"--parallel 1 --ctx {per_slot}", slots=1, context=per_slot)
    if run.experts_on_host is False and any(model.weights.experts_per_layer) and machine.cards:
        yield with_run(Lever.EXPERTS, "--cpu-moe", "slower", experts_on_host=True)
    for kind, lever in (("q8_0", Lever.CACHE_8_BIT), ("q4_0", Lever.CACHE_4_BIT)):
        if (kinds := _smaller_types(kind, run)) != (run.type_k, run.type_v):
            label, caution = _cache_words(kinds, run)
            changed = {"type_k": kinds[0], "type_v": kinds[1], "flash_attention": True}
            yield with_run(lever, label, caution, **changed)
    context = run.context // 2
    while context // run.slots >= _LEAST_CONTEXT:
        yield with_run(Lever.CONTEXT, f"--ctx {context}", context=context)
        context //= 2
    yield from _instead(Lever.QUANT, model, run, quants)
    yield from _instead(Lever.SMALLER, model, run, others)


def combined(model: Model, run: Run, rules: Rules) -> Iterator[Try]:
    """One slot, a cache of 8 bits where the model can have one, and ever less context."""
    eight = _smaller_types("q8_0", run)
    small = msgspec.structs.replace(run, type_k=eight[0], type_v=eight[1], flash_attention=True)
    label = ""
    if small != run and possible(
        Try(lever=Lever.TOGETHER, label="", run=small, model=model), rules
    ):
        run, label = small, f" {_cache_words(eight, run)[0]}"
    context = run.context if run.unified else run.context // run.slots
    while context >= _LEAST_CONTEXT:
        how = msgspec.structs.replace(run, slots=1, context=context)
        words = f"--parallel 1 --ctx {context}{label}"
        yield Try(lever=Lever.TOGETHER, label=words, run=how, model=model)
        context //= 2


def possible(one: Try, rules: Rules) -> bool:
    """Whether an engine would keep the model's heads in such a cache."""
    try:
        check_types(one.model.shape, one.run, rules)
    except InputError:
        return False
    return True


def _smaller_types(kind: str, run: Run) -> tuple[str, str]:
    """Types of keys and values with that type in place of larger ones."""

    def smaller(now: str) -> str:
        return min(now, kind, key=lambda one: cached_bytes(one, _BLOCK))

    return smaller(run.type_k), smaller(run.type_v)


def _cache_words(kinds: tuple[str, str], run: Run) -> tuple[str, str]:
    caution = "evaluate on your edge cases first" if "q4_0" in kinds else ""
    option = f"--kv-type {kinds[0]}"
    if kinds[0] != kinds[1]:
        option = f"--kv-type-k {kinds[0]} --kv-type-v {kinds[1]}"
    if run.flash_attention:
        return option, caution
    both = ("needs flash attention", caution)
    return f"{option} --flash-attn on", "; ".join(filter(None, both))


def _instead(lever: Lever, model: Model, run: Run, others: Sequence[Model]) -> Iterator[Try]:
    """Smaller ones in place of the model, the largest of them first."""
    per_slot = run.context // (1 if run.unified else run.slots)
    needed = min(per_slot, model.shape.context_length or per_slot)
    smaller = [
        other
        for other in others
        if other.weights.total < model.weights.total
        and (other.shape.context_length or needed) >= needed
    ]
    for other in sorted(smaller, key=lambda one: -one.weights.total):
        bits = 8 * other.weights.total / max(1, other.weights.parameters)
        label = other.file_type if lever is Lever.QUANT else f"{other.name} {other.file_type}"
        yield Try(
            lever=lever,
            label=label.strip(),
            run=run,
            model=other,
            caution=quant_caution(other.file_type, bits),
        )
