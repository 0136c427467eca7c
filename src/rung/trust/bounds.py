"""Exact binomial bounds: the only probability statements that a certificate rests on.

Counts in, probabilities out; nothing here knows of thresholds or ladders. Everything is vectorised
over numpy arrays and goes through the regularised incomplete beta function, of which the binomial
distribution is a case: P(Bin(n, p) <= k) = I_{1-p}(n - k, k + 1) = 1 - I_p(k + 1, n - k).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]


def binomial_p_value(errors: ArrayLike, n: ArrayLike, risk: float) -> Floats:
    """P(Bin(n, risk) <= errors): the exact p-value of "the true risk is above `risk`".

    Small means that so few errors would be surprising were the risk any larger. With `n` = 0 there
    is no evidence and the value is 1. `errors` and `n` broadcast against each other.

    Raises:
        ValueError: `risk` lies outside (0, 1), or some `errors` lies outside 0..n.
    """
    _require_probability("risk", risk)
    k, total = _counts(errors, n)
    everything_wrong = k == total
    value = special.betaincc(k + 1.0, np.where(everything_wrong, 1.0, total - k), risk)
    return np.where(everything_wrong, 1.0, value)


def upper_bound(errors: ArrayLike, n: ArrayLike, confidence: float) -> Floats:
    """One-sided Clopper-Pearson upper limit of a rate; 1 where every trial failed or there was
    none.

    The smallest r with P(Bin(n, r) <= errors) <= 1 - confidence (Clopper and Pearson, Biometrika
    1934).

    Raises:
        ValueError: `confidence` lies outside (0, 1), or some `errors` lies outside 0..n.
    """
    _require_probability("confidence", confidence)
    k, total = _counts(errors, n)
    everything_wrong = k == total
    value = special.betaincinv(k + 1.0, np.where(everything_wrong, 1.0, total - k), confidence)
    return np.where(everything_wrong, 1.0, value)


def lower_bound(errors: ArrayLike, n: ArrayLike, confidence: float) -> Floats:
    """One-sided Clopper-Pearson lower limit of a rate; 0 where nothing failed.

    Raises:
        ValueError: `confidence` lies outside (0, 1), or some `errors` lies outside 0..n.
    """
    k, total = _counts(errors, n)
    return np.asarray(1.0 - upper_bound(total - k, total, confidence))


def interval(errors: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Two-sided exact (Clopper-Pearson) interval of a rate, as (low, high); (0, 1) without trials.

    Covers the true rate with probability of at least `confidence`, whatever it is.

    Raises:
        ValueError: `confidence` lies outside (0, 1), or some `errors` lies outside 0..n.
    """
    _require_probability("confidence", confidence)
    one_sided = (1.0 + confidence) / 2.0
    return lower_bound(errors, n, one_sided), upper_bound(errors, n, one_sided)


def attempt_delta(delta: float, attempt: int) -> float:
    """The share of `delta` that the `attempt`-th certification on one growing set of labels may
    spend.

    6 * delta / (pi^2 * attempt^2) sums to `delta` over all attempts there could ever be, so a
    certificate may be tried again after labels were added without knowing beforehand how often.

    Raises:
        ValueError: `delta` lies outside (0, 1), or `attempt` is below 1.
    """
    _require_probability("delta", delta)
    if attempt < 1:
        raise ValueError(f"attempt must be 1 or more, not {attempt!r}")
    return 6.0 * delta / (math.pi * attempt) ** 2


def _counts(errors: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    k = np.asarray(errors, dtype=np.float64)
    total = np.asarray(n, dtype=np.float64)
    if not np.all((k >= 0) & (k <= total)):
        raise ValueError("errors must lie in 0..n")
    return k, total


def _require_probability(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, not {value!r}")
