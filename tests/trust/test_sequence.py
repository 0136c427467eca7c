"""The chained four-start procedure against MAPIE, and its error rate where everything is false."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.risk_control import FWERFixedSequenceTesting

from rung.trust.sequence import rejected

p_lists = st.lists(st.floats(0.0, 0.2), min_size=4, max_size=24)


def quarters(size: int) -> tuple[int, ...]:
    """The four equally spaced starts of MAPIE."""
    return tuple(part * (size // 4) for part in range(4))


@given(p_lists)
def test_one_start_is_the_plain_fixed_sequence(values: list[float]) -> None:
    """With a single start the walk stops at the first failure, as MAPIE's does."""
    theirs = FWERFixedSequenceTesting(n_starts=1).run(np.array(values), 0.1)
    ours = np.flatnonzero(rejected(values, (0,), 0.1))
    assert ours.tolist() == sorted(theirs.tolist())


@given(p_lists)
def test_handing_budgets_on_never_rejects_less(values: list[float]) -> None:
    """Everything that MAPIE's plain four starts reject is rejected here too."""
    theirs = FWERFixedSequenceTesting(n_starts=4).run(np.array(values), 0.1)
    ours = np.flatnonzero(rejected(values, quarters(len(values)), 0.1))
    assert set(theirs.tolist()) <= set(ours.tolist())


@given(p_lists, st.integers(0, 23), st.floats(0.0, 1.0))
def test_a_smaller_p_value_never_costs_a_rejection(
    values: list[float], place: int, factor: float
) -> None:
    """The procedure is monotone: better evidence anywhere only adds rejections."""
    better = list(values)
    better[place % len(values)] *= factor
    starts = quarters(len(values))
    assert np.all(rejected(values, starts, 0.1) <= rejected(better, starts, 0.1))


def test_a_start_reached_by_another_walk_gets_both_budgets() -> None:
    """At delta .08 each of four starts has .02; the second one, reached by the first, has .04."""
    values = [0.01, 0.01, 0.035, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert np.flatnonzero(rejected(values, (0, 2, 4, 6), 0.08)).tolist() == [0, 1, 2]


def test_a_walk_past_the_end_goes_on_at_the_first_position() -> None:
    """The last start rejects to the end and adds its budget to the first one's."""
    values = [0.03, 0.5, 0.5, 0.01]
    assert np.flatnonzero(rejected(values, (0, 1, 2, 3), 0.08)).tolist() == [0, 3]


def test_where_all_hypotheses_are_true_a_false_rejection_is_as_rare_as_promised() -> None:
    """Uniform p-values, independent or one shared: at most delta of 4,000 runs reject anything."""
    rng = np.random.default_rng(7)
    starts = quarters(40)
    independent = sum(rejected(rng.random(40), starts, 0.05).any() for _ in range(4_000))
    shared = sum(rejected(np.full(40, rng.random()), starts, 0.05).any() for _ in range(4_000))
    assert independent <= 240
    assert shared <= 240


def test_a_start_outside_the_list_is_refused() -> None:
    """Starts must be positions."""
    with pytest.raises(ValueError, match="starts"):
        rejected([0.1, 0.2], (2,), 0.05)
