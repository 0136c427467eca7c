"""Running the rungs on labelled rows: confidences, mistakes, and the unlabelled reference for the thresholds to try.

The rows are used for nothing else. What must be fixed before their labels are read (calibrators, the thresholds to
try) comes from the student's own fit split or from unlabelled traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rung.calibration.calibrators import fit_on_agreement, fit_on_labels
from rung.calibration.purity import refuse_fitting_rows
from rung.calibration.run import HUMAN, Fitted, Plan, Run, allowed_for
from rung.errors import ConfigError
from rung.evidence import Below, below_of, weigh
from rung.ladder import Ladder
from rung.policy import AllowedSet, effective_label
from rung.project import OpenRung, certified_fingerprint
from rung.suite import Example, matches
from rung.task import Privacy
from rung.trust.confidence import confidence_of


class Measured(msgspec.Struct, frozen=True):
    """What the rungs of one allowed set did on the labelled rows that policy gives that set.

    Attributes:
        allowed: the set, with its label.
        rungs: its rungs that ask to be certified, bottom first.
        fingerprint: of what ran.
        standing: of what runs as long as the calibrators fitted here are not on disk.
        fitted: those calibrators, by rung.
        scores: (rows, rungs) confidences, NaN without evidence.
        wrong: (rows, rungs) whether the output differs from the truth.
        references: for each rung, unlabelled confidences that fix the thresholds to try.
    """

    allowed: AllowedSet
    rungs: tuple[str, ...]
    fingerprint: Mapping[str, str]
    standing: Mapping[str, str]
    fitted: Mapping[str, Fitted]
    scores: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    references: tuple[NDArray[np.float64], ...]


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
    fitted: dict[str, Fitted] = {}
    for label in sorted(groups, key=lambda label: label.rank):
        run = Run(ladder, plan, allowed_for(ladder.project, plan.task, label), fitted=fitted)
        if run.certified():
            measured.append(await _measure_label(run, groups[label]))
    if not measured:
        raise ConfigError(
            f"no rung of ladder {plan.task.ladder!r} that policy allows asks to be certified",
            hint='set accept = "certified" on a rung in rung.toml',
        )
    return measured


async def _measure_label(run: Run, examples: Sequence[Example]) -> Measured:
    on_disk = {name: run.project.rung(name, run.plan.task) for name in run.allowed.rungs}
    await fit_on_labels(run)
    await fit_on_agreement(run)
    certified = run.certified()
    for rung in certified.values():
        refuse_fitting_rows(run, rung, examples)
    truth = await _truth(run, examples)
    scores, wrong = await _score(run, certified, examples, truth)
    return Measured(
        allowed=run.allowed,
        rungs=tuple(certified),
        fingerprint=await certified_fingerprint(run.plan.task, run.allowed, run.rungs()),
        standing=await certified_fingerprint(run.plan.task, run.allowed, on_disk),
        fitted=run.fitted,
        scores=scores,
        wrong=wrong,
        references=await _references(run, certified, scores),
    )


async def _truth(run: Run, examples: Sequence[Example]) -> list[Example]:
    """The rows with the answers to compare with: as written, or those of the rung that stands for the truth.

    Where that rung gave no answer nothing agrees with it, so such a row counts as wrong for every rung.
    """
    if run.plan.truth == HUMAN:
        return list(examples)
    name = run.plan.truth.removeprefix("agreement:")
    if name not in run.allowed.rungs:
        raise ConfigError(f"truth {run.plan.truth!r}: policy does not let {name!r} see these rows")
    rung = run.rung(name)
    judged = await run.ask(rung, run.requests(examples))
    return [
        msgspec.structs.replace(example, expected=outcome.value, alternatives=())
        for example, outcome in zip(examples, judged.outcomes, strict=True)
    ]


async def _score(
    run: Run,
    rungs: Mapping[str, OpenRung],
    examples: Sequence[Example],
    truth: Sequence[Example],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences and mistakes, (rows, rungs). A rung counts only where every lower one gave an answer to judge."""
    requests = run.requests(examples)
    below: list[Below | None] = []
    scores = np.full((len(examples), len(rungs)), np.nan)
    wrong = np.ones(scores.shape, dtype=np.bool_)
    reachable = np.ones(len(examples), dtype=np.bool_)
    for column, rung in enumerate(rungs.values()):
        performed = weigh(await run.ask(rung, requests), rung.calibrator, below)
        below = [below_of(outcome) for outcome in performed.outcomes]
        for row, (outcome, true) in enumerate(zip(performed.outcomes, truth, strict=True)):
            if outcome.verdict is not None:
                reachable[row] = False
                continue
            wrong[row, column] = not matches(true, outcome.value)
            if outcome.confidence is not None and reachable[row]:
                scores[row, column] = outcome.confidence
    return scores, wrong


async def _references(
    run: Run, rungs: Mapping[str, OpenRung], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """For each rung the unlabelled confidences that fix the thresholds to try."""
    references = []
    for column, rung in enumerate(rungs.values()):
        if run.traffic():
            signals = (await run.on_traffic(rung.settings.name)).signals
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
