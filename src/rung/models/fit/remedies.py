"""What would help when a model does not fit well: every lever worked out, none merely advised.

For each, the bytes it saves and the verdict it leads to come from the same `estimate` that said it does not fit.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import msgspec

from rung.models.fit.estimate import Estimate, estimate
from rung.models.fit.model import Model
from rung.models.fit.quants import quant_caution
from rung.models.fit.rules import Rules
from rung.models.fit.run import Run, cached_bytes
from rung.models.fit.verdict import Verdict, better
from rung.models.hardware.machine import Machine

_LEAST_SHARE = 0.01
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
    """Several settings at once, where none alone makes it fit."""


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One lever pulled.

    Attributes:
        lever: which.
        label: the option to give, or the model to take instead.
        saves: bytes less than before, over all devices.
        verdict: that it leads to.
        headroom: bytes that are then left on the tightest device; negative when it still does not fit.
        caution: what it costs that nobody should miss; empty for nothing.
        run: how it would then run.
        model: the name of the model that would then run.
    """

    lever: Lever
    label: str
    saves: int
    verdict: Verdict
    headroom: int
    caution: str = ""
    run: Run
    model: str


class _Try(msgspec.Struct, frozen=True, kw_only=True):
    lever: Lever
    label: str
    run: Run
    model: Model
    caution: str = ""


def remedies(
    model: Model,
    run: Run,
    machine: Machine,
    *,
    quants: Sequence[Model] = (),
    others: Sequence[Model] = (),
    rules: Rules | None = None,
    reserve: int | None = None,
) -> tuple[Remedy, ...]:
    """The levers that help, those that lead to the best verdict at the least cost first; none when it fits.

    Args:
        model: that does not fit well.
        run: how it was to run.
        machine: where.
        quants: other quantisations of the same model.
        others: other models of the kind.
        rules: of the engine; None for the embedded one's.
        reserve: bytes that a process of the engine takes; None for the rule.

    Raises:
        InputError: the run is none that the rules allow.
    """

    def judged(one: Model, how: Run) -> Estimate:
        return estimate(one, how, machine, rules=rules, reserve=reserve)

    before = judged(model, run)
    if before.verdict is Verdict.FITS:
        return ()
    found = []
    for one in _tries(model, run, machine, quants, others):
        after = judged(one.model, one.run)
        if _useful(before, after):
            found.append(_remedy(one, before, after))
    if not any(remedy.verdict is Verdict.FITS for remedy in found):
        combined = [_remedy(one, before, judged(model, one.run)) for one in _combined(model, run)]
        found += [remedy for remedy in combined if remedy.verdict is Verdict.FITS][:1]
    return tuple(sorted(_fewest(found), key=lambda remedy: (_rank(remedy.verdict), remedy.lever)))


def _tries(
    model: Model, run: Run, machine: Machine, quants: Sequence[Model], others: Sequence[Model]
) -> Iterator[_Try]:
    def with_run(lever: Lever, label: str, caution: str = "", **changed: object) -> _Try:
        how = msgspec.structs.replace(run, **changed)
        return _Try(lever=lever, label=label, run=how, model=model, caution=caution)

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
        if _smaller_cache(kind, run):
            label, caution = _cache_words(kind, run)
            yield with_run(lever, label, caution, type_k=kind, type_v=kind, flash_attention=True)
    context = run.context // 2
    while context // run.slots >= _LEAST_CONTEXT:
        yield with_run(Lever.CONTEXT, f"--ctx {context}", context=context)
        context //= 2
    yield from _instead(Lever.QUANT, model, run, quants)
    yield from _instead(Lever.SMALLER, model, run, others)


def _combined(model: Model, run: Run) -> Iterator[_Try]:
    """One slot, a cache of 8 bits and ever less context."""
    kind = "q8_0" if _smaller_cache("q8_0", run) else run.type_k
    context = run.context if run.unified else run.context // run.slots
    while context >= _LEAST_CONTEXT:
        how = msgspec.structs.replace(
            run, slots=1, context=context, type_k=kind, type_v=kind, flash_attention=True
        )
        label = f"--parallel 1 --ctx {context} --kv-type {kind}"
        yield _Try(lever=Lever.TOGETHER, label=label, run=how, model=model)
        context //= 2


def _smaller_cache(kind: str, run: Run) -> bool:
    now = min(cached_bytes(run.type_k, _BLOCK), cached_bytes(run.type_v, _BLOCK))
    return cached_bytes(kind, _BLOCK) < now


def _cache_words(kind: str, run: Run) -> tuple[str, str]:
    caution = "evaluate on your edge cases first" if kind == "q4_0" else ""
    if run.flash_attention:
        return f"--kv-type {kind}", caution
    both = ("needs flash attention", caution)
    return f"--kv-type {kind} --flash-attn on", "; ".join(filter(None, both))


def _instead(lever: Lever, model: Model, run: Run, others: Sequence[Model]) -> Iterator[_Try]:
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
        yield _Try(
            lever=lever,
            label=label.strip(),
            run=run,
            model=other,
            caution=quant_caution(other.file_type, bits),
        )


def _useful(before: Estimate, after: Estimate) -> bool:
    """Whether a lever does anything worth its cost."""
    if better(before.verdict, after.verdict):
        return False
    if better(after.verdict, before.verdict) or after.layers_on_card > before.layers_on_card:
        return True
    return after.headroom - before.headroom >= _LEAST_SHARE * before.tightest.needed


def _remedy(one: _Try, before: Estimate, after: Estimate) -> Remedy:
    return Remedy(
        lever=one.lever,
        label=one.label,
        saves=max(0, before.needed - after.needed),
        verdict=after.verdict,
        headroom=after.headroom,
        caution=one.caution,
        run=one.run,
        model=one.model.name,
    )


def _fewest(found: Sequence[Remedy]) -> Iterator[Remedy]:
    """Of the steps of one lever, the first, and where that does not make it fit, the first that does."""
    for lever in Lever:
        steps = [remedy for remedy in found if remedy.lever is lever]
        yield from steps[:1]
        if steps and steps[0].verdict is not Verdict.FITS:
            yield from [remedy for remedy in steps[1:] if remedy.verdict is Verdict.FITS][:1]


def _rank(verdict: Verdict) -> int:
    return tuple(Verdict).index(verdict)
