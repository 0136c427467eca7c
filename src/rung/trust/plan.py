"""How many labelled rows a certificate will need, and what to say when none passed.

Everything is the exact binomial distribution at one threshold, tested at the budget of a single
start (delta / 4) unless said otherwise, so a plan promises no more than the procedure of `sequence`
can keep. Estimates of error rates come in; certificates come out of `certification` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from rung.trust.bounds import binomial_p_value, upper_bound
from rung.trust.certification import tally
from rung.trust.path import STARTS, threshold_path

POWER = 0.8
"""Chance of success that a plan aims at."""

MOST_ROWS = 100_000
"""Beyond this many accepted rows a plan says "no number would do"."""

ENDLESS = 1_000_000_000
"""Rows of a certificate for which no candidate is too strict."""

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
    scores: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    references: Sequence[ArrayLike],
    *,
    max_error: float,
    delta: float,
) -> int | None:
    """How many labelled rows to add after nothing passed, at the error rates just seen.

    Looks at all candidates that a larger set of rows could certify, down to 5 % coverage. For each
    with at least `LEAST_ACCEPTED` accepted rows the rows it would need with probability `POWER` are
    computed, and the least is told. Its error rate is taken at the upper quartile of what its
    counts allow, since the best of many candidates looks better than it is; at the median where the
    quartile leaves no hope.

    Args:
        scores, wrong: of the attempt that failed, shape (rows, rungs), as given to `certify`.
        references: unlabelled confidences, as given to `threshold_path`.
        max_error, delta: the target, and the budget the next attempt will have.

    Returns:
        Rows to add (at least 1), or None when no number would do at these rates.
    """
    path = threshold_path(references, rows=ENDLESS, max_error=max_error, delta=delta)
    accepted, errors = (part.sum(axis=1) for part in tally(scores, wrong, path))
    candidates = list(_promising(accepted, errors))
    for caution in (0.75, 0.5):
        needed = [
            math.ceil(wanted * len(scores) / n)
            for n, k in candidates
            if (wanted := _accepted_wanted(n, k, caution, max_error, delta)) is not None
        ]
        if needed:
            return max(1, min(needed) - len(scores))
    return None


def _accepted_wanted(n: int, k: int, caution: float, max_error: float, delta: float) -> int | None:
    risk = float(upper_bound(k, n, caution))
    return accepted_for_power(max_error, risk, level=delta / STARTS)


def _promising(accepted: NDArray[np.int64], errors: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    """For each number of errors the candidate that accepted most: the others need more rows."""
    widest: dict[int, int] = {}
    for n, k in zip(accepted.tolist(), errors.tolist(), strict=True):
        if n >= LEAST_ACCEPTED:
            widest[k] = max(n, widest.get(k, 0))
    return ((n, k) for k, n in widest.items())
