"""Whether one outcome becomes the answer: pure rules made from a certificate, and the judgement of an attempt.

No clock, no files, no engine: everything comes in as a value, so a decision can be explained and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rung.config import Accept
from rung.receipt import Bound, Standing, Verdict
from rung.task import Privacy
from rung.trust.certificate import Certificate, CertifiedSet, changed


class Rule(msgspec.Struct, frozen=True):
    """When one rung's output becomes the answer for one kind of row.

    Attributes:
        accept: what the settings ask for.
        threshold: confidence that must be exceeded; None when nothing may be accepted as certified.
        reason: why not certified, for people.
        bound: what an accepted answer is promised.
    """

    accept: Accept
    threshold: float | None = None
    reason: str = ""
    bound: Bound | None = None


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """The end of one attempt."""

    verdict: Verdict
    reason: str = ""
    standing: Standing = Standing.ABSTAINED
    bound: Bound | None = None


def make_rules(
    accepts: Mapping[str, Accept],
    label: Privacy,
    certificate: Certificate | None,
    fingerprint: Mapping[str, str],
) -> dict[str, Rule]:
    """The acceptance rule of each rung that policy left.

    Args:
        accepts: what the settings ask of each allowed rung, bottom first.
        label: the row's privacy label.
        certificate: the task's certificate at its target, None when there is none.
        fingerprint: of what would run now, for the certified rungs among `accepts`.
    """
    certified = tuple(rung for rung, accept in accepts.items() if accept is Accept.CERTIFIED)
    found, reason = _statement(certificate, certified, label, fingerprint)
    rules = {
        rung: Rule(accept, reason="not asked to be certified") for rung, accept in accepts.items()
    }
    for rung in certified:
        rules[rung] = Rule(Accept.CERTIFIED, reason=reason)
    if certificate is None or found is None:
        return rules
    for own in found.rules:
        rules[own.rung] = Rule(
            Accept.CERTIFIED,
            threshold=own.threshold,
            reason="" if own.threshold is not None else "its certificate lets it accept nothing",
            bound=Bound(
                certificate=certificate.id,
                max_error=certificate.max_error,
                confidence=certificate.confidence,
                truth=certificate.truth,
                labels=found.rows,
                own_error=own.errors / own.accepted if own.accepted else None,
                own_upper=own.upper,
            ),
        )
    return rules


def _statement(
    certificate: Certificate | None,
    rungs: tuple[str, ...],
    label: Privacy,
    fingerprint: Mapping[str, str],
) -> tuple[CertifiedSet | None, str]:
    """The statement that holds for these rungs and this label, or why none does."""
    if certificate is None:
        return None, "no certificate at this target"
    found = certificate.for_rungs(rungs, label)
    if found is None:
        return (
            None,
            f"certificate {certificate.id} has no rows labelled {label.value} on these rungs",
        )
    if not found.certified:
        return None, f"not certified by {certificate.id}: {found.reason}"
    differing = changed(found.fingerprint, fingerprint)
    if differing:
        return None, f"certificate {certificate.id} is void: {', '.join(differing)} changed"
    return found, ""


def judge(rule: Rule, confidence: float | None, path: Sequence[Verdict]) -> Judgement:
    """What becomes of an output that keeps its contract.

    Args:
        rule: the rung's rule.
        confidence: calibrated P(correct), None when there is no evidence; missing evidence is never confidence.
        path: verdicts of the lower rungs that were tried.
    """
    if rule.accept is Accept.CONTRACT:
        return Judgement(Verdict.ACCEPTED, "the output keeps its contract", Standing.UNCERTIFIED)
    if rule.accept is Accept.NEVER:
        return Judgement(Verdict.UNSURE, "this rung is observed, never accepted")
    if rule.threshold is None:
        return Judgement(Verdict.UNSURE, rule.reason)
    if any(verdict is not Verdict.UNSURE for verdict in path):
        return Judgement(
            Verdict.UNSURE,
            "a lower rung failed on this row, and the certificate covers no such rows",
        )
    if confidence is None:
        return Judgement(Verdict.UNSURE, "the engine gave no evidence of its confidence")
    if confidence > rule.threshold:
        return Judgement(Verdict.ACCEPTED, "", Standing.CERTIFIED, rule.bound)
    return Judgement(Verdict.UNSURE, f"{confidence:.3f} is not above {rule.threshold:.3f}")
