"""Acceptance: what becomes of an output that keeps its contract."""

from __future__ import annotations

import pytest

from rung.config import Accept
from rung.receipt import Bound, Standing, Verdict
from rung.task import Privacy
from rung.trust.acceptance import Judgement, Rule, judge, make_rules
from rung.trust.certificate import Certificate, CertifiedSet, RungRule

PRINT = {"task": "t1", "student.model": "m1"}


def certificate(*, certified: bool = True, threshold: float | None = 0.8) -> Certificate:
    """A certificate for the student alone, on personal rows."""
    return Certificate(
        id="triage@12345678",
        task="triage",
        created="2026-11-01",
        max_error=0.05,
        confidence=0.95,
        attempt=1,
        truth="human",
        sampling="stated",
        suite="s1",
        rows=1000,
        sets=(
            CertifiedSet(
                rungs=("student",),
                labels=(Privacy.PERSONAL,),
                certified=certified,
                reason="" if certified else "no threshold passes",
                rules=(RungRule("student", threshold, 500, 10, 0.034),),
                rows=1000,
                accepted=500,
                errors=10,
                fingerprint=PRINT,
            ),
        ),
    )


def rule(held: Certificate | None, label: Privacy = Privacy.PERSONAL, **changes: str) -> Rule:
    """The student's rule under `held`, with parts of the fingerprint changed."""
    return make_rules({"student": Accept.CERTIFIED}, label, held, PRINT | changes)["student"]


def test_a_valid_certificate_gives_its_threshold_and_bound() -> None:
    """The rule promises what was certified, and shows the rung's own error beside it."""
    assert rule(certificate()) == Rule(
        Accept.CERTIFIED,
        threshold=0.8,
        bound=Bound("triage@12345678", 0.05, 0.95, "human", 1000, 0.02, 0.034),
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (rule(None), "no certificate at this target"),
        (rule(certificate(certified=False)), "no threshold passes"),
        (rule(certificate(), Privacy.SECRET), "no rows labelled secret"),
        (rule(certificate(), **{"student.model": "m2"}), "void: student.model changed"),
        (rule(certificate(), task="t2", other="x"), "void: task, other changed"),
        (rule(certificate(threshold=None)), "lets it accept nothing"),
    ],
)
def test_without_a_valid_certificate_nothing_is_accepted_and_it_says_why(
    given: Rule, reason: str
) -> None:
    """No certificate, a failed one, another label's and a void one all mean "not eligible", visibly."""
    judged = judge(given, 1.0, [])
    assert judged.verdict is Verdict.UNSURE
    assert reason in judged.reason


def test_confidence_above_the_threshold_is_accepted_as_certified() -> None:
    """The answer carries the bound it was given under."""
    held = rule(certificate())
    assert judge(held, 0.81, []) == Judgement(Verdict.ACCEPTED, "", Standing.CERTIFIED, held.bound)


def test_confidence_equal_to_the_threshold_is_unsure() -> None:
    """The comparison is strict, as it was when it was certified."""
    assert judge(rule(certificate()), 0.8, []).verdict is Verdict.UNSURE


def test_missing_evidence_is_never_confidence() -> None:
    """An answer without a confidence is unsure, whatever the threshold."""
    assert judge(rule(certificate(threshold=-1.0)), None, []).verdict is Verdict.UNSURE


@pytest.mark.parametrize("below", [Verdict.TIMEOUT, Verdict.OVERLOADED, Verdict.INVALID])
def test_a_row_that_a_lower_rung_failed_on_is_not_covered(below: Verdict) -> None:
    """The certificate was made on rows that arrived because a lower rung was unsure, and holds for those alone."""
    assert judge(rule(certificate()), 0.99, [below]).verdict is Verdict.UNSURE
    assert judge(rule(certificate()), 0.99, [Verdict.UNSURE]).verdict is Verdict.ACCEPTED


def test_accept_contract_answers_and_is_marked_uncertified() -> None:
    """A top rung that only keeps the contract answers, and nothing is promised for it."""
    judged = judge(Rule(Accept.CONTRACT), None, [Verdict.UNSURE])
    assert (judged.verdict, judged.standing) == (Verdict.ACCEPTED, Standing.UNCERTIFIED)


def test_accept_never_only_observes() -> None:
    """Such a rung's output is never the answer."""
    assert judge(Rule(Accept.NEVER), 1.0, []).verdict is Verdict.UNSURE
