"""Exact binomial bounds against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy.stats import binom, binomtest

from rung.trust.bounds import attempt_delta, binomial_p_value, interval, lower_bound, upper_bound

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
rates = st.floats(0.001, 0.999)


@given(counts, rates)
def test_the_p_value_is_the_binomial_distribution_function(
    case: tuple[int, int], risk: float
) -> None:
    """P(Bin(n, risk) <= k) equals scipy's distribution function."""
    k, n = case
    assert binomial_p_value(k, n, risk) == pytest.approx(binom.cdf(k, n, risk), abs=1e-10)


@pytest.mark.parametrize("risk", [0.01, 0.05, 0.2])
def test_the_p_value_is_the_one_mapie_uses_for_binary_losses(risk: float) -> None:
    """MAPIE's Hoeffding-Bentkus p-value for a binary loss is the exact binomial one."""
    n = np.repeat([60, 250, 1_000], 4)
    k = np.tile([0, 1, 3, 7], 3)
    theirs = compute_hoeffding_bentkus_p_value(k / n, n, risk, binary=True)[:, 0]
    np.testing.assert_allclose(np.minimum(binomial_p_value(k, n, risk), theirs), theirs, rtol=1e-6)
    below = k / n < risk
    np.testing.assert_allclose(binomial_p_value(k, n, risk)[below], theirs[below], rtol=1e-6)


@given(counts)
def test_the_interval_is_clopper_pearson(case: tuple[int, int]) -> None:
    """The two-sided interval equals scipy's exact one."""
    k, n = case
    exact = binomtest(k, n).proportion_ci(0.95, method="exact")
    low, high = interval(k, n)
    assert (float(low), float(high)) == pytest.approx((exact.low, exact.high), abs=1e-9)


@given(counts, st.floats(0.5, 0.99))
def test_the_upper_bound_inverts_the_p_value(case: tuple[int, int], confidence: float) -> None:
    """At its upper bound a count is exactly as surprising as the confidence allows."""
    k, n = case
    bound = float(upper_bound(k, n, confidence))
    if k == n:
        assert bound == 1.0
    else:
        assert binomial_p_value(k, n, bound) == pytest.approx(1.0 - confidence, abs=1e-7)


def test_without_trials_nothing_is_known() -> None:
    """No trials: the p-value is 1 and the interval is everything."""
    assert binomial_p_value(0, 0, 0.05) == 1.0
    assert upper_bound(0, 0, 0.95) == 1.0
    assert lower_bound(0, 0, 0.95) == 0.0


def test_attempts_never_spend_more_than_delta() -> None:
    """The shares of all attempts sum to delta, and the first is 61 % of it."""
    shares = [attempt_delta(0.05, attempt) for attempt in range(1, 20_000)]
    assert 0.0499 < math.fsum(shares) < 0.05
    assert shares[0] == pytest.approx(0.0304, abs=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: binomial_p_value(0, 10, 0.0),
        lambda: upper_bound(11, 10, 0.95),
        lambda: interval(1, 10, 1.0),
        lambda: attempt_delta(0.05, 0),
    ],
)
def test_numbers_out_of_range_are_refused(call: object) -> None:
    """A rate of 0, more errors than trials, certainty, attempt 0: all are ValueErrors."""
    with pytest.raises(ValueError, match="must"):
        call()  # type: ignore[operator]
