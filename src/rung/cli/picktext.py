"""What `rung pick` says: the order and its reasons for people, the same facts for machines."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from rung.models.catalog.benchmarks import (
    DISCRIMINATING,
    Standing,
    benchmark_name,
    standing,
    telling,
    why_saturated,
)
from rung.models.catalog.candidates import Candidate, Excluded, Wishes
from rung.models.catalog.entries import Catalog, Entry, Score
from rung.models.catalog.quantisation import USUAL, WHY_SMALLER, WHY_STOP, WHY_USUAL
from rung.models.catalog.ranking import Ranked
from rung.models.hardware.machine import Machine
from rung.quantities import counted

_SHOWN = 8
_SLOW = 5
"""Tokens a second that a reader would call slow."""
_GIB = 1024**3
_WIDTH = 140

PROVE = "prove it on your data: rung eval (until that verb is there: rung calibrate)"

_OWN_MODEL = (
    "for classify, first try the student: a linear model trained on your own labels in seconds"
    " (rung train), certified like any other"
)


def describe(
    kind: str,
    known: Catalog,
    machine: Machine,
    wishes: Wishes,
    ranked: Sequence[Ranked],
    left_out: Sequence[Excluded],
    *,
    everything: bool,
) -> str:
    """The answer, why, what was left out, and what to do next."""
    shown = ranked if everything else ranked[:_SHOWN]
    lines = [_headline(kind, known, machine, wishes, ranked)]
    if shown:
        lines += [
            "",
            _table(shown, wishes),
            *_marks(shown, machine),
        ]
        if len(ranked) > 1:
            lines += ["", "why in this order (by size and age where no harness has taken both)"]
        lines += _reasons(shown)
        if len(shown) < len(ranked):
            lines.append(f"  and {len(ranked) - len(shown)} more: --all shows them")
        lines += [
            "",
            "scores that still discriminate (compare only within one harness)",
            *_scores(shown),
        ]
    if everything:
        lines += ["", "where the figures are from", *_sources(ranked)]
    lines += ["", *_left_out(left_out, everything=everything)]
    lines += [f"quantisation  {WHY_USUAL}", f"              {WHY_STOP}"]
    if kind == "classify":
        lines.append(f"student       {_OWN_MODEL}")
    lines += [f"{label:<13} {text}" for label, text in _next(ranked)]
    return "\n".join(lines)


def facts(
    kind: str,
    known: Catalog,
    machine: Machine,
    wishes: Wishes,
    ranked: Sequence[Ranked],
    left_out: Sequence[Excluded],
) -> dict[str, object]:
    """The same for machines."""
    return {
        "format": 1,
        "kind": kind,
        "catalogue": known.dated,
        "machine": machine,
        "wishes": wishes,
        "ranked": [_fact(place, item) for place, item in enumerate(ranked, 1)],
        "left_out": [
            {"name": item.entry.name, "kind": item.kind, "why": item.why} for item in left_out
        ],
        "telling_benchmarks": telling(kind),
        "discriminating_benchmarks": DISCRIMINATING,
        "next": PROVE,
    }


def _fact(place: int, item: Ranked) -> dict[str, object]:
    candidate = item.candidate
    entry = candidate.entry
    return {
        "place": place,
        "name": entry.name,
        "reference": entry.reference(candidate.choice.name),
        "quantisation": candidate.choice,
        "parameters": entry.parameters,
        "estimate": candidate.estimate,
        "licence": entry.licence,
        "licence_kind": entry.licence_kind,
        "languages": entry.languages,
        "languages_claimed": entry.languages_claimed,
        "languages_unlisted": candidate.unlisted,
        "released": entry.released,
        "because": item.because,
        "compared": item.compared,
        "scores": [
            msgspec.structs.asdict(score) | {"standing": standing(benchmark_name(score))}
            for score in entry.scores
        ],
        "size_source": entry.size_source,
        "size_recalled": _is_rough(candidate),
        "sources": entry.sources,
        "recalled": entry.recalled,
        "notes": entry.notes,
    }


def _headline(
    kind: str, known: Catalog, machine: Machine, wishes: Wishes, ranked: Sequence[Ranked]
) -> str:
    where = f"{machine.name}, {machine.host.available / _GIB:.1f} GiB free"
    if machine.cards:
        where += f", {machine.cards[0].name} with {machine.cards[0].available / _GIB:.1f} GiB free"
    return (
        f"{len(ranked)} of {counted(len(known.models), 'model')} for {kind} on {where}"
        f" · {wishes.context:,} tokens, 1 slot, KV f16 · catalogue of {known.dated}"
    )


def _table(shown: Sequence[Ranked], wishes: Wishes) -> str:
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("", "model", "", "takes", "verdict", "tok/s", "licence", "released"):
        table.add_column(name, justify="right" if name in {"", "takes", "tok/s"} else "left")
    if wishes.languages:
        table.add_column("languages")
    for place, item in enumerate(shown, 1):
        candidate = item.candidate
        table.add_row(
            str(place),
            candidate.entry.name,
            candidate.choice.name,
            f"{'~' if _is_rough(candidate) else ''}{candidate.estimate.needed / _GIB:.1f} GiB",
            candidate.estimate.verdict.value,
            _speed(candidate),
            candidate.entry.licence,
            candidate.entry.released,
            *([_languages(candidate)] if wishes.languages else []),
        )
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _is_rough(candidate: Candidate) -> bool:
    """Whether the size of its file was recalled, or worked out from that of another quantisation."""
    return candidate.entry.size_recalled or candidate.choice.name != USUAL


def _marks(shown: Sequence[Ranked], machine: Machine) -> list[str]:
    """What the table rests on that nobody has read."""
    lines = []
    if any(_is_rough(item.candidate) for item in shown):
        lines.append(
            "~ the file's size is recalled or worked out: rung fit reads the real one from its header"
        )
    lines += [f"machine: {note}" for note in machine.assumptions]
    if any(item.candidate.choice.name != USUAL for item in shown):
        lines.append(f"Q3_K_M: {WHY_SMALLER.removeprefix('Q3_K_M ')}")
    speed = shown[0].candidate.estimate.speed
    if speed is not None and speed.high < _SLOW:
        lines.append(f"the first ones write slowly here: --min-tps {_SLOW} leaves such out")
    return lines


def _speed(candidate: Candidate) -> str:
    speed = candidate.estimate.speed
    if speed is None:
        return "unknown"
    digits = 0 if speed.low >= 3 else 1
    return f"{speed.low:.{digits}f}–{speed.high:.{digits}f}"


def _languages(candidate: Candidate) -> str:
    if not candidate.unlisted:
        return "listed"
    claim = candidate.entry.languages_claimed
    return f"{', '.join(candidate.unlisted)} not listed, its publisher claims {claim}"


def _reasons(shown: Sequence[Ranked]) -> list[str]:
    """One line for each place but the last of all."""
    return [
        f"  {place:>2}  {item.candidate.entry.name}: {item.because}"
        for place, item in enumerate(shown, 1)
        if item.because
    ]


def _scores(shown: Sequence[Ranked]) -> list[str]:
    """The benchmarks that still discriminate by model, then what is known of nobody, then what counts for nothing."""
    lines = []
    seen: set[str] = set()
    saturated: set[str] = set()
    for item in shown:
        entry = item.candidate.entry
        told = [score for score in entry.scores if _standing(score) is Standing.DISCRIMINATING]
        saturated |= {
            benchmark_name(score)
            for score in entry.scores
            if _standing(score) is Standing.SATURATED
        }
        seen |= {benchmark_name(score) for score in told}
        if told:
            lines.append(f"  {entry.name:<24} {' · '.join(_score(score) for score in told)}")
    unknown = [name for name in DISCRIMINATING if name not in seen]
    if unknown:
        lines.append(f"  {'not known of any':<24} {', '.join(unknown)}")
    if saturated:
        worst = [name for name in ("MMLU", "HumanEval", "GSM8K") if name in saturated]
        reasons = "; ".join(f"{name}: {why_saturated(name)}" for name in worst)
        lines.append(f"  {'not counted':<24} {reasons or ', '.join(sorted(saturated))}")
    return lines


def _sources(ranked: Sequence[Ranked]) -> list[str]:
    entries = [item.candidate.entry for item in ranked]
    return [
        f"  {entry.name}: size: {entry.size_source}; {'; '.join(entry.sources)}"
        for entry in entries
    ]


def _standing(score: Score) -> Standing:
    return standing(benchmark_name(score))


def _score(score: Score) -> str:
    setting = f", {score.setting}" if score.setting else ""
    recalled = ", recalled" if score.recalled else ""
    return f"{benchmark_name(score)} {score.value:g} ({score.harness}{setting}{recalled})"


def _left_out(left_out: Sequence[Excluded], *, everything: bool) -> list[str]:
    if not left_out:
        return []
    if everything:
        return ["left out", *(f"  {item.entry.name}: {item.why}" for item in left_out), ""]
    counts = Counter(item.kind for item in left_out)
    return [f"left out      {' · '.join(f'{number} by {kind}' for kind, number in counts.items())}"]


def _next(ranked: Sequence[Ranked]) -> list[tuple[str, str]]:
    if not ranked:
        return []
    first = ranked[0].candidate
    lines = []
    if (small := _small(ranked)) is not None:
        lines.append(
            (
                "as a ladder",
                f"{small.name} below {first.entry.name}: the small one answers what it is sure of",
            )
        )
    reference = first.entry.reference(first.choice.name)
    lines.append(
        ("next", f"rung fit {reference}, which also says what the repository has if not that")
    )
    lines.append(("", f"rung pull {reference}"))
    return [*lines, ("", PROVE)]


def _small(ranked: Sequence[Ranked]) -> Entry | None:
    """The best placed model that writes at least twice as fast as the first one; None where speeds are unknown."""
    fast = ranked[0].candidate.estimate.speed
    if fast is None:
        return None
    speeds = ((item.candidate.entry, item.candidate.estimate.speed) for item in ranked)
    enough = 2 * fast.tokens_per_s
    return next((entry for entry, one in speeds if one and one.tokens_per_s >= enough), None)
