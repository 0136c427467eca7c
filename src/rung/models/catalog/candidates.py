"""Which catalogued models would run on a machine as wanted, in which quantisation, and why the others would not."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rung.models.catalog.entries import Entry, Terms
from rung.models.catalog.models import catalogued
from rung.models.catalog.quantisation import WHY_STOP, Choice, choices
from rung.models.fit.estimate import Estimate, Verdict, estimate
from rung.models.fit.run import Run
from rung.models.hardware.machine import Machine


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a model has to offer.

    Attributes:
        context: tokens, over all slots.
        languages: two-letter codes.
        terms: kinds of licence that will do.
        tokens_per_s: least estimated decoding speed; None for any.
    """

    context: int
    languages: tuple[str, ...] = ()
    terms: tuple[Terms, ...] = tuple(Terms)
    tokens_per_s: float | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model that would do.

    Attributes:
        entry: of the catalogue.
        choice: its quantisation.
        estimate: of memory and speed on the machine.
        unlisted: wanted languages that its publisher only claims in sum (`100+ languages`).
    """

    entry: Entry
    choice: Choice
    estimate: Estimate
    unlisted: tuple[str, ...]


class Excluded(msgspec.Struct, frozen=True, kw_only=True):
    """A model that would not do, with the first reason: `kind` to count by, `why` to read."""

    entry: Entry
    kind: str
    why: str


def look_at(
    entries: Sequence[Entry], wishes: Wishes, machine: Machine
) -> tuple[tuple[Candidate, ...], tuple[Excluded, ...]]:
    """Part the models that would do from those that would not, both in the catalogue's order."""
    found = [_candidate(entry, wishes, machine) for entry in entries]
    return (
        tuple(item for item in found if isinstance(item, Candidate)),
        tuple(item for item in found if isinstance(item, Excluded)),
    )


def _candidate(entry: Entry, wishes: Wishes, machine: Machine) -> Candidate | Excluded:
    if (refused := _unsuitable(entry, wishes)) is not None:
        return refused
    run = Run(context=wishes.context)
    for choice in choices(entry):
        found = estimate(catalogued(entry, choice), run, machine)
        if found.verdict is not Verdict.NO:
            break
    else:
        why = f"does not fit in Q4_K_M or Q3_K_M; {WHY_STOP}"
        return Excluded(entry=entry, kind="memory", why=why)
    if (slow := _too_slow(found, wishes.tokens_per_s)) is not None:
        return Excluded(entry=entry, kind="speed", why=slow)
    unlisted = tuple(code for code in wishes.languages if code not in entry.languages)
    return Candidate(entry=entry, choice=choice, estimate=found, unlisted=unlisted)


def _unsuitable(entry: Entry, wishes: Wishes) -> Excluded | None:
    """Why a model would not do on any machine."""
    if entry.licence_kind not in wishes.terms:
        why = f"{entry.licence} is {entry.licence_kind.value}"
        return Excluded(entry=entry, kind="licence", why=why)
    if entry.context < wishes.context:
        why = f"made for {entry.context:,} tokens"
        return Excluded(entry=entry, kind="context", why=why)
    missing = [code for code in wishes.languages if code not in entry.languages]
    if missing and entry.languages_claimed is None:
        why = f"its publisher does not list {', '.join(missing)}"
        return Excluded(entry=entry, kind="languages", why=why)
    return None


def _too_slow(found: Estimate, least: float | None) -> str | None:
    if least is None:
        return None
    if found.speed is None:
        return "its speed here is unknown"
    if found.speed.tokens_per_s < least:
        return f"about {found.speed.tokens_per_s:.0f} tokens a second"
    return None
