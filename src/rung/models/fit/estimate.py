"""Will it fit: what a model takes of each memory of a machine, beside what there is.

    from rung.models.fit.estimate import estimate
    from rung.models.fit.model import model_of
    from rung.models.fit.run import Run
    from rung.models.hardware.detection import this_machine
    from rung.models.header import read_header

    model = model_of([read_header(path)], path.name)
    answer = estimate(model, Run(context=8192), this_machine())
    answer.verdict, answer.needed, answer.parts

What would help when it does not fit is `remedies`' to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from rung.models.fit.cache import check_types
from rung.models.fit.demand import CACHE, Part, demand
from rung.models.fit.measured import Measured
from rung.models.fit.model import Model
from rung.models.fit.observed import Correction, observed
from rung.models.fit.placement import Place, active_bytes, offloadable, places
from rung.models.fit.remarks import remarks
from rung.models.fit.repacked import repacks
from rung.models.fit.rules import Rules, default_rules
from rung.models.fit.run import Run
from rung.models.fit.speed import Reading, Speed, speed_of, with_measured
from rung.models.fit.tags import Amount, Tag
from rung.models.fit.verdict import Budget, Verdict, verdict_of
from rung.models.hardware.machine import DeviceKind, Machine

__all__ = ["Budget", "Estimate", "Part", "Verdict", "correction", "estimate"]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a model on a machine.

    Attributes:
        model: its name.
        file_type: its mix of types.
        run: how it would run.
        machine: the machine's name.
        rules: the engine rule set that it rests on.
        verdict: in one word.
        at_most: whether the figures are an upper bound, because the architecture is not known.
        at_least: whether not even an upper bound is known; then nothing is said to fit but tightly.
        parts: what takes memory, the host's first.
        budgets: what each device has and what is needed of it, the host first.
        layers: that the model has, as `-ngl` counts: blocks and the output.
        layers_on_card: of them, those that lie on cards.
        notes: what a person should know.
        speed: of writing; None where a bandwidth is unknown.
    """

    model: str
    file_type: str
    run: Run
    machine: str
    rules: str
    verdict: Verdict
    at_most: bool
    at_least: bool = False
    parts: tuple[Part, ...]
    budgets: tuple[Budget, ...]
    layers: int
    layers_on_card: int
    notes: tuple[str, ...] = ()
    speed: Speed | None = None

    @property
    def needed(self) -> int:
        """Bytes over all devices."""
        return sum(budget.needed for budget in self.budgets)

    @property
    def tightest(self) -> Budget:
        """The device that fits worst; of several alike, the one with the least room left."""
        order = tuple(Verdict)
        return min(self.budgets, key=lambda one: (-order.index(one.verdict), one.headroom))

    @property
    def headroom(self) -> int:
        """Bytes left on the tightest device; negative when it does not fit."""
        return self.tightest.headroom

    def part(self, what: str) -> int:
        """Bytes of one kind of part over all devices."""
        return sum(part.amount.bytes for part in self.parts if part.what == what)


class _Laid(msgspec.Struct, frozen=True):
    """One way to place a model, with what comes of it."""

    on_cards: int
    places: tuple[Place, ...]
    parts: tuple[Part, ...]
    budgets: tuple[Budget, ...]

    def cards(self) -> Iterator[Budget]:
        """The budgets of cards."""
        return (budget for budget in self.budgets if budget.kind is DeviceKind.GPU)


def estimate(
    model: Model,
    run: Run,
    machine: Machine,
    *,
    rules: Rules | None = None,
    measured: Measured | None = None,
    corrected: Correction | None = None,
    reserve: int | None = None,
) -> Estimate:
    """Say whether a model fits a machine, and what takes how much.

    Args:
        model: from its header, or from a catalogue.
        run: how it is to run; without `gpu_layers` as many layers go to cards as these hold.
        machine: where.
        rules: of the engine; None for those of the embedded one.
        measured: what this very model took under this very run here; it takes the place of rules.
        corrected: what it took under another run (`correction`), where this one was not measured.
        reserve: bytes that a process of the engine takes beside its model, measured here; None for the rule.

    Raises:
        InputError: the run is none that the rules allow, or its cache is of a type that such heads cannot have.
    """
    chosen = default_rules() if rules is None else rules
    check_types(model.shape, run, chosen)
    copies = repacks(run, chosen, machine)

    def laid(on_cards: int) -> _Laid:
        where = places(model, run, machine, on_cards)
        parts = demand(model, run, chosen, where, reserve, copies=copies)
        if measured is not None:
            parts = observed(parts, measured, machine)
        elif corrected is not None:
            parts = corrected(parts, machine)
        return _Laid(on_cards, where, parts, _budgets(parts, machine))

    most = offloadable(model) if machine.cards else 0
    best = laid(most if run.gpu_layers is None else min(run.gpu_layers, most))
    if run.gpu_layers is None and any(budget.headroom < 0 for budget in best.cards()):
        best = _largest(laid, most)
    spilled = run.gpu_layers != 0 and best.on_cards < most
    verdict = verdict_of(best.budgets, spilled=spilled)
    unbounded = bool(model.shape.unread)
    return Estimate(
        model=model.name,
        file_type=model.file_type,
        run=run,
        machine=machine.name,
        rules=chosen.name,
        verdict=Verdict.TIGHT if unbounded and verdict is Verdict.FITS else verdict,
        at_most=not model.shape.known and not unbounded,
        at_least=unbounded,
        parts=best.parts,
        budgets=best.budgets,
        layers=offloadable(model),
        layers_on_card=best.on_cards,
        notes=tuple(remarks(model, run, machine, best.budgets)),
        speed=_speed(model, run, best, measured),
    )


def correction(
    model: Model,
    run: Run,
    machine: Machine,
    measured: Measured,
    *,
    rules: Rules | None = None,
    reserve: int | None = None,
) -> Correction:
    """What a measured run tells of runs that differ from it in a setting or two; arguments as of `estimate`.

    Raises:
        InputError: the run is none that the rules allow.
    """
    ruled = estimate(model, run, machine, rules=rules, reserve=reserve)
    told = estimate(model, run, machine, rules=rules, measured=measured, reserve=reserve)
    return Correction(ruled.parts, told.parts)


def _budgets(parts: Sequence[Part], machine: Machine) -> tuple[Budget, ...]:
    return tuple(
        Budget(
            device=device.name,
            kind=device.kind,
            needed=sum(part.amount.bytes for part in parts if part.device == device.name),
            available=device.available,
            doubtful=sum(
                part.amount.bytes
                for part in parts
                if part.device == device.name and _may_be_short(part.amount)
            ),
        )
        for device in machine.devices
    )


def _may_be_short(amount: Amount) -> bool:
    """Whether more than that may be needed; an upper bound is doubtful the other way."""
    return amount.low_confidence and amount.tag is not Tag.UNKNOWN


def _largest(laid: Callable[[int], _Laid], most: int) -> _Laid:
    """The most layers that cards hold with room to spare; the more of them, the more they need."""
    fitting, too_many, best = 0, most, laid(0)
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        tried = laid(middle)
        if all(budget.verdict is Verdict.FITS for budget in tried.cards()):
            fitting, best = middle, tried
        else:
            too_many = middle
    return best


def _speed(model: Model, run: Run, laid: _Laid, measured: Measured | None) -> Speed | None:
    """The speed of one request; a model that only embeds writes nothing."""
    if not model.shape.causal:
        return None
    slots = 1 if run.unified else run.slots
    readings = []
    for place in laid.places:
        cache = sum(
            part.amount.bytes
            for part in laid.parts
            if part.what == CACHE and part.device == place.device.name
        )
        weights = active_bytes(model, place)
        if weights or cache:
            experts = bool(model.shape.experts)
            readings.append(Reading(place.device, weights, cache // slots, experts))
    speed = speed_of(readings)
    return with_measured(speed, measured) if speed and measured else speed
