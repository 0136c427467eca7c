"""From labelled rows to certificates: run the rungs on them, compare with the labels, certify each target.

The rows are used for nothing else. What must be fixed before their labels are read (calibrators, the thresholds to
try) comes from the student's own fit split or from unlabelled traffic. The statistics are `trust`'s; showing and
asking is the command line's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from rung.config import Accept
from rung.egress import EgressGate
from rung.engines.protocol import KnowsTraining
from rung.errors import EngineUnavailable, SuiteError
from rung.ladder import Ladder
from rung.outcome import Outcome, perform
from rung.policy import AllowedSet, allowed_set, effective_label
from rung.project import OpenRung, Project, certified_fingerprint
from rung.receipt import Verdict
from rung.suite import Example, Suite, matches
from rung.task import Privacy, Request, Task
from rung.trust.bounds import attempt_delta
from rung.trust.certificate import (
    Certificate,
    CertifiedSet,
    GridPoint,
    RungRule,
    Try,
    read_attempts,
    record_attempt,
    with_id,
    write_certificate,
)
from rung.trust.certification import Certification, certify
from rung.trust.path import threshold_path

CHUNK = 512
"""Rows run at a time, so that progress can be shown and memory stays bounded."""

OPERATIONAL = frozenset({Verdict.TIMEOUT, Verdict.OVERLOADED, Verdict.COLD, Verdict.FAILED})
"""Verdicts that say something about the day, not about the model."""

Progress = Callable[[str, int, int], None]
"""Called with the rung's name, rows done and rows in all."""


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


class Calibrated(msgspec.Struct, frozen=True):
    """One target's certificate, with the certifications behind its statements."""

    certificate: Certificate
    certifications: tuple[Certification, ...]


async def measure(
    ladder: Ladder, task: Task, suite: Suite, progress: Progress, unlabelled: Sequence[str] = ()
) -> list[Measured]:
    """Run every certifiable rung on the rows it may see, one measurement for each privacy label.

    Args:
        ladder: supplies rungs, policy and the egress gate.
        task: what is asked.
        suite: certifying rows, already checked by `suite.certifying_rows`.
        progress: told about rows done.
        unlabelled: recent traffic; its confidences fix the thresholds to try. Without it those of the calibrator's
            own fitting rows do, and without a calibrator those of the certifying rows, whose labels stay unread.

    Raises:
        SuiteError: a row stands in a model's training set.
    """
    project = ladder.project
    steps = project.settings.ladder(task.ladder)
    groups: dict[Privacy, list[Example]] = {}
    for example in suite.examples:
        groups.setdefault(effective_label(task.privacy, example.privacy), []).append(example)
    measured = []
    for label, examples in sorted(groups.items(), key=lambda item: item[0].rank):
        allowed = allowed_set(project.settings.policy, label, [(r.name, r.where) for r in steps])
        rungs = {name: project.rung(name, task) for name in allowed.rungs}
        run = _Run(ladder.gate, task, allowed, progress)
        certified = {
            name: rung for name, rung in rungs.items() if rung.settings.accept is Accept.CERTIFIED
        }
        if not certified:
            continue
        for rung in certified.values():
            refuse_training_rows(rung, examples)
        scores, wrong = await _score(run, certified, examples)
        measured.append(
            Measured(
                allowed=allowed,
                rungs=tuple(certified),
                fingerprint=certified_fingerprint(task, allowed, rungs),
                scores=scores,
                wrong=wrong,
                references=await _references(run, certified, scores, unlabelled),
            )
        )
    return measured


def certify_target(
    project: Project,
    task: Task,
    suite: Suite,
    measured: Sequence[Measured],
    *,
    max_error: float,
    created: datetime,
) -> Calibrated:
    """Certify one target on what was measured, write the certificate, and count the attempt.

    The chance of a false certificate is 1 - the task's confidence, over all attempts at this claim there will ever
    be, and is shared equally by the statements of one certificate.

    Raises:
        CertificateError: the record of earlier attempts cannot be read.
        StorageError: the certificate cannot be written.
    """
    folder, confidence = project.certificates, task.quality.confidence
    ran = msgspec.json.encode([m.fingerprint for m in measured])
    fingerprint = hashlib.sha256(ran).hexdigest()
    attempt = read_attempts(folder, task.name).number(
        max_error, confidence, suite.digest, fingerprint
    )
    delta = attempt_delta(1 - confidence, attempt) / max(len(measured), 1)
    certifications = [_certify(m, max_error, delta) for m in measured]
    statements = [
        _statement(m, c, confidence) for m, c in zip(measured, certifications, strict=True)
    ]
    certificate = with_id(
        Certificate(
            task=task.name,
            created=created.date().isoformat(),
            max_error=max_error,
            confidence=confidence,
            attempt=attempt,
            truth="human",
            sampling=suite.sampling,
            suite=suite.digest,
            rows=len(suite.examples),
            sets=(*statements, *_unmeasured(project, task, measured)),
        )
    )
    record_attempt(
        folder,
        task.name,
        Try(
            max_error=max_error,
            confidence=confidence,
            attempt=attempt,
            suite=suite.digest,
            fingerprint=fingerprint,
            created=certificate.created,
            certified=any(statement.certified for statement in statements),
        ),
    )
    write_certificate(folder, certificate)
    return Calibrated(certificate, tuple(certifications))


def refuse_training_rows(rung: OpenRung, examples: Sequence[Example]) -> None:
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
            f"{len(rows)} calibration rows are in the training set of rung {rung.settings.name!r}: row {shown}",
            hint="calibrate on rows the model has not seen, or train it without them",
        )


class _Run(msgspec.Struct, frozen=True):
    """What is the same for every call of one measurement."""

    gate: EgressGate
    task: Task
    allowed: AllowedSet
    progress: Progress

    async def outcomes(self, rung: OpenRung, requests: Sequence[Request]) -> list[Outcome]:
        """Outcomes in order, a chunk at a time; an engine that is not there ends the run."""
        done: list[Outcome] = []
        for first in range(0, len(requests), CHUNK):
            part = requests[first : first + CHUNK]
            found = await perform(
                rung,
                self.task,
                self.allowed,
                part,
                gate=self.gate,
                receipts=[f"calibrate:{request.id}" for request in part],
            )
            done += found
            self.progress(rung.settings.name, len(done), len(requests))
        _refuse_broken(rung, done)
        return done


async def _score(
    run: _Run, rungs: Mapping[str, OpenRung], examples: Sequence[Example]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences and mistakes, (rows, rungs). A rung counts only where every lower one gave an answer to judge."""
    requests = [
        Request(run.task.name, example.input, id=example.id, label=example.privacy)
        for example in examples
    ]
    scores = np.full((len(examples), len(rungs)), np.nan)
    wrong = np.ones(scores.shape, dtype=np.bool_)
    reachable = np.ones(len(examples), dtype=np.bool_)
    for column, rung in enumerate(rungs.values()):
        outcomes = await run.outcomes(rung, requests)
        for row, (outcome, example) in enumerate(zip(outcomes, examples, strict=True)):
            if outcome.verdict is None:
                wrong[row, column] = not matches(example, outcome.value)
                if outcome.confidence is not None and reachable[row]:
                    scores[row, column] = outcome.confidence
            else:
                reachable[row] = False
    return scores, wrong


async def _references(
    run: _Run,
    rungs: Mapping[str, OpenRung],
    scores: NDArray[np.float64],
    unlabelled: Sequence[str],
) -> tuple[NDArray[np.float64], ...]:
    """For each rung the unlabelled confidences that fix the thresholds to try."""
    requests = [
        Request(run.task.name, text, id=f"unlabelled-{n}") for n, text in enumerate(unlabelled)
    ]
    references = []
    for column, rung in enumerate(rungs.values()):
        if requests:
            outcomes = await run.outcomes(rung, requests)
            known = [np.nan if o.confidence is None else o.confidence for o in outcomes]
            references.append(np.array(known, dtype=np.float64))
        elif rung.calibrator is not None:
            references.append(np.array(rung.calibrator.quantiles, dtype=np.float64))
        else:
            references.append(scores[:, column])
    return tuple(references)


def _refuse_broken(rung: OpenRung, outcomes: Sequence[Outcome]) -> None:
    """A rung that failed on a row has not been measured on it; certifying around that would flatter it."""
    broken = [o for o in outcomes if o.verdict in OPERATIONAL]
    if broken:
        raise EngineUnavailable(
            f"rung {rung.settings.name!r} failed on {len(broken)} of {len(outcomes)} calibration rows: "
            f"{broken[0].reason}",
            hint="rung doctor; then run the calibration again",
        )


def _certify(measured: Measured, max_error: float, delta: float) -> Certification:
    path = threshold_path(
        measured.references, rows=len(measured.scores), max_error=max_error, delta=delta
    )
    return certify(measured.scores, measured.wrong, path, max_error=max_error, delta=delta)


def _statement(measured: Measured, found: Certification, confidence: float) -> CertifiedSet:
    """The certificate's words for one certification."""
    thresholds = found.thresholds or (None,) * len(measured.rungs)
    own = found.rungs or (None,) * len(measured.rungs)
    rules = tuple(
        RungRule(
            rung=rung,
            threshold=threshold,
            accepted=risk.accepted if risk else 0,
            errors=risk.errors if risk else 0,
            upper=risk.upper if risk and risk.accepted else None,
        )
        for rung, threshold, risk in zip(measured.rungs, thresholds, own, strict=True)
    )
    return CertifiedSet(
        rungs=measured.rungs,
        labels=(measured.allowed.label,),
        certified=found.thresholds is not None,
        reason=""
        if found.thresholds is not None
        else f"no threshold passes at {found.max_error:g}",
        rules=rules,
        rows=found.rows,
        accepted=found.accepted,
        errors=found.errors,
        upper=found.upper if found.thresholds is not None else None,
        coverage=found.coverage,
        coverage_low=found.coverage_low,
        coverage_high=found.coverage_high,
        delta=found.delta,
        smallest=found.smallest,
        fingerprint=measured.fingerprint,
        grid=tuple(GridPoint(point.accepted, point.errors) for point in found.curve),
    )


def _unmeasured(project: Project, task: Task, measured: Sequence[Measured]) -> list[CertifiedSet]:
    """A statement of its own, "not certified", for each label that can occur and had no rows."""
    steps = project.settings.ladder(task.ladder)
    seen = {m.allowed.label for m in measured}
    missing = []
    for label in Privacy:
        if label.rank < task.privacy.rank or label in seen:
            continue
        allowed = allowed_set(project.settings.policy, label, [(r.name, r.where) for r in steps])
        rungs = tuple(
            r.name for r in steps if r.name in allowed.rungs and r.accept is Accept.CERTIFIED
        )
        missing.append(
            CertifiedSet(
                rungs=rungs,
                labels=(label,),
                certified=False,
                reason=f"no calibration rows are labelled {label.value}",
            )
        )
    return missing
