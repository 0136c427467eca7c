"""The order in which candidates are worth trying, and why each is where it is.

Models are placed by size, newer first among like sizes, because that is known of all of them. Where one harness took
two neighbours in a benchmark that speaks for the task, its result decides instead. No figure here says what a model
does on the user's own task.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import msgspec

from rung.models.catalog.candidates import Candidate
from rung.models.catalog.evidence import Comparison, better, comparisons
from rung.models.fit.estimate import Verdict

_LIKE = 1.5
"""Models count as of like size while the largest of them has no more than so many times the parameters."""


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate in its place.

    Attributes:
        candidate: what would run.
        because: why it stands before the next one; empty for the last.
        compared: the results that this rests on, the candidate's first; empty where size decided.
    """

    candidate: Candidate
    because: str
    compared: tuple[Comparison, ...]


def rank(candidates: Sequence[Candidate], kind: str) -> tuple[Ranked, ...]:
    """Put candidates in order, the first to try first.

    Args:
        candidates: in any order; the result does not depend on it.
        kind: of the task, one of `benchmarks.KINDS`.
    """
    sizes = _size_classes(candidates)
    newest_first = sorted(candidates, key=_released, reverse=True)
    order = sorted(newest_first, key=lambda one: (_spills(one), sizes[one.entry.name]))
    for _ in order:  # so many rounds and no more: results may go in a circle
        for at in range(len(order) - 1):
            above, below = order[at], order[at + 1]
            if _spills(above) == _spills(below) and _ahead(above, below, kind) < 0:
                order[at], order[at + 1] = below, above
    placed = [_placed(item, after, kind, sizes) for item, after in itertools.pairwise(order)]
    last = (Ranked(candidate=item, because="", compared=()) for item in order[-1:])
    return (*placed, *last)


def _size_classes(candidates: Sequence[Candidate]) -> Mapping[str, int]:
    """The class of each model by its name, 0 the largest: each begins with a model and holds those of like size."""
    classes: dict[str, int] = {}
    first, number = 0, -1
    for entry in sorted((one.entry for one in candidates), key=lambda entry: -entry.parameters):
        if entry.parameters * _LIKE < first or number < 0:
            first, number = entry.parameters, number + 1
        classes[entry.name] = number
    return classes


def _released(candidate: Candidate) -> tuple[str, str]:
    return candidate.entry.released, candidate.entry.name


def _spills(candidate: Candidate) -> bool:
    """Whether it does not fit whole, which puts it last."""
    return candidate.estimate.verdict is Verdict.SPILLS


def _ahead(first: Candidate, second: Candidate, kind: str) -> int:
    return better(comparisons(first.entry, second.entry, kind))


def _placed(item: Candidate, after: Candidate, kind: str, sizes: Mapping[str, int]) -> Ranked:
    found = comparisons(item.entry, after.entry, kind)
    return Ranked(candidate=item, because=_because(item, after, found, sizes), compared=found)


def _because(
    item: Candidate, after: Candidate, found: tuple[Comparison, ...], sizes: Mapping[str, int]
) -> str:
    """One clause: why `item` stands before `after`."""
    name = after.entry.name
    if _spills(after) and not _spills(item):
        return f"{name} does not fit whole"
    if better(found) > 0:
        won = next(one for one in found if one.first > one.second)
        setting = f", {won.setting}" if won.setting else ""
        recalled = ", recalled" if won.recalled else ""
        return f"{won.first:g} against {won.second:g} of {name} in {won.benchmark} ({won.harness}{setting}{recalled})"
    mine, theirs = sizes[item.entry.name], sizes[name]
    if mine < theirs:
        return f"larger than {name}"
    if mine > theirs:
        return f"ahead of {name} by results against a model between them"
    newer = item.entry.released > after.entry.released
    return f"of like size as {name}{' and newer' if newer else ''}"
