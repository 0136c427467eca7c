"""What `rung outdated` says, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rung.models.lock.changes import Part, in_words
from rung.models.lock.file import LOCK_NAME
from rung.models.lock.updates import State, Update
from rung.models.scan.template import template_diff
from rung.quantities import counted


def describe(found: Sequence[Update]) -> str:
    """The answer, then each model, then what to do."""
    if not found:
        return f"nothing is pinned in {LOCK_NAME}"
    changed = [update for update in found if update.state is State.CHANGED]
    silent = [update for update in found if update.state is State.UNREACHABLE]
    asked = len(found) - len(silent)
    parts = []
    if changed:
        parts.append(f"{counted(len(changed), 'model')} of {len(found)} changed at the source")
    elif asked:
        parts.append(f"no change known for {counted(asked, 'pinned model')}")
    if silent:
        parts.append(f"the sources of {counted(len(silent), 'model')} could not be asked")
    width = max(len(update.artefact.name) for update in found)
    lines = [" · ".join(parts), ""]
    for update in found:
        lines += _model(update, width)
    if changed:
        lines += ["", "hint: rung pull --force MODEL fetches and pins what is there now"]
    return "\n".join(lines)


def facts(found: Sequence[Update]) -> dict[str, object]:
    """The same for programs."""
    return {
        "format": 1,
        "models": [
            {
                "name": update.artefact.name,
                "source": update.artefact.source,
                "state": update.state,
                "pinned": update.artefact.revision,
                "now": update.revision,
                "parts": update.parts,
                "weights_compared": update.sampled,
                "places": update.places,
                "licence": {"pinned": update.artefact.licence, "now": update.licence},
                "template": update.template,
                "reason": update.reason,
            }
            for update in found
        ],
    }


def _model(update: Update, width: int) -> Iterator[str]:
    artefact = update.artefact
    yield f"{artefact.name:<{width}}   {_state(update)}   {artefact.source}"
    if update.state in (State.CHANGED, State.REVISION) and update.reason:
        yield f"{'':<{width}}   {update.reason}"
    if Part.LICENCE in update.parts:
        yield f"{'':<{width}}   licence {artefact.licence or 'not stated'} → {update.licence}"
    if Part.TEMPLATE in update.parts:
        diff = template_diff(artefact.template or "", update.template or "")
        yield from (f"{'':<{width}}   {line}" for line in diff.splitlines())


def _state(update: Update) -> str:
    moved = f"{_short(update.artefact.revision)} → {_short(update.revision or '')}"
    match update.state:
        case State.CURRENT:
            return f"current   {_short(update.artefact.revision)}"
        case State.REVISION:
            return f"nothing but the revision   {moved}"
        case State.CHANGED:
            compared = bool(update.sampled)
            what = in_words(update.parts, sampled=compared, places=update.places)
            what = what if update.parts else "the file"
            return f"changed: {what}   {moved}"
        case State.GONE:
            return f"cannot be had any more: {update.reason}"
        case State.UNANSWERABLE:
            return f"not known: {update.reason}"
        case State.UNREACHABLE:
            return f"not asked: {update.reason}"


def _short(revision: str) -> str:
    plain = revision.removeprefix("sha256:").strip('"')
    return f"{plain[:7]}…" if len(plain) > 8 else plain
