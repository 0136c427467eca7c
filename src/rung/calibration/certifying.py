"""From measurements to one certificate a target, written where the ladder will look for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date

import msgspec

from rung.calibration.measuring import Measured
from rung.calibration.run import Plan, allowed_for
from rung.config import Accept
from rung.errors import CertificateError
from rung.policy import Place
from rung.project import Project
from rung.task import Privacy, Task
from rung.trust.bounds import attempt_delta
from rung.trust.certificate import (
    Certificate,
    CertifiedSet,
    GridPoint,
    RungRule,
    Try,
    read_attempts,
    read_certificate,
    record_attempt,
    with_id,
    write_certificate,
)
from rung.trust.certification import (
    FREE_SLACK,
    LOCAL_FIRST_SLACK,
    Certification,
    certify,
)
from rung.trust.path import threshold_path


class Calibrated(msgspec.Struct, frozen=True):
    """One target's certificate, with the certifications behind its statements.

    Attributes:
        certificate: what was found; `written` is False when it certifies nothing and one that still holds was kept.
        certifications: behind each measured statement.
    """

    certificate: Certificate
    certifications: tuple[Certification, ...]
    written: bool


def certify_target(
    project: Project,
    plan: Plan,
    measured: Sequence[Measured],
    *,
    max_error: float,
    created: date,
) -> Calibrated:
    """Certify one target on what was measured, write the certificate, and count the attempt.

    The chance of a false certificate is 1 - the task's confidence, over all attempts at this claim there will ever
    be, and is shared equally by the statements of one certificate.

    Raises:
        CertificateError: the record of earlier attempts cannot be read.
        StorageError: the certificate cannot be written.
    """
    task, suite = plan.task, plan.suite
    folder, confidence = project.certificates, task.quality.confidence
    fingerprint = _test_digest(plan, measured)
    attempt = read_attempts(folder, task.name).number(
        max_error, confidence, suite.digest, fingerprint
    )
    delta = attempt_delta(1 - confidence, attempt) / max(len(measured), 1)
    certifications = [_certify(project, m, max_error, delta) for m in measured]
    statements = [_statement(m, c) for m, c in zip(measured, certifications, strict=True)]
    certificate = with_id(
        Certificate(
            task=task.name,
            created=created.isoformat(),
            max_error=max_error,
            confidence=confidence,
            attempt=attempt,
            truth=plan.truth,
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
    keeps = not any(s.certified for s in statements) and _still_holds(
        project, plan.task, certificate, measured
    )
    if not keeps:
        for name, fitted in measured[0].fitted.items():
            project.keep_calibrator(task, name, fitted.calibrator, fitted.texts)
        write_certificate(folder, certificate)
    return Calibrated(certificate, tuple(certifications), not keeps)


def _test_digest(plan: Plan, measured: Sequence[Measured]) -> str:
    """What makes one test of the labels another: what ran, what truth means, and the thresholds tried."""
    digest = hashlib.sha256(plan.truth.encode())
    for one in measured:
        digest.update(msgspec.json.encode(one.fingerprint))
        for reference in one.references:
            digest.update(reference.tobytes())
    return digest.hexdigest()


def _still_holds(
    project: Project, task: Task, found: Certificate, measured: Sequence[Measured]
) -> bool:
    """Whether the certificate that is there certifies what runs now: a failed attempt does not unsay it."""
    try:
        kept = read_certificate(project.certificates, found.task, found.max_error)
    except CertificateError:
        return False
    current = [_running(project, task, one) for one in measured]
    return (
        kept is not None
        and kept.confidence == found.confidence
        and any(s.certified and s.fingerprint in current for s in kept.sets)
    )


def _running(project: Project, task: Task, measured: Measured) -> Mapping[str, str]:
    """The fingerprint of what runs now: with the fitted calibrators once another target has put them on disk."""
    on_disk = {name: project.rung(name, task).calibrator for name in measured.fitted}
    written = all(on_disk[name] == fitted.calibrator for name, fitted in measured.fitted.items())
    return measured.fingerprint if written else measured.standing


def _certify(project: Project, measured: Measured, max_error: float, delta: float) -> Certification:
    path = threshold_path(
        measured.references, rows=len(measured.scores), max_error=max_error, delta=delta
    )
    upper = [project.settings.rungs[name] for name in measured.rungs[1:]]
    free = all(rung.where is Place.DEVICE and rung.price is None for rung in upper)
    return certify(
        measured.scores,
        measured.wrong,
        path,
        max_error=max_error,
        delta=delta,
        slack=FREE_SLACK if free else LOCAL_FIRST_SLACK,
    )


def _statement(measured: Measured, found: Certification) -> CertifiedSet:
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
    seen = {m.allowed.label for m in measured}
    missing = []
    for label in Privacy:
        if label.rank < task.privacy.rank or label in seen:
            continue
        allowed = allowed_for(project, task, label)
        settings = project.settings.rungs
        rungs = tuple(n for n in allowed.rungs if settings[n].accept is Accept.CERTIFIED)
        missing.append(
            CertifiedSet(
                rungs=rungs,
                labels=(label,),
                certified=False,
                reason=f"no calibration rows are labelled {label.value}",
            )
        )
    return missing
