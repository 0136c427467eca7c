"""What a benchmark still tells: which speak for a kind of task, which no longer separate models, which still do."""

from __future__ import annotations

import enum

from rung.models.catalog.entries import Score


class Standing(enum.StrEnum):
    """What a score in a benchmark is worth today."""

    DISCRIMINATING = "discriminating"
    ORDINARY = "ordinary"
    SATURATED = "saturated"


_SATURATED = {
    "MMLU": "near its ceiling, and its questions are in training data",
    "MMLU-Redux": "MMLU's questions, corrected; near its ceiling",
    "MMMLU": "MMLU translated",
    "Global MMLU": "MMLU translated",
    "Global-MMLU-Lite": "MMLU translated",
    "HumanEval": "164 published problems, near its ceiling and in training data",
    "HumanEval+": "HumanEval with more tests",
    "MBPP": "published problems, in training data",
    "GSM8K": "near its ceiling, and models do worse on newly written look-alikes",
    "GSM-Plus": "variations of GSM8K",
    "HellaSwag": "near its ceiling",
    "ARC-C": "near its ceiling",
}
DISCRIMINATING = (
    "GPQA Diamond",
    "SWE-bench Verified",
    "ARC-AGI-2",
    "HLE",
    "LiveCodeBench",
)
"""Benchmarks that still tell strong models apart, as far as is known today."""

_ALIASES = {"GPQA-D": "GPQA Diamond"}

_TELLING = {
    "classify": ("IFEval", "MMLU-Pro", "LiveBench"),
    "extract": ("IFEval", "DROP", "LiveBench"),
    "summarize": ("InfiniteBench En.QA", "IFEval", "LiveBench"),
    "answer": ("GPQA Diamond", "GPQA", "MMLU-Pro", "SimpleQA", "DROP"),
    "call": ("BFCL v3", "BFCL v2", "BFCL"),
    "chat": ("ArenaHard", "LiveBench", "MT-Bench", "IFEval"),
}
KINDS = tuple(_TELLING)
"""The kinds of task that models can be picked for."""


def benchmark_name(score: Score) -> str:
    """A benchmark's full name; results that do not say which variant they are keep the shorter one."""
    return _ALIASES.get(score.benchmark, score.benchmark)


def standing(benchmark: str) -> Standing:
    """What a score in the benchmark of this full name is worth."""
    if benchmark in _SATURATED:
        return Standing.SATURATED
    return Standing.DISCRIMINATING if benchmark in DISCRIMINATING else Standing.ORDINARY


def why_saturated(benchmark: str) -> str:
    """Why it no longer separates models; empty where it does."""
    return _SATURATED.get(benchmark, "")


def telling(kind: str) -> tuple[str, ...]:
    """The benchmarks nearest to a kind of task, none of them a saturated one.

    They are proxies: no public benchmark is the user's own task.
    """
    return _TELLING[kind]
