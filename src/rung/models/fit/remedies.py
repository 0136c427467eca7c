"""What would help when a model does not fit well: every lever worked out, none merely advised.

For each, the bytes it saves and the verdict it leads to come from the same `estimate` that said it does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rung.models.fit.estimate import Estimate, correction, estimate
from rung.models.fit.levers import Lever, Try, combined, possible, tries
from rung.models.fit.measured import Measured
from rung.models.fit.model import Model
from rung.models.fit.rules import Rules, default_rules
from rung.models.fit.run import Run
from rung.models.fit.verdict import Verdict, better
from rung.models.hardware.machine import Machine

_LEAST_SHARE = 0.01


__all__ = ["Lever", "Remedy", "remedies"]


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


def remedies(
    model: Model,
    run: Run,
    machine: Machine,
    *,
    quants: Sequence[Model] = (),
    others: Sequence[Model] = (),
    rules: Rules | None = None,
    measured: Measured | None = None,
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
        measured: what the model took under this run here; what levers leave as it is stays as measured.
        reserve: bytes that a process of the engine takes; None for the rule.

    Raises:
        InputError: the run is none that the rules allow.
    """
    corrected = None
    if measured is not None:
        corrected = correction(model, run, machine, measured, rules=rules, reserve=reserve)

    def judged(one: Model, how: Run) -> Estimate:
        alike = corrected if one.shape == model.shape else None
        return estimate(one, how, machine, rules=rules, corrected=alike, reserve=reserve)

    before = estimate(model, run, machine, rules=rules, measured=measured, reserve=reserve)
    if before.verdict is Verdict.FITS:
        return ()
    found = []
    chosen = default_rules() if rules is None else rules
    for one in tries(model, run, machine, quants, others):
        if not possible(one, chosen):
            continue
        after = judged(one.model, one.run)
        if _useful(before, after):
            found.append(_remedy(one, before, after))
    keeping = [remedy.verdict for remedy in found if remedy.lever is not Lever.SMALLER]
    if Verdict.FITS not in keeping:
        together = [
            _remedy(one, before, judged(model, one.run))
            for one in combined(model, run, chosen)
            if possible(one, chosen)
        ]
        best = min((before.verdict, *keeping), key=_rank)
        found += sorted(
            (remedy for remedy in together if better(remedy.verdict, best)),
            key=lambda remedy: _rank(remedy.verdict),
        )[:1]
    return tuple(sorted(_fewest(found), key=lambda remedy: (_rank(remedy.verdict), remedy.lever)))


def _useful(before: Estimate, after: Estimate) -> bool:
    """Whether a lever does anything worth its cost."""
    if better(before.verdict, after.verdict):
        return False
    if better(after.verdict, before.verdict) or after.layers_on_card > before.layers_on_card:
        return True
    return after.headroom - before.headroom >= _LEAST_SHARE * before.tightest.needed


def _remedy(one: Try, before: Estimate, after: Estimate) -> Remedy:
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
