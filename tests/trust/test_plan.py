"""Plans: the reference's tables, and what is said when nothing passed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rung.trust.certification import certify
from rung.trust.path import threshold_path
from rung.trust.plan import accepted_for_errors, accepted_for_power, more_rows, plan

Floats = NDArray[np.float64]

TARGETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)


@pytest.mark.parametrize(
    ("errors", "needed"),
    [
        (0, (598, 299, 149, 99, 59, 29)),
        (1, (947, 473, 236, 157, 93, 46)),
        (2, (1258, 628, 313, 208, 124, 61)),
        (3, (1549, 773, 386, 257, 153, 76)),
        (5, (2100, 1049, 523, 348, 208, 103)),
        (10, (3389, 1693, 845, 562, 336, 167)),
        (20, (5808, 2902, 1449, 965, 577, 286)),
    ],
)
def test_accepted_rows_for_a_count_of_errors(errors: int, needed: tuple[int, ...]) -> None:
    """The table of the reference, section 4.4, to the row."""
    found = tuple(int(accepted_for_errors(errors, target, level=0.05)) for target in TARGETS)
    assert found == needed


def test_an_error_free_start_at_a_quarter_of_delta() -> None:
    """Four starts need 437, 217 and 86 error-free rows for 1, 2 and 5 %."""
    found = [int(accepted_for_errors(0, target, level=0.0125)) for target in (0.01, 0.02, 0.05)]
    assert found == [437, 217, 86]


@pytest.mark.parametrize(
    ("target", "risk", "about"),
    [
        (0.01, 0.001, 480),
        (0.01, 0.0025, 780),
        (0.01, 0.005, 1950),
        (0.02, 0.002, 240),
        (0.02, 0.005, 390),
        (0.02, 0.01, 970),
        (0.02, 0.015, 4500),
        (0.05, 0.005, 100),
        (0.05, 0.0125, 160),
        (0.05, 0.025, 390),
        (0.05, 0.0375, 1730),
    ],
)
def test_accepted_rows_for_four_chances_in_five(target: float, risk: float, about: int) -> None:
    """The reference's second table, which is rounded and read off a sawtooth: within 8 %."""
    assert accepted_for_power(target, risk, level=0.05) == pytest.approx(about, rel=0.08)


def test_at_or_above_the_target_no_number_would_do() -> None:
    """A true risk at the target can never be certified, and one just below it not in practice."""
    assert accepted_for_power(0.02, 0.02, level=0.05) is None
    assert accepted_for_power(0.02, 0.01995, level=0.05) is None


def test_a_plan_counts_the_rows_that_will_not_be_accepted() -> None:
    """At 60 % coverage 2 % needs at least 362 rows, and many more for a risk of half of it."""
    found = plan(0.02, delta=0.05, coverage=0.6, accepted_risk=None)
    assert found.error_free == 362
    assert found.accepted_risk == 0.01
    assert found.rows is not None
    assert 1_600 < found.rows < 3_000
    with pytest.raises(ValueError, match="coverage"):
        plan(0.02, delta=0.05, coverage=0.0, accepted_risk=None)


def graded(rows: int, seed: int, hardness: float = 0.05) -> tuple[Floats, NDArray[np.bool_]]:
    """One rung that is right with probability confidence ** hardness, shapes (rows, 1)."""
    draw = np.random.default_rng(seed)
    scores = draw.random((rows, 1))
    return scores, draw.random((rows, 1)) > scores**hardness


def test_the_rows_asked_for_do_certify() -> None:
    """250 rows fail at 2 %, and with the number asked for on top most of ten draws pass."""
    reference = [np.random.default_rng(0).random(2_000)]

    def passes(rows: int, seed: int) -> bool:
        path = threshold_path(reference, rows=rows, max_error=0.02, delta=0.05)
        found = certify(*graded(rows, seed), path, max_error=0.02, delta=0.05)
        return found.thresholds is not None

    asked = more_rows(*graded(250, 1), reference, max_error=0.02, delta=0.05)
    assert not passes(250, 1)
    assert asked is not None
    assert 100 < asked < 10_000
    assert sum(passes(250 + asked, seed) for seed in range(10)) >= 5


def test_no_number_of_rows_helps_a_rung_that_is_too_often_wrong() -> None:
    """Wrong a third of the time whatever it says: nothing to ask for."""
    draw = np.random.default_rng(0)
    scores, wrong = draw.random((600, 1)), draw.random((600, 1)) < 1 / 3
    assert more_rows(scores, wrong, [scores], max_error=0.02, delta=0.05) is None
