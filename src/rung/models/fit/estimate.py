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

import msgspec

from rung.models.fit.run import Run
from rung.models.fit.speed import Speed
from rung.models.fit.tags import Amount
from rung.models.fit.verdict import Budget, Verdict

__all__ = ["Budget", "Estimate", "Part", "Verdict"]


class Part(msgspec.Struct, frozen=True):
    """One thing that takes memory.

    Attributes:
        what: `weights`, `repacked weights`, `KV cache`, `recurrent state`, `compute`, `output` or `process`.
        device: the name of the device whose memory it takes.
        amount: how much, and how that is known.
    """

    what: str
    device: str
    amount: Amount


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
        """The device with the least room left."""
        return min(self.budgets, key=lambda budget: budget.headroom)

    @property
    def headroom(self) -> int:
        """Bytes left on the tightest device; negative when it does not fit."""
        return self.tightest.headroom

    def part(self, what: str) -> int:
        """Bytes of one kind of part over all devices."""
        return sum(part.amount.bytes for part in self.parts if part.what == what)
