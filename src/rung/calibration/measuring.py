"""Running the rungs on labelled rows: confidences, mistakes, and the unlabelled reference for the thresholds to try.

The rows are used for nothing else. What must be fixed before their labels are read (calibrators, the thresholds to
try) comes from the student's own fit split or from unlabelled traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rung.config import Accept
from rung.egress import EgressGate
from rung.engines.protocol import KnowsTraining
from rung.errors import ConfigError, EngineUnavailable, SuiteError
from rung.ids import new_id
from rung.ladder import Ladder
from rung.outcome import Outcome, Performed, perform
from rung.policy import AllowedSet, allowed_set, effective_label
from rung.project import OpenRung, Project, certified_fingerprint
from rung.receipt import OPERATIONAL
from rung.suite import Example, Suite, Unlabelled, matches
from rung.task import Privacy, Request, Task
from rung.text import text_digest
from rung.trust.confidence import confidence_of
from rung.trust.fitting import fit_calibrator
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


class Measured(msgspec.Struct, frozen=True):
    """What the rungs of one allowed set did on the labelled rows that policy gives that set.

    Attributes:
        allowed: the set, with its label.
        rungs: its rungs that ask to be certified, bottom first.
        fingerprint: of what ran.
        scores: (rows, rungs) confidences, NaN without evidence.
        wrong: (rows, rungs) whether the output differs from the truth.
        references: for each rung, unlabelled confidences that fix the thresholds to try.
    """

    allowed: AllowedSet
    rungs: tuple[str, ...]
    fingerprint: Mapping[str, str]
    scores: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    references: tuple[NDArray[np.float64], ...]


def allowed_for(project: Project, task: Task, label: Privacy) -> AllowedSet:
    """The rungs of the task's ladder that a text with `label` may use."""
    steps = project.settings.ladder(task.ladder)
    return allowed_set(project.settings.policy, label, [(r.name, r.where) for r in steps])


async def measure(ladder: Ladder, plan: Plan) -> list[Measured]:
    """Run every certifiable rung on the rows it may see: one measurement for each privacy label among them.

    Raises:
        SuiteError: a row stands in a model's training set.
        ConfigError: no rung of the ladder asks to be certified, or the truth's rung may not see the rows.
        EngineUnavailable: an engine failed on rows; leaving them out would flatter it.
    """
    groups: dict[Privacy, list[Example]] = {}
    for example in plan.suite.examples:
        label = effective_label(plan.task.privacy, example.privacy)
        groups.setdefault(label, []).append(example)
    measured = []
    for label in sorted(groups, key=lambda label: label.rank):
        run = _Run(ladder, plan, allowed_for(ladder.project, plan.task, label))
        if run.certified():
            measured.append(await _measure_label(run, groups[label]))
    if not measured:
        raise ConfigError(
            f"no rung of ladder {plan.task.ladder!r} that policy allows asks to be certified",
            hint='set accept = "certified" on a rung in rung.toml',
        )
    return measured


async def _measure_label(run: _Run, examples: Sequence[Example]) -> Measured:
    await _fit_calibrators(run)
    certified = run.certified()
    for rung in certified.values():
        _refuse_fitting_rows(run, rung, examples)
    truth = await _truth(run, examples)
    scores, wrong = await _score(run, certified, examples, truth)
    return Measured(
        allowed=run.allowed,
        rungs=tuple(certified),
        fingerprint=await certified_fingerprint(run.plan.task, run.allowed, run.rungs()),
        scores=scores,
        wrong=wrong,
        references=await _references(run, certified, scores),
    )


class _Run:
    """What is the same for every call of one measurement, all of rows with one privacy label."""

    def __init__(self, ladder: Ladder, plan: Plan, allowed: AllowedSet) -> None:
        self.plan = plan
        self.allowed = allowed
        self.project = ladder.project
        self._gate: EgressGate = ladder.gate
        self._id = new_id()
        self._seen: dict[str, Performed] = {}

    def rungs(self) -> dict[str, OpenRung]:
        """The allowed rungs, bottom first, with their calibrators as they are now."""
        return {name: self.project.rung(name, self.plan.task) for name in self.allowed.rungs}

    def certified(self) -> dict[str, OpenRung]:
        """Those of them that ask to be certified."""
        return {n: r for n, r in self.rungs().items() if r.settings.accept is Accept.CERTIFIED}

    async def perform(self, rung: OpenRung, requests: Sequence[Request]) -> Performed:
        """Outcomes and signals in order, a chunk at a time."""
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

    async def on_traffic(self, rung: OpenRung) -> Performed:
        """What a rung makes of the unlabelled rows; each rung is asked once."""
        name = rung.settings.name
        if name not in self._seen:
            requests = [
                Request(self.plan.task.name, row.input, id=str(row.row), label=row.privacy)
                for row in self.traffic()
            ]
            self._seen[name] = await self.perform(rung, requests)
        return self._seen[name]


async def _fit_calibrators(run: _Run) -> None:
    """Fit calibrators on agreement with the rung above, for rungs that no training gave one.

    Raises:
        SuiteError: a certifying row is among the unlabelled ones; it would be used twice.
    """
    traffic = run.traffic()
    for name, rung in run.certified().items():
        above = run.allowed.rungs[run.allowed.rungs.index(name) + 1 :]
        trained = rung.calibrator is not None and rung.calibrator.source == "out-of-fold"
        if not traffic or trained or not above:
            continue
        _refuse_rows(
            run.plan.suite.examples,
            frozenset(text_digest(row.text) for row in traffic),
            "among the unlabelled rows that fit a calibrator",
        )
        own = await run.on_traffic(rung)
        upper = await run.on_traffic(run.rungs()[above[0]])
        both = [
            row
            for row, (low, high) in enumerate(zip(own.outcomes, upper.outcomes, strict=True))
            if low.verdict is None and high.verdict is None
        ]
        if own.signals is None or not both:
            continue
        agreed = [own.outcomes[row].value == upper.outcomes[row].value for row in both]
        calibrator = fit_calibrator(own.signals.take(both), agreed, source=f"agreement:{above[0]}")
        texts = [row.text for row in traffic]
        run.project.keep_calibrator(run.plan.task, name, calibrator, texts)


async def _truth(run: _Run, examples: Sequence[Example]) -> list[Example]:
    """The rows with the answers to compare with: as written, or those of the rung that stands for the truth.

    Where that rung gave no answer nothing agrees with it, so such a row counts as wrong for every rung.
    """
    if run.plan.truth == HUMAN:
        return list(examples)
    name = run.plan.truth.removeprefix("agreement:")
    if name not in run.allowed.rungs:
        raise ConfigError(f"truth {run.plan.truth!r}: policy does not let {name!r} see these rows")
    rung = run.project.rung(name, run.plan.task)
    judged = await run.perform(rung, _requests(run.plan.task, examples))
    return [
        msgspec.structs.replace(example, expected=outcome.value, alternatives=())
        for example, outcome in zip(examples, judged.outcomes, strict=True)
    ]


async def _score(
    run: _Run,
    rungs: Mapping[str, OpenRung],
    examples: Sequence[Example],
    truth: Sequence[Example],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences and mistakes, (rows, rungs). A rung counts only where every lower one gave an answer to judge."""
    requests = _requests(run.plan.task, examples)
    scores = np.full((len(examples), len(rungs)), np.nan)
    wrong = np.ones(scores.shape, dtype=np.bool_)
    reachable = np.ones(len(examples), dtype=np.bool_)
    for column, rung in enumerate(rungs.values()):
        performed = await run.perform(rung, requests)
        for row, (outcome, true) in enumerate(zip(performed.outcomes, truth, strict=True)):
            if outcome.verdict is not None:
                reachable[row] = False
                continue
            wrong[row, column] = not matches(true, outcome.value)
            if outcome.confidence is not None and reachable[row]:
                scores[row, column] = outcome.confidence
    return scores, wrong


async def _references(
    run: _Run, rungs: Mapping[str, OpenRung], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """For each rung the unlabelled confidences that fix the thresholds to try."""
    references = []
    for column, rung in enumerate(rungs.values()):
        if run.traffic():
            signals = (await run.on_traffic(rung)).signals
            known = (
                confidence_of(rung.calibrator, signals)
                if signals is not None
                else scores[:0, column]
            )
            references.append(known)
        elif rung.calibrator is not None:
            references.append(np.array(rung.calibrator.quantiles, dtype=np.float64))
        else:
            references.append(scores[:, column])
    return tuple(references)


def _requests(task: Task, examples: Sequence[Example]) -> list[Request]:
    return [Request(task.name, e.input, id=str(e.id), label=e.privacy) for e in examples]


def _refuse_fitting_rows(run: _Run, rung: OpenRung, examples: Sequence[Example]) -> None:
    """Refuse rows that the rung's model or its calibrator was fitted on: they would certify its memory."""
    name = rung.settings.name
    if isinstance(rung.engine, KnowsTraining):
        known = rung.engine.trained_on([example.text for example in examples])
        learnt = [text_digest(e.text) for e, seen in zip(examples, known, strict=True) if seen]
        _refuse_rows(examples, frozenset(learnt), f"in the training set of rung {name!r}")
    fitted = run.project.fitting_rows(run.plan.task, name)
    _refuse_rows(examples, fitted, f"among the rows that fitted the calibrator of rung {name!r}")


def _refuse_rows(examples: Sequence[Example], used: frozenset[int], where: str) -> None:
    """Refuse certifying rows whose text was used for something else.

    Raises:
        SuiteError: naming the first rows.
    """
    rows = [example.row for example in examples if text_digest(example.text) in used]
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        raise SuiteError(
            f"{len(rows)} calibration rows are {where}: row {shown}",
            hint="calibrate on rows that were used for nothing else",
        )


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
