"""What `bench/fit.py` has to show: every target with the figure that was found, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

COMPUTE_SHARE = 0.75


class Gate(NamedTuple):
    """One target."""

    name: str
    found: str
    passed: bool


def gates(facts: dict[str, Any]) -> Iterator[Gate]:
    """The targets that what was read speaks to; a comparison of no rows meets none."""
    for part, words in (("kv", "KV cache exact"), ("recurrent", "recurrent state exact")):
        if part in facts:
            yield _of(words, facts[part]["exact"], facts[part]["rows"], 1.0)
    if compute := facts.get("compute"):
        yield _of(
            "compute within max(64 MiB, 10 %)", compute["within"], compute["rows"], COMPUTE_SHARE
        )
        beyond = compute["sure_beyond"] + compute["unsure_beyond"]
        yield Gate(
            "compute beyond that said so itself",
            f"{compute['unsure_beyond']} of {beyond}",
            compute["rows"] > 0 and not compute["sure_beyond"],
        )
    if totals := facts.get("totals"):
        sure = totals["sure_within_100"], totals["sure_rows"]
        yield _of("whole memory within 100 MiB, rows that are sure of themselves", *sure, 1.0)
        yield _of(
            "whole memory within 100 MiB, all rows", totals["all_within_100"], totals["rows"], 1.0
        )


def _of(name: str, right: int, rows: int, share: float) -> Gate:
    words = "all" if share == 1.0 else f"{share:.0%}"
    return Gate(name, f"{right} of {rows}, {words} wanted", rows > 0 and right >= share * rows)
