"""What `rung verify` says of pinned models, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from rung.cli.modeltext import size
from rung.models.lock.changes import Part, in_words
from rung.models.lock.drift import Drift, Kind
from rung.models.lock.file import LOCK_NAME
from rung.models.lock.record import Artefact
from rung.models.scan.template import template_diff
from rung.quantities import counted


def describe(artefacts: Sequence[Artefact], drifts: Sequence[Drift], *, quick: bool) -> str:
    """The answer, then what each model is, then what differs and what to do about it."""
    files = [file for artefact in artefacts for file in artefact.files]
    extent = f"{counted(len(artefacts), 'model')}, {counted(len(files), 'file')}, {size(sum(f.size for f in files))}"
    wrong = {drift.artefact for drift in drifts}
    if not artefacts:
        return f"nothing is pinned in {LOCK_NAME}"
    if not drifts:
        how = "as rung.lock says" + (
            ", or unchanged since it was last read (--quick)" if quick else ""
        )
        lines = [f"verified   {extent}: every sha256 is {how}"]
    else:
        be = "is" if len(wrong) == 1 else "are"
        count = f"{len(wrong)} of {counted(len(artefacts), 'model')}"
        gone = all(drift.kind is Kind.MISSING for drift in drifts)
        lines = [
            f"missing    {count} {be} not all there"
            if gone
            else f"changed    {count} {be} not what was pinned"
        ]
    lines += [_model(each, [d for d in drifts if d.artefact == each.name]) for each in artefacts]
    by_name = {artefact.name: artefact for artefact in artefacts}
    for drift in drifts:
        lines += ["", *_drift(drift, by_name[drift.artefact])]
    return "\n".join(lines)


def facts(
    artefacts: Sequence[Artefact], drifts: Sequence[Drift], *, quick: bool
) -> dict[str, object]:
    """The same for programs."""
    return {
        "format": 1,
        "verified": not drifts,
        "quick": quick,
        "models": [
            {
                "name": each.name,
                "source": each.source,
                "files": len(each.files),
                "bytes": sum(file.size for file in each.files),
                "signature": each.signature,
            }
            for each in artefacts
        ],
        "changed": [
            {
                "name": drift.artefact,
                "path": drift.file.path,
                "kind": drift.kind,
                "expected": {"size": drift.file.size, "sha256": drift.file.sha256},
                "found": {"size": drift.size, "sha256": drift.sha256},
                "parts": drift.parts,
                "weights_compared": drift.sampled,
                "places": drift.places,
                "reason": drift.reason,
                "template": drift.template,
            }
            for drift in drifts
        ],
    }


def _model(artefact: Artefact, drifts: Sequence[Drift]) -> str:
    signed = f" · signed by {artefact.signature.signer}" if artefact.signature else ""
    gone = all(drift.kind is Kind.MISSING for drift in drifts)
    wrong = click.style("missing" if gone else "changed", fg="red")
    mark = wrong if drifts else click.style("ok", fg="green")
    return f"  {mark:<{9 + len(mark) - len(click.unstyle(mark))}}{artefact.name}   {artefact.source}{signed}"


def _drift(drift: Drift, artefact: Artefact) -> Iterator[str]:
    gone = drift.kind is Kind.MISSING
    what = "a pinned file is missing" if gone else "model file changed since it was pinned"
    yield f"{what}: {difference(drift)}"
    if drift.parts:
        what = in_words(drift.parts, sampled=bool(drift.sampled), places=drift.places)
        yield f"changed: {what}"
    elif drift.kind in (Kind.SIZE, Kind.CONTENT) and drift.reason:
        yield f"which part cannot be told: {drift.reason}"
    if Part.TEMPLATE in drift.parts:
        yield template_diff(artefact.template or "", drift.template or "")
    yield f"hint: {fix(drift, artefact)}"


def difference(drift: Drift) -> str:
    """How a file differs from what is pinned, as a clause."""
    pinned = drift.file
    match drift.kind:
        case Kind.MISSING:
            return f"{pinned.path} is not there"
        case Kind.UNREADABLE:
            return f"{pinned.path} cannot be compared: {drift.reason}"
        case Kind.SIZE:
            return f"{pinned.path} has {drift.size or 0:,} bytes, {LOCK_NAME} says {pinned.size:,}"
        case Kind.CONTENT:
            return f"{pinned.path} is sha256 {drift.sha256}, {LOCK_NAME} says {pinned.sha256}"


def fix(drift: Drift, artefact: Artefact) -> str:
    """What to do about it."""
    if artefact.source.startswith("file:"):
        again = f"; if the new one is meant, rung lock {artefact.files[0].path}"
        there = drift.kind is not Kind.MISSING
        return "restore the file from where it came" + (again if there else "")
    return f"rung pull {artefact.name} restores the pinned file"
