"""Testing a fixed sequence of thresholds from several starts, keeping the familywise error.

This module decides which hypotheses "the risk at threshold j is above the target" may be rejected,
given their p-values. What the thresholds are belongs to `path`, where the p-values come from to
`certification`.

The procedure. The thresholds are ordered before any label is read. Four of them are starts, each
with delta / 4. A start walks along the order while the p-value is at most the budget it carries,
and stops at the first failure (fixed sequence testing, Bauer 1991; Angelopoulos et al., "Learn then
Test", 2021). A walk that reaches a position where another start waits or stopped adds its budget to
that one's; a walk past the last position goes on at the first.

Why delta holds. This is the sequentially rejective graphical procedure of Bretz, Maurer, Brannath
and Posch (Statistics in Medicine 28:586, 2009) on the cycle in which each hypothesis passes its
whole level to the next one not yet rejected. In short: the levels of the hypotheses not rejected
never sum to more than delta. Let the first true hypothesis be rejected at some step. Until then
only false ones were, so every true hypothesis i holds at most the level l_i it would hold were all
false ones rejected; these l_i are fixed numbers that sum to at most delta, and the step needs p_i
<= l_i for some true i, which has probability of at most the sum. Any dependence between the
p-values is allowed. With budgets never handed on it would be the plain four-start procedure, which
rejects a subset.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rejected(
    p_values: Sequence[float] | NDArray[np.float64], starts: Sequence[int], delta: float
) -> NDArray[np.bool_]:
    """Which positions are rejected (that is: certified), with P(any true one among them) <= delta.

    Args:
        p_values: one per position, in the order of the walk, shape (positions,).
        starts: the positions that start with an equal share of delta; a repeated one gets two
            shares.
        delta: the familywise error to keep.

    Returns:
        A mask of shape (positions,).

    Raises:
        ValueError: there is no start, or one lies outside the positions.
    """
    values = np.asarray(p_values, dtype=np.float64).tolist()
    size = len(values)
    if not starts or min(starts) < 0 or max(starts) >= size:
        raise ValueError(f"starts must be positions in 0..{size - 1}, not {list(starts)!r}")
    level = [0.0] * size
    for start in starts:
        level[start] += delta / len(starts)
    done = np.zeros(size, dtype=np.bool_)
    waiting = sorted(set(starts), reverse=True)
    while waiting:
        here = waiting.pop()
        while not done[here] and values[here] <= level[here]:
            done[here] = True
            if done.all():
                return done
            after = _next_open(done, here)
            level[after] += level[here]
            level[here] = 0.0
            here = after
    return done


def _next_open(done: NDArray[np.bool_], here: int) -> int:
    """The first position after `here`, going round, that is not rejected yet."""
    after = (here + 1) % len(done)
    while done[after]:
        after = (after + 1) % len(done)
    return after
