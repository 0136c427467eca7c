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
from rung.ladder import Ladder
from rung.outcome import Outcome, Performed, perform
from rung.policy import AllowedSet, allowed_set, effective_label
from rung.project import OpenRung, Project, certified_fingerprint
from rung.receipt import Verdict
from rung.suite import Example, Suite, matches
from rung.task import Input, Privacy, Request, Task
from rung.trust.fitting import fit_calibrator
from rung.trust.signals import SignalColumns

CHUNK = 512
"""Rows run at a time, so that progress can be shown and memory stays bounded."""

OPERATIONAL = frozenset({Verdict.TIMEOUT, Verdict.OVERLOADED, Verdict.COLD, Verdict.FAILED})
"""Verdicts that say something about the day, not about the model."""

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
            one above on it fits a calibrator for a rung that has none. Without it the thresholds come from the
            calibrator's own fitting rows, and without a calibrator from the certifying rows, labels unread.
        progress: told about rows done.
    """

    task: Task
    suite: Suite
    truth: str
    unlabelled: tuple[Input | str, ...]
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
    await _fit_missing_calibrators(run)
    certified = run.certified()
    for rung in certified.values():
        _refuse_training_rows(rung, examples)
    truth = await _truth(run, examples)
    scores, wrong = await _score(run, certified, examples, truth)
    return Measured(
        allowed=run.allowed,
        rungs=tuple(certified),
        fingerprint=await certified_fingerprint(run.plan.task, run.allowed, certified),
        scores=scores,
        wrong=wrong,
        references=await _references(run, certified, scores),
    )


class _Run:
    """What is the same for every call of one measurement."""

    def __init__(self, ladder: Ladder, plan: Plan, allowed: AllowedSet) -> None:
        self.plan = plan
        self.allowed = allowed
        self.project = ladder.project
        self._gate: EgressGate = ladder.gate

    def certified(self) -> dict[str, OpenRung]:
        """The allowed rungs that ask to be certified, bottom first, with their calibrators as they are now."""
        rungs = {name: self.project.rung(name, self.plan.task) for name in self.allowed.rungs}
        return {n: r for n, r in rungs.items() if r.settings.accept is Accept.CERTIFIED}

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
                receipts=[f"calibrate:{request.id}" for request in part],
            )
            _refuse_broken(rung, found.outcomes)
            outcomes += found.outcomes
            signals += [found.signals] if found.signals is not None else []
            self.plan.progress(rung.settings.name, len(outcomes), len(requests))
        return Performed(outcomes, _joined(signals))

    def unlabelled(self) -> list[Request]:
        """Requests for the unlabelled traffic."""
        return [
            Request(self.plan.task.name, text, id=f"unlabelled-{number}")
            for number, text in enumerate(self.plan.unlabelled)
        ]


async def _fit_missing_calibrators(run: _Run) -> None:
    """Fit a calibrator on agreement with the rung above, for each rung that has none and a rung above it."""
    requests = run.unlabelled()
    if not requests:
        return
    project, task = run.project, run.plan.task
    for name, rung in run.certified().items():
        above = run.allowed.rungs[run.allowed.rungs.index(name) + 1 :]
        if rung.calibrator is not None or not above:
            continue
        own = await run.perform(rung, requests)
        upper = await run.perform(project.rung(above[0], task), requests)
        both = [
            row
            for row, (low, high) in enumerate(zip(own.outcomes, upper.outcomes, strict=True))
            if low.verdict is None and high.verdict is None
        ]
        if own.signals is None or not both:
            continue
        agreed = [own.outcomes[row].value == upper.outcomes[row].value for row in both]
        calibrator = fit_calibrator(own.signals.take(both), agreed, source=f"agreement:{above[0]}")
        project.keep_calibrator(task, name, calibrator)


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
    requests = run.unlabelled()
    references = []
    for column, rung in enumerate(rungs.values()):
        if requests:
            performed = await run.perform(rung, requests)
            known = [np.nan if o.confidence is None else o.confidence for o in performed.outcomes]
            references.append(np.array(known, dtype=np.float64))
        elif rung.calibrator is not None:
            references.append(np.array(rung.calibrator.quantiles, dtype=np.float64))
        else:
            references.append(scores[:, column])
    return tuple(references)


def _requests(task: Task, examples: Sequence[Example]) -> list[Request]:
    return [Request(task.name, e.input, id=str(e.id), label=e.privacy) for e in examples]


def _refuse_training_rows(rung: OpenRung, examples: Sequence[Example]) -> None:
    """Refuse rows that the rung's model was trained on: they would certify its memory.

    Raises:
        SuiteError: naming the first rows.
    """
    if not isinstance(rung.engine, KnowsTraining):
        return
    known = rung.engine.trained_on([example.text for example in examples])
    rows = [example.row for example, trained in zip(examples, known, strict=True) if trained]
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        raise SuiteError(
            f"{len(rows)} calibration rows are in the training set of rung {rung.settings.name!r}: "
            f"row {shown}",
            hint="calibrate on rows the model has not seen, or train it without them",
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
