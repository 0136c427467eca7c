"""Builders of rows and reports for the tests of `rung.evals`, from a fixed seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rung.evals.report.aggregation import aggregate
from rung.evals.report.model import ReportData, ReportRow, TargetFacts, TargetReport

LABELS = ("card_arrival", "card_delivery_estimate", "exchange_rate", "top_up_failed", "wrong_rate")


def routed(
    threshold: float, *, rows: int = 3080, truth: bool = True, rungs: int = 1
) -> Iterator[ReportRow]:
    """Rows as a batch leaves them: confident ones accepted, the rest held back or passed to a second rung."""
    random = np.random.default_rng(7)
    for row in range(1, rows + 1):
        confidence = float(random.beta(9, 0.8))
        correct = bool(random.random() < 0.04 + 0.96 * confidence)
        expected, other = random.choice(len(LABELS), 2, replace=False)
        latency = float(random.lognormal(-3.2, 0.6))
        accepted = confidence > threshold
        path = [("student", "accepted" if accepted else "unsure")]
        rung = "student" if accepted else None
        if rungs > 1 and not accepted:
            accepted = correct = bool(random.random() < 0.7)
            rung = "bigger" if accepted else None
            path.append(("bigger", "accepted" if accepted else "unsure"))
            latency += float(random.lognormal(6.0, 0.5))
        yield ReportRow(
            row=row,
            id=f"q{row}",
            answer=LABELS[expected if correct else other] if rung else None,
            expected=LABELS[expected] if truth else None,
            correct=correct if truth else None,
            rung=rung,
            confidence=confidence,
            path=tuple(path),
            latency_ms=latency,
            text=f"Why is my {LABELS[expected].replace('_', ' ')} not what you said it would be?",
        )


def facts(max_error: float = 0.05, threshold: float = 0.85) -> TargetFacts:
    """What a certificate over 2,000 rows would state."""
    accepted = 1_762
    errors = int(accepted * max_error * 0.75)
    grid = tuple(
        (count, int(count * max_error * 0.9 * (count / 2000) ** 2))
        for count in range(400, 2001, 40)
    )
    return TargetFacts(
        max_error=max_error,
        confidence=0.95,
        certificate="support@9f3c12ab",
        created="2026-11-21",
        thresholds=(("student", threshold),),
        rows=2_000,
        accepted=accepted,
        errors=errors,
        upper=max_error * 0.93,
        coverage=0.881,
        coverage_low=0.866,
        coverage_high=0.895,
        attempt=1,
        delta=0.0304,
        truth="human",
        sampling="assumed",
        grid=grid,
    )


def target(max_error: float = 0.05, threshold: float = 0.85, **routing: int) -> TargetReport:
    """A certified target with its run, timed and priced."""
    rows = aggregate(routed(threshold, **routing))
    return TargetReport(
        max_error=max_error,
        facts=facts(max_error, threshold),
        rows=rows,
        wall_seconds=0.131,
        top_cost=920_000_000,
        held_back_cost=int(920_000_000 * rows.held_back / max(rows.rows, 1)),
    )


def report(*targets: TargetReport, title: str = "Support questions, routed") -> ReportData:
    """A report over `targets`, by default of 5 % and 2 %."""
    return ReportData(
        title=title,
        task="support",
        generated="2026-11-21 13:30 UTC",
        targets=targets or (target(), target(0.02, 0.94)),
        on_device=("student",),
        price_date="2026-10-01",
        notes=("BANKING77’s train and test questions are not exchangeable.",),
        provenance=(
            ("Input", "banking77 test, 3,080 rows"),
            ("Digest", "sha256:" + "9f3c12ab" * 8),
        ),
    )
