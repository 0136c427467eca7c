"""One measurement under way: what it was asked to do, its rungs, and what they make of rows.

What is done with that is `calibrators`' and `measuring`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from rung.config import Accept
from rung.egress import EgressGate
from rung.errors import EngineUnavailable
from rung.evidence import Below, Outcome, Performed, below_of, weigh
from rung.ids import new_id
from rung.ladder import Ladder
from rung.outcome import perform
from rung.policy import AllowedSet, allowed_set, effective_label
from rung.project import OpenRung, Project
from rung.receipt import OPERATIONAL
from rung.suite import Example, Suite, Unlabelled
from rung.task import Privacy, Request, Task
from rung.trust.calibrator import Calibrator
from rung.trust.signals import SignalColumns

CHUNK = 512
"""Rows run at a time, so that progress can be shown and memory stays bounded."""

HUMAN = "human"
"""Truth is the answer written in the suite; the alternative is `agreement:RUNG`."""

Progress = Callable[[str, int, int], None]
"""Called with the rung's name, rows done and rows in all."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        task: what is asked.
        suite: certifying rows, already checked by `suite.certifying_rows`.
        truth: `human`, or `agreement:RUNG` to compare with that rung's answers instead.
        fit: labelled rows for nothing but calibrators: of rungs that no training gave one.
        unlabelled: recent traffic. Its confidences fix the thresholds to try, and the agreement of a rung with the
            one above on it fits a calibrator for a rung that no training gave one. Without it the thresholds come
            from the calibrator's own fitting rows, and without a calibrator from the certifying rows, labels unread.
        progress: told about rows done.
    """

    task: Task
    suite: Suite
    truth: str
    unlabelled: tuple[Unlabelled, ...]
    progress: Progress
    fit: Suite | None = None


def allowed_for(project: Project, task: Task, label: Privacy) -> AllowedSet:
    """The rungs of the task's ladder that a text with `label` may use."""
    steps = project.settings.ladder(task.ladder)
    return allowed_set(project.settings.policy, label, [(r.name, r.where) for r in steps])


class Fitted(msgspec.Struct, frozen=True):
    """A calibrator that this measurement fitted, and the texts it was fitted on; on disk once a certificate is."""

    calibrator: Calibrator
    texts: tuple[str, ...]


class Run:
    """What is the same for every call of one measurement, all of rows with one privacy label.

    Args:
        ladder: opens rungs and lets texts pass.
        plan: what to measure.
        allowed: what policy decided for the rows.
        fitted: calibrators that this measurement fitted, by rung, shared by the runs of all labels: a rung has one
            calibrator, and a second fit would void what the first one certifies.
    """

    def __init__(
        self, ladder: Ladder, plan: Plan, allowed: AllowedSet, *, fitted: dict[str, Fitted]
    ) -> None:
        self.plan = plan
        self.allowed = allowed
        self.fitted = fitted
        self.project = ladder.project
        self._gate: EgressGate = ladder.gate
        self._id = new_id()
        self._seen: dict[str, Performed] = {}

    def rungs(self) -> dict[str, OpenRung]:
        """The allowed rungs, bottom first, with the calibrators that this measurement fitted."""
        return {name: self.rung(name) for name in self.allowed.rungs}

    def rung(self, name: str) -> OpenRung:
        """One rung, with the calibrator that this measurement fitted for it, if it did."""
        found = self.project.rung(name, self.plan.task)
        fitted = self.fitted.get(name)
        if fitted is None:
            return found
        return OpenRung(found.settings, found.engine, fitted.calibrator)

    def certified(self) -> dict[str, OpenRung]:
        """Those of them that ask to be certified."""
        return {n: r for n, r in self.rungs().items() if r.settings.accept is Accept.CERTIFIED}

    def hears(self, name: str) -> bool:
        """Whether a certified rung stands below this one for every label that can occur.

        Only then may its calibrator lean on what that one says: for a label without it, no row would have evidence.
        """
        task, settings = self.plan.task, self.project.settings
        for label in Privacy:
            if label.rank < task.privacy.rank:
                continue
            allowed = allowed_for(self.project, task, label).rungs
            certified = [n for n in allowed if settings.rungs[n].accept is Accept.CERTIFIED]
            if name in certified and certified[0] == name:
                return False
        return True

    def of_label(self, examples: Sequence[Example]) -> list[Example]:
        """The rows for which policy decides as it did for this measurement."""
        lowest = self.plan.task.privacy
        return [e for e in examples if effective_label(lowest, e.privacy) is self.allowed.label]

    def unfitted(self, name: str) -> bool:
        """Whether a calibrator may be fitted here: no training gave the rung one, and no earlier label."""
        calibrator = self.rung(name).calibrator
        trained = calibrator is not None and calibrator.source == "out-of-fold"
        return not trained and name not in self.fitted

    def keep(self, name: str, calibrator: Calibrator, texts: Sequence[str]) -> None:
        """Use the calibrator that was fitted on these texts for rung `name` from now on."""
        self.fitted[name] = Fitted(calibrator, tuple(texts))

    def requests(self, examples: Sequence[Example]) -> list[Request]:
        """What is asked for labelled rows."""
        task = self.plan.task.name
        return [Request(task, e.input, id=str(e.id), label=e.privacy) for e in examples]

    async def ask(self, rung: OpenRung, requests: Sequence[Request]) -> Performed:
        """Outcomes and signals in order, a chunk at a time, without what other rungs say of them.

        Raises:
            EngineUnavailable: the rung failed on a row.
        """
        outcomes: list[Outcome] = []
        signals: list[SignalColumns] = []
        for first in range(0, len(requests), CHUNK):
            part = requests[first : first + CHUNK]
            found = await perform(
                rung,
                self.plan.task,
                self.allowed,
                part,
                gate=self._gate,
                receipts=[self._id] * len(part),
            )
            _refuse_broken(rung, found.outcomes)
            outcomes += found.outcomes
            signals += [found.signals] if found.signals is not None else []
            self.plan.progress(rung.settings.name, len(outcomes), len(requests))
        return Performed(outcomes, _joined(signals))

    def traffic(self) -> list[Unlabelled]:
        """The unlabelled rows with this label: policy decided for them as it did for the labelled ones."""
        lowest = self.plan.task.privacy
        return [
            row
            for row in self.plan.unlabelled
            if effective_label(lowest, row.privacy) is self.allowed.label
        ]

    async def on_traffic(self, name: str) -> Performed:
        """What rung `name` makes of the unlabelled rows, weighed as it would be now; the engine is asked once."""
        rung = self.rung(name)
        if name not in self._seen:
            requests = [
                Request(self.plan.task.name, row.input, id=str(row.row), label=row.privacy)
                for row in self.traffic()
            ]
            self._seen[name] = await self.ask(rung, requests)
        certified = list(self.certified())
        below: list[Below | None] = []
        if name in certified[1:]:
            lower = await self.on_traffic(certified[certified.index(name) - 1])
            below = [below_of(outcome) for outcome in lower.outcomes]
        return weigh(self._seen[name], rung.calibrator, below)


def _refuse_broken(rung: OpenRung, outcomes: Sequence[Outcome]) -> None:
    """A rung that failed on a row has not been measured on it; certifying around that would flatter it."""
    broken = [outcome for outcome in outcomes if outcome.verdict in OPERATIONAL]
    if broken:
        raise EngineUnavailable(
            f"rung {rung.settings.name!r} failed on {len(broken)} of {len(outcomes)} rows: "
            f"{broken[0].reason}",
            hint="rung doctor; then run the calibration again",
        )


def _joined(parts: Sequence[SignalColumns]) -> SignalColumns | None:
    """The signals of consecutive chunks as one."""
    if not parts:
        return None
    return SignalColumns(
        parts[0].names,
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        parts[0].classes,
    )
