"""How many labelled rows a certificate will need, and what to say when none passed.

Everything is the exact binomial distribution at one threshold, tested at the budget of a single
start (delta / 4) unless said otherwise, so a plan promises no more than the procedure of `sequence`
can keep. Estimates of error rates come in; certificates come out of `certification` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from rung.trust.bounds import binomial_p_value
from rung.trust.certification import CurvePoint
from rung.trust.path import STARTS

POWER = 0.8
"""Chance of success that a plan aims at."""

MOST_ROWS = 100_000
"""Beyond this many accepted rows a plan says "no number would do"."""

LEAST_ACCEPTED = 30
"""Accepted rows below which a candidate's error rate is no basis for a plan."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Labelled rows for one target.

    Attributes:
        max_error, delta: the target and the chance of a false certificate.
        coverage: expected share of rows accepted.
        accepted_risk: expected error rate among them.
        error_free: labelled rows if no accepted one were wrong: fewer can never suffice.
        rows: labelled rows for success with probability `POWER`; None when no number would do,
            because the expected risk is not below the target.
    """

    max_error: float
    delta: float
    coverage: float
    accepted_risk: float
    error_free: int
    rows: int | None


def plan(max_error: float, *, delta: float, coverage: float, accepted_risk: float | None) -> Plan:
    """Labelled rows to ask for before any is read.

    Args:
        max_error: the target.
        delta: the chance of a false certificate that will be spent.
        coverage: share of rows expected to be accepted, in (0, 1].
        accepted_risk: expected error rate among them; None plans for half the target.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage must lie in (0, 1], not {coverage!r}")
    risk = max_error / 2.0 if accepted_risk is None else accepted_risk
    level = delta / STARTS
    accepted = accepted_for_power(max_error, risk, level=level)
    return Plan(
        max_error=max_error,
        delta=delta,
        coverage=coverage,
        accepted_risk=risk,
        error_free=math.ceil(int(accepted_for_errors(0, max_error, level=level)) / coverage),
        rows=None if accepted is None else math.ceil(accepted / coverage),
    )


def accepted_for_errors(errors: ArrayLike, max_error: float, *, level: float) -> NDArray[np.int64]:
    """Fewest accepted rows with which that many wrong ones still certify `max_error` at `level`.

    The table of the reference (routing, section 4.4) is this at level 0.05.
    """
    k = np.asarray(errors, dtype=np.int64)
    fails, holds = k.copy(), k + 1
    while np.any(short := binomial_p_value(k, holds, max_error) > level):
        fails, holds = np.where(short, holds, fails), np.where(short, 2 * holds, holds)
    while np.any(holds - fails > 1):
        middle = (fails + holds) // 2
        passes = binomial_p_value(k, middle, max_error) <= level
        fails, holds = np.where(passes, fails, middle), np.where(passes, middle, holds)
    return holds


def accepted_for_power(
    max_error: float, risk: float, *, level: float, power: float = POWER
) -> int | None:
    """Accepted rows with which certifying succeeds with probability `power` at a true `risk`.

    Power is a sawtooth in the number of rows, highest where one more wrong row just became
    bearable; this is the first such number that reaches `power`.

    Returns:
        None when `risk` is not below `max_error`, or more than `MOST_ROWS` rows would be needed.

    Raises:
        ValueError: `risk` lies outside [0, 1].
    """
    if not 0.0 <= risk <= 1.0:
        raise ValueError(f"risk must lie in [0, 1], not {risk!r}")
    if risk >= max_error:
        return None
    errors = np.arange(64)
    while True:
        accepted = accepted_for_errors(errors, max_error, level=level)
        success = 1.0 - special.betainc(errors + 1.0, accepted - errors, risk)
        enough = np.flatnonzero((success >= power) & (accepted <= MOST_ROWS))
        if len(enough):
            return int(accepted[enough[0]])
        if int(accepted[-1]) > MOST_ROWS:
            return None
        errors = np.arange(errors[-1] + 1, 4 * (errors[-1] + 1))


def more_rows(
    curve: Iterable[CurvePoint], rows: int, *, max_error: float, delta: float
) -> int | None:
    """How many labelled rows to add after nothing passed, at the error rates just seen.

    For each candidate with at least `LEAST_ACCEPTED` accepted rows its error rate is taken as
    (errors + 1/2) / (accepted + 1), the labels it would need with probability `POWER` are computed,
    and the least is told. It is an estimate for planning: the best of many candidates looks a
    little better than it is.

    Args:
        curve: the candidates of the attempt that failed.
        rows: its labelled rows.
        max_error, delta: the target, and the budget the next attempt will have.

    Returns:
        Rows to add (at least 1), or None when no number would do at these rates.
    """
    best: int | None = None
    for point in _promising(curve):
        risk = (point.errors + 0.5) / (point.accepted + 1.0)
        accepted = accepted_for_power(max_error, risk, level=delta / STARTS)
        if accepted is not None:
            needed = math.ceil(accepted * rows / point.accepted)
            best = needed if best is None else min(best, needed)
    return None if best is None else max(1, best - rows)


def _promising(curve: Iterable[CurvePoint]) -> list[CurvePoint]:
    """For each number of errors the candidate that accepted most: the others need more rows."""
    widest: dict[int, CurvePoint] = {}
    for point in curve:
        if point.accepted >= LEAST_ACCEPTED:
            known = widest.get(point.errors)
            if known is None or point.accepted > known.accepted:
                widest[point.errors] = point
    return list(widest.values())
