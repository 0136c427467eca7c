"""The certificate file: what was certified, on what, and the fingerprint it is valid for.

Certificates live in the user's repository (`certificates/TASK/5pct.json`), so they can be read, reviewed and
diffed. Beside them `attempts.json` counts every try at the same claim, failed ones included, because each try
spends confidence. Nothing here computes a bound; `certification` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rung.errors import CertificateError
from rung.files import write_atomically
from rung.task import Privacy


class RungRule(msgspec.Struct, frozen=True):
    """What one rung needs to accept, and how it did on the certifying rows.

    Attributes:
        rung: its name.
        threshold: confidence that must be exceeded (strictly); None when the rung may accept nothing.
        accepted, errors: certifying rows it accepted, and how many of those were wrong.
        upper: one-sided exact upper bound of its own error at the certificate's confidence, for this rung
            alone and not corrected for the others; None where it accepted nothing.
    """

    rung: str
    threshold: float | None
    accepted: int
    errors: int
    upper: float | None


class GridPoint(msgspec.Struct, frozen=True):
    """One candidate on the path from strict to loose: what was accepted there, and how much was wrong."""

    accepted: int
    errors: int


class CertifiedSet(msgspec.Struct, frozen=True, kw_only=True):
    """The statement for one set of rungs that policy can leave a row with.

    Attributes:
        rungs: the certifying rungs of the set, bottom first.
        labels: privacy labels whose rows were used, and for which alone the statement holds.
        certified: whether a threshold passed; `reason` says why not.
        rules: the acceptance rule of each rung.
        rows: certifying rows; `accepted` and `errors` are pooled over all rungs.
        upper: exact one-sided upper bound of the pooled error at the chosen thresholds.
        coverage, coverage_low, coverage_high: share accepted with its exact 95 % interval.
        delta: probability of error this statement spent.
        smallest: the smallest error bound these rows could have certified, None when none below 1.
        fingerprint: named digests of everything the statement depends on.
        grid: the tested candidates, strict to loose.
    """

    rungs: tuple[str, ...]
    labels: tuple[Privacy, ...]
    certified: bool
    reason: str = ""
    rules: tuple[RungRule, ...] = ()
    rows: int = 0
    accepted: int = 0
    errors: int = 0
    upper: float | None = None
    coverage: float = 0.0
    coverage_low: float = 0.0
    coverage_high: float = 0.0
    delta: float = 0.0
    smallest: float | None = None
    fingerprint: Mapping[str, str] = {}
    grid: tuple[GridPoint, ...] = ()


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one calibration of one task at one target.

    Attributes:
        id: `TASK@` and eight characters of the content's digest.
        created: date, ISO 8601.
        max_error, confidence: the claim: at most `max_error` of accepted answers are wrong, with probability
            `confidence`, for traffic like the certifying rows.
        attempt: which try at this claim it is, from 1; its share of the error probability is
            6(1 - confidence)/(π² attempt²).
        truth: what "wrong" means: `human`, or `agreement:<rung>`.
        sampling: `stated` when every row says it was drawn from traffic, `assumed` when none says anything.
        suite: digest of the certifying rows; `rows` counts them.
        sets: one statement per set of rungs.
    """

    format: int = 1
    id: str = ""
    task: str
    created: str
    max_error: float
    confidence: float
    attempt: int
    truth: str
    sampling: str
    suite: str
    rows: int
    sets: tuple[CertifiedSet, ...]

    def for_rungs(self, rungs: tuple[str, ...], label: Privacy) -> CertifiedSet | None:
        """The statement for exactly these rungs and a row with this label, or None."""
        return next((s for s in self.sets if s.rungs == rungs and label in s.labels), None)


def with_id(certificate: Certificate) -> Certificate:
    """The certificate with the id that its content gives it."""
    bare = msgspec.structs.replace(certificate, id="")
    digest = hashlib.sha256(msgspec.json.encode(bare)).hexdigest()
    return msgspec.structs.replace(bare, id=f"{certificate.task}@{digest[:8]}")


def percent_name(max_error: float) -> str:
    """A target as it stands in file names: 0.05 is `5pct`, 0.005 is `0.5pct`."""
    return f"{round(max_error * 100, 6):g}pct"


def certificate_path(folder: Path, task: str, max_error: float) -> Path:
    """Where the certificate of `task` at `max_error` lives."""
    return folder / task / f"{percent_name(max_error)}.json"


def write_certificate(folder: Path, certificate: Certificate) -> Path:
    """Write the certificate where `read_certificate` looks; atomic and durable."""
    path = certificate_path(folder, certificate.task, certificate.max_error)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(certificate), indent=1) + b"\n")
    return path


def read_certificate(folder: Path, task: str, max_error: float) -> Certificate | None:
    """The certificate of `task` at `max_error`, None when there is none.

    Raises:
        CertificateError: the file is not a certificate, or was edited after it was written.
    """
    path = certificate_path(folder, task, max_error)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    again = f"rung calibrate {task} --on SUITE writes it anew"
    try:
        certificate = msgspec.json.decode(raw, type=Certificate)
    except msgspec.DecodeError as error:
        raise CertificateError(f"{path}: not a certificate: {error}", hint=again) from error
    if certificate.format != 1:
        raise CertificateError(
            f"{path}: format {certificate.format!r} is not known (1 is)", hint=again
        )
    if with_id(certificate).id != certificate.id:
        raise CertificateError(f"{path}: edited after it was written", hint=again)
    return certificate


def changed(certified: Mapping[str, str], current: Mapping[str, str]) -> tuple[str, ...]:
    """Names whose value differs between two fingerprints, in order; empty when the certificate still holds."""
    names = dict.fromkeys((*certified, *current))
    return tuple(name for name in names if certified.get(name) != current.get(name))


class Try(msgspec.Struct, frozen=True):
    """One try at a claim: enough to recognise the same try again."""

    max_error: float
    confidence: float
    attempt: int
    suite: str
    fingerprint: str
    created: str
    certified: bool


class Attempts(msgspec.Struct, frozen=True):
    """Every try at certifying a task, failed ones included."""

    format: int = 1
    tries: tuple[Try, ...] = ()

    def number(self, max_error: float, confidence: float, suite: str, fingerprint: str) -> int:
        """Which attempt this would be: the same number for a repeat of the same try, else the next."""
        claim = [t for t in self.tries if (t.max_error, t.confidence) == (max_error, confidence)]
        for entry in claim:
            if (entry.suite, entry.fingerprint) == (suite, fingerprint):
                return entry.attempt
        return 1 + max((entry.attempt for entry in claim), default=0)


def read_attempts(folder: Path, task: str) -> Attempts:
    """The tries so far.

    Raises:
        CertificateError: the file cannot be read as attempts; calibrating without it would overstate confidence.
    """
    path = folder / task / "attempts.json"
    try:
        attempts = msgspec.json.decode(path.read_bytes(), type=Attempts)
    except FileNotFoundError:
        return Attempts()
    except msgspec.DecodeError as error:
        raise CertificateError(
            f"{path}: not a list of attempts: {error}", hint="restore it from version control"
        ) from error
    return attempts


def record_attempt(folder: Path, task: str, entry: Try) -> None:
    """Add a try, unless the same one is there already."""
    attempts = read_attempts(folder, task)
    key = (entry.max_error, entry.confidence, entry.suite, entry.fingerprint)
    if any((t.max_error, t.confidence, t.suite, t.fingerprint) == key for t in attempts.tries):
        return
    grown = msgspec.structs.replace(attempts, tries=(*attempts.tries, entry))
    path = folder / task / "attempts.json"
    write_atomically(path, msgspec.json.format(msgspec.json.encode(grown), indent=1) + b"\n")
