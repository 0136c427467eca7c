"""The order of candidates: decided by size, age and comparable results, never by the order they came in."""

from __future__ import annotations

import random

import msgspec

from rung.models.catalog.candidates import Candidate, Wishes, look_at
from rung.models.catalog.entries import Score, catalog
from rung.models.catalog.ranking import rank
from rung.models.catalog.target import machine_with


def candidates() -> list[Candidate]:
    """Every model that a large machine takes."""
    return list(look_at(catalog().models, Wishes(context=4096), machine_with(256))[0])


def won(candidate: Candidate, name: str, size: int, *values: tuple[str, float]) -> Candidate:
    """A candidate of another name and size with results of one harness."""
    scores = tuple(
        Score(benchmark=benchmark, harness="one", setting="", value=value, recalled=False)
        for benchmark, value in values
    )
    entry = msgspec.structs.replace(candidate.entry, name=name, parameters=size, scores=scores)
    return msgspec.structs.replace(candidate, entry=entry)


def test_the_order_is_the_same_whichever_came_first() -> None:
    """Shuffled a few times."""
    found = candidates()
    names = [item.candidate.entry.name for item in rank(found, "extract")]
    for seed in range(5):
        random.Random(seed).shuffle(found)
        assert [item.candidate.entry.name for item in rank(found, "extract")] == names


def test_results_that_go_in_a_circle_end() -> None:
    """Each of three beats another: there is no right order, and there is one all the same."""
    one = candidates()[0]
    circle = [
        won(one, "a", 9_000, ("IFEval", 1), ("LiveBench", 3)),
        won(one, "b", 3_000, ("IFEval", 2), ("DROP", 1)),
        won(one, "c", 1_000, ("LiveBench", 4), ("DROP", 0)),
    ]
    assert {item.candidate.entry.name for item in rank(circle, "extract")} == {"a", "b", "c"}


def test_a_smaller_model_that_won_stands_first_and_says_by_what() -> None:
    """Its result, the other's, the benchmark and the harness."""
    one = candidates()[0]
    large, small = (
        won(one, "large", 9_000, ("IFEval", 50)),
        won(one, "small", 1_000, ("IFEval", 60)),
    )
    first, second = rank([large, small], "extract")
    assert first.candidate.entry.name == "small"
    assert first.because == "60 against 50 of large in IFEval (one)"
    assert second.because == ""


def test_what_spills_comes_last() -> None:
    """Whatever its results."""
    found = rank(candidates(), "chat")
    spills = [item.candidate.estimate.verdict.value == "spills" for item in found]
    assert spills == sorted(spills)
