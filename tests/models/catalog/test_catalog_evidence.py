"""Published results put one model before another only where they are comparable."""

from __future__ import annotations

import msgspec

from rung.models.catalog.benchmarks import KINDS, Standing, benchmark_name, standing, telling
from rung.models.catalog.entries import Entry, Score, catalog
from rung.models.catalog.evidence import better, comparisons


def entry(name: str, *scores: Score) -> Entry:
    """The first model of the catalogue with another name and other results."""
    return msgspec.structs.replace(catalog().models[0], name=name, scores=scores)


def score(benchmark: str, value: float, harness: str = "one", setting: str = "") -> Score:
    """A result."""
    return Score(benchmark=benchmark, harness=harness, setting=setting, value=value, recalled=False)


def test_results_of_two_harnesses_are_never_compared() -> None:
    """Even when the benchmark has one name."""
    first, second = entry("a", score("IFEval", 90, "one")), entry("b", score("IFEval", 10, "two"))
    assert comparisons(first, second, "extract") == ()


def test_results_of_two_settings_are_never_compared() -> None:
    """Thinking and not thinking are different models as far as scores go."""
    first = entry("a", score("GPQA", 66, setting="thinking"))
    assert comparisons(first, entry("b", score("GPQA", 44)), "answer") == ()


def test_saturated_benchmarks_decide_nothing() -> None:
    """MMLU, HumanEval and GSM8K put no model before another for any kind of task."""
    for name in ("MMLU", "HumanEval", "GSM8K"):
        assert standing(name) is Standing.SATURATED
        first, second = entry("a", score(name, 99)), entry("b", score(name, 1))
        assert [comparisons(first, second, kind) for kind in KINDS] == [()] * len(KINDS)


def test_no_telling_benchmark_is_saturated() -> None:
    """For every kind of task."""
    for kind in KINDS:
        assert all(standing(name) is not Standing.SATURATED for name in telling(kind))


def test_one_benchmark_may_have_two_names() -> None:
    """GPQA-D is GPQA Diamond; plain GPQA may be another part and stays apart."""
    assert benchmark_name(score("GPQA-D", 1)) == "GPQA Diamond"
    assert benchmark_name(score("GPQA", 1)) == "GPQA"
    assert standing("GPQA Diamond") is Standing.DISCRIMINATING


def test_the_model_that_wins_more_benchmarks_is_ahead() -> None:
    """Ties of wins are no decision."""
    first = entry("a", score("IFEval", 3), score("LiveBench", 2))
    second = entry("b", score("IFEval", 1), score("LiveBench", 1))
    mixed = entry("c", score("IFEval", 9), score("LiveBench", 1))
    assert better(comparisons(first, second, "extract")) == 1
    assert better(comparisons(second, first, "extract")) == -1
    assert better(comparisons(first, mixed, "extract")) == 0
