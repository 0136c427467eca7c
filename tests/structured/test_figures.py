"""The four figures of structured output are counted apart."""

from __future__ import annotations

from rung.receipt import Attempt, Verdict
from rung.structured.calls import NO_CALL
from rung.structured.figures import NOT_JSON, StructuredFigures


def counted(*attempts: Attempt, calls: bool = False) -> StructuredFigures:
    """The figures of these attempts."""
    figures = StructuredFigures(calls=calls)
    for attempt in attempts:
        figures.add(attempt)
    return figures


def attempt(verdict: Verdict, reason: str = "", *, repaired: bool = False) -> Attempt:
    """An attempt that ended so."""
    return Attempt("local", "device", verdict, reason, repaired=repaired)


def test_each_attempt_counts_where_it_ended() -> None:
    """Valid, broken, no JSON, cut and refused; an engine that failed wrote nothing."""
    attempts = [
        attempt(Verdict.ACCEPTED),
        attempt(Verdict.UNSURE, repaired=True),
        attempt(Verdict.INVALID, "people does not match the schema (type)"),
        attempt(Verdict.INVALID, f"{NOT_JSON} (line 1)", repaired=True),
        attempt(Verdict.TRUNCATED),
        attempt(Verdict.REFUSED),
        attempt(Verdict.TIMEOUT),
        attempt(Verdict.FAILED),
        attempt(Verdict.FORBIDDEN),
    ]
    assert counted(*attempts) == StructuredFigures(
        n=6, parsed=3, schema_valid=2, truncated=1, executable=0, repaired=2
    )
    assert counted(*attempts, calls=True).executable == 2


def test_no_call_is_no_executable_call() -> None:
    """It is valid, it is not a call, and it is not a call that failed either."""
    figures = StructuredFigures(calls=True)
    figures.add(attempt(Verdict.ACCEPTED), {"name": "book", "arguments": {}})
    figures.add(attempt(Verdict.ACCEPTED), NO_CALL)
    figures.add(attempt(Verdict.INVALID, "the answer names no tool of the task"))
    assert (figures.n, figures.schema_valid, figures.no_call) == (3, 2, 1)
    assert (figures.executable, figures.wanted) == (1, 2)
