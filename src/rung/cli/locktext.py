"""What `rung lock` says, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rung.cli.lockrungs import NamedModel, State
from rung.cli.modeltext import size
from rung.cli.verifytext import difference, fix
from rung.models.lock.drift import Drift, Kind
from rung.models.lock.file import LOCK_NAME
from rung.models.lock.record import Artefact, Lock, Verified
from rung.quantities import counted


def describe(before: Lock, after: Lock, new: Sequence[Artefact], left: Sequence[NamedModel]) -> str:
    """What was pinned, what each is, and what could not be."""
    held = f"{LOCK_NAME} pins {counted(len(after.artefacts), 'model')}"
    changed = [each for each in new if each not in before.artefacts]
    answer = [f"pinned {counted(len(changed), 'model')}"] if changed else []
    answer += [f"{len(left)} could not be pinned"] if left else []
    lines = [" · ".join([*(answer or ["nothing to pin"]), held])]
    lines += [f"  {_artefact(each, before)}" for each in changed]
    lines += _unpinned(left)
    return "\n".join(lines)


def facts(
    before: Lock, after: Lock, new: Sequence[Artefact], left: Sequence[NamedModel]
) -> dict[str, object]:
    """The same for programs."""
    return {
        "format": 1,
        "pinned": [each for each in new if each not in before.artefacts],
        "models": len(after.artefacts),
        "unpinned": [_facts(each) for each in left],
    }


def agreement(
    lock: Lock,
    unpinned: Sequence[NamedModel],
    unnamed: Sequence[Artefact],
    drifts: Sequence[Drift],
) -> str:
    """Whether `rung.toml`, the lock and the files agree, and where they do not."""
    if not unpinned and not unnamed and not drifts:
        held = counted(len(lock.artefacts), "model")
        return f"agreed   {LOCK_NAME} pins what rung.toml names, and the files are what it says: {held}"
    what = []
    if unpinned or unnamed:
        what.append(f"rung.toml and {LOCK_NAME} do not name the same models")
    if drifts:
        what.append(f"files are not what {LOCK_NAME} says")
    lines = [f"not agreed   {'; '.join(what)}"]
    lines += _unpinned(unpinned)
    for artefact in unnamed:
        lines.append(f"  no rung names   {artefact.name} ({artefact.source})")
        place = artefact.files[0].path
        named = place if artefact.source.startswith("file:") else artefact.source
        lines.append(
            f'    hint: name it in a rung, model = "{named}", or rung lock --remove {artefact.name}'
        )
    by_name = {artefact.name: artefact for artefact in lock.artefacts}
    for drift in drifts:
        word = "missing" if drift.kind is Kind.MISSING else "changed"
        lines.append(f"  {word}   {difference(drift)}")
        lines.append(f"    hint: {fix(drift, by_name[drift.artefact])}")
    return "\n".join(lines)


def frozen_facts(
    lock: Lock,
    unpinned: Sequence[NamedModel],
    unnamed: Sequence[Artefact],
    drifts: Sequence[Drift],
) -> dict[str, object]:
    """The same for programs."""
    return {
        "format": 1,
        "agreed": not unpinned and not unnamed and not drifts,
        "models": len(lock.artefacts),
        "unpinned": [_facts(each) for each in unpinned],
        "unnamed": [each.name for each in unnamed],
        "changed": [
            {"name": each.artefact, "path": each.file.path, "kind": each.kind} for each in drifts
        ],
    }


def kind(artefact: Artefact) -> Iterator[str]:
    """What a model is by its header: its mix of types, its weights, and what context it was made for."""
    mix = "" if artefact.file_type == "unknown" else f"{artefact.file_type} "
    yield f"{mix}{artefact.bits_per_weight:.2f} bits/weight"
    many = artefact.parameters >= 100_000
    yield (
        f"{artefact.parameters / 1e6:,.1f} M weights"
        if many
        else f"{artefact.parameters:,} weights"
    )
    if artefact.context_length:
        yield f"context {artefact.context_length:,}"


def _artefact(artefact: Artefact, before: Lock) -> str:
    """One pin in a line: what it is, and how its digests are known."""
    first = artefact.files[0]
    by = {file.verified for file in artefact.files}
    checked = "publisher's" if by == {Verified.PUBLISHER} else "computed here"
    old = before.holder(first.path)
    again = "in place of another file" if old and old[1].sha256 != first.sha256 else None
    facts_ = [
        *kind(artefact),
        size(sum(file.size for file in artefact.files)),
        f"sha256 {first.sha256[:12]}… {checked}",
        again,
    ]
    return f"{artefact.name}   " + " · ".join(fact for fact in facts_ if fact)


def _unpinned(models: Sequence[NamedModel]) -> Iterator[str]:
    for each in models:
        yield f"  not pinned   rungs.{each.rung}.{each.key} {each.model!r} {_WHY[each.state]}"
        yield f"    hint: {_fix(each)}"


_WHY = {
    State.PINNED: "is pinned",
    State.HERE: "is here",
    State.MISSING: "is not there",
    State.ELSEWHERE: "lies outside this folder",
    State.UNNAMEABLE: "has a name that cannot stand in rung.lock",
    State.UNFETCHED: "is not fetched",
}


def _fix(model: NamedModel) -> str:
    return {
        State.PINNED: "nothing to do",
        State.HERE: "rung lock",
        State.MISSING: "check the path in rung.toml, or fetch the model: rung pull",
        State.ELSEWHERE: f"rung pull file:{model.model} links it below models/; then name that file in rung.toml",
        State.UNNAMEABLE: "rename the file: no backslashes, nothing that cannot be seen",
        State.UNFETCHED: f"rung pull {model.model}",
    }[model.state]


def _facts(model: NamedModel) -> dict[str, object]:
    return {
        "rung": model.rung,
        "key": model.key,
        "model": model.model,
        "state": model.state,
        "fix": _fix(model),
    }
