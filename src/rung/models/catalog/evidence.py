"""Whether published results put one model before another: only figures of one harness, benchmark and setting are
compared, and saturated benchmarks not at all.
"""

from __future__ import annotations

import msgspec

from rung.models.catalog.benchmarks import benchmark_name, telling
from rung.models.catalog.entries import Entry, Score


class Comparison(msgspec.Struct, frozen=True):
    """One benchmark in which both models were taken by the same harness."""

    benchmark: str
    harness: str
    setting: str
    first: float
    second: float
    recalled: bool


def comparisons(first: Entry, second: Entry, kind: str) -> tuple[Comparison, ...]:
    """Every comparable pair of results in benchmarks that speak for the kind of task, most telling first."""
    theirs = {_key(score): score for score in second.scores}
    order = telling(kind)
    found = [
        Comparison(
            name,
            score.harness,
            score.setting,
            score.value,
            other.value,
            score.recalled or other.recalled,
        )
        for score in first.scores
        if (name := benchmark_name(score)) in order
        and (other := theirs.get(_key(score))) is not None
    ]
    return tuple(sorted(found, key=lambda item: (order.index(item.benchmark), item.harness)))


def better(found: tuple[Comparison, ...]) -> int:
    """1 when most of the comparisons are won by the first model, -1 by the second, 0 when neither is ahead."""
    ahead = sum((item.first > item.second) - (item.first < item.second) for item in found)
    return (ahead > 0) - (ahead < 0)


def _key(score: Score) -> tuple[str, str, str]:
    return benchmark_name(score), score.harness, score.setting
