"""What `rung pull` says of a model: what its reference stood for, whether it fits, and what was really got."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rung.cli.locktext import kind
from rung.cli.modeltext import size
from rung.models.fit.estimate import Estimate
from rung.models.fit.model import is_adapter
from rung.models.lock.file import LOCK_NAME
from rung.models.lock.record import Artefact, LockedFile, Verified
from rung.models.pull.events import Settled
from rung.models.pull.facts import abilities, is_permissive, surprises
from rung.models.pull.leftovers import Removed
from rung.models.pull.obtaining import Obtained
from rung.models.pull.pulling import Pulled
from rung.models.pull.restoring import Restored
from rung.models.reference import Origin
from rung.models.scan.report import shown
from rung.models.sources.resolved import Resolved
from rung.quantities import counted


def resolve_line(settled: Settled) -> str:
    """What the reference stands for, whether it fits, and under which licence it is; of an adapter, that it is one."""
    resolved, estimate = settled.resolved, settled.estimate
    parts = [
        revision_text(resolved),
        fit_text(estimate) if estimate is not None else "an adapter: its model is what has to fit",
        f"licence {shown(resolved.licence)}" if resolved.licence else None,
        f"in the store of {resolved.store}" if resolved.store else None,
    ]
    return "resolve   " + "   ".join(part for part in parts if part)


def revision_text(resolved: Resolved) -> str:
    """What was asked for and what it stood for: `main → 8a2c41f…`; an address has no branches."""
    asked = resolved.reference.revision or "main"
    revision = short(resolved.revision)
    if resolved.reference.origin is Origin.URL:
        return (
            f"{resolved.reference.repo} with the etag {revision}"
            if revision
            else resolved.reference.repo
        )
    if not revision:
        return resolved.reference.repo
    return revision if resolved.revision.startswith(asked) else f"{asked} → {revision}"


def short(revision: str) -> str:
    """A revision as people can take it in."""
    plain = revision.removeprefix("sha256:").strip('"')
    return f"{plain[:7]}…" if len(plain) > 8 else plain


def fit_text(estimate: Estimate) -> str:
    """The verdict with the memory it rests on and the context it holds for."""
    budget = estimate.tightest
    most = "at most " if estimate.at_most else ""
    return (
        f"{estimate.verdict} ({most}{_gib(budget.needed)} of {_gib(budget.available)} GiB, "
        f"{estimate.run.context:,} tokens)"
    )


def pinned_lines(done: Pulled, root: Path) -> str:
    """What was fetched, how it was checked, and what is pinned now."""
    artefact = done.artefact
    got = [
        *kind(artefact),
        ", ".join(abilities(artefact.template)) or None,
    ]
    return "\n".join(
        [
            f"fetch     {_fetched(done.obtained)}",
            f"verify    {_verified(artefact, done.obtained)}",
            f"pinned    {LOCK_NAME} ({_changed(done)})   {' · '.join(part for part in got if part)}",
            f"file      {done.artefact.weights[0].path}",
            *_next(done, root),
        ]
    )


def _next(done: Pulled, root: Path) -> Iterator[str]:
    """What to do with it: once, and from a rung."""
    path = done.artefact.weights[0].path
    if is_adapter(done.headers[0]):
        yield f'next      in rung.toml, below [rungs.NAME]: load = {{ adapters = {{ NAME = "{path}" }} }}'
        return
    named = path if done.artefact.source.startswith("file:") else done.artefact.source
    yield f"next      rung run {_shown(root / path)} 'Say hello.'"
    yield f'          in rung.toml, below [rungs.NAME]: model = "{named}"'


def warnings(done: Pulled) -> Iterator[str]:
    """What a user may not expect, a line each."""
    estimate = done.estimate
    if estimate is not None and estimate.verdict != "fits":
        yield f"{done.artefact.name}: {fit_text(estimate)}; rung fit tells what would help"
    yield from surprises(done.resolved, done.artefact)
    for each in done.obtained:
        yield from (f"{each.wanted.path.name}: {note}" for note in each.report.notes)


def facts(done: Pulled) -> dict[str, object]:
    """The same for programs."""
    artefact, estimate = done.artefact, done.estimate
    return {
        "format": 1,
        "name": artefact.name,
        "source": artefact.source,
        "revision": artefact.revision,
        "pinned": _change(done),
        "files": [
            {
                "path": file.path,
                "role": file.role,
                "size": file.size,
                "sha256": file.sha256,
                "verified": file.verified.value,
                "way": _way(each),
            }
            for file, each in zip(artefact.files, done.obtained, strict=True)
        ],
        "file_type": artefact.file_type,
        "bits_per_weight": artefact.bits_per_weight,
        "parameters": artefact.parameters,
        "context_length": artefact.context_length,
        "abilities": abilities(artefact.template),
        "licence": artefact.licence,
        "permissive": is_permissive(artefact.licence),
        "fit": _fit_facts(estimate) if estimate is not None else None,
        "warnings": list(warnings(done)),
    }


def _fit_facts(estimate: Estimate) -> dict[str, object]:
    budget = estimate.tightest
    return {
        "verdict": estimate.verdict.value,
        "context": estimate.run.context,
        "needed": budget.needed,
        "available": budget.available,
        "device": budget.device,
        "rules": estimate.rules,
    }


def restored_line(done: Restored) -> str:
    """One pinned model, and whether anything had to be fetched."""
    if not done.fetched:
        return f"{done.artefact.name:<22}  as it was pinned"
    return f"{done.artefact.name:<22}  brought back: {', '.join(done.fetched)}"


def removed_line(removed: Removed) -> str:
    """What became of unfinished files."""
    held = f"; {counted(removed.held, 'file')} being fetched left alone" if removed.held else ""
    return f"{counted(removed.files, 'unfinished file')} removed, {size(removed.size)}{held}"


def removed_facts(removed: Removed) -> dict[str, object]:
    """The same for programs."""
    return {"format": 1, **msgspec.structs.asdict(removed)}


def restored_facts(done: Sequence[Restored]) -> dict[str, object]:
    """The same for programs."""
    return {
        "format": 1,
        "models": [
            {"name": each.artefact.name, "source": each.artefact.source, "fetched": each.fetched}
            for each in done
        ],
    }


def _change(done: Pulled) -> str:
    if done.before is None:
        return "+1"
    if done.before == done.artefact:
        return "unchanged"
    same = _digests(done.before.files) == _digests(done.artefact.files)
    return "updated" if same else "replaced"


def _changed(done: Pulled) -> str:
    """The same for people: `the same files, new revision and licence`."""
    change, before, now = _change(done), done.before, done.artefact
    if change != "updated" or before is None:
        return change
    facts_ = {
        "reference": before.source == now.source,
        "revision": before.revision == now.revision,
        "licence": before.licence == now.licence,
        "fit": before.fit == now.fit,
    }
    new = [name for name, same in facts_.items() if not same]
    if "licence" in new:
        change = f"{shown(before.licence or 'none')} → {shown(now.licence or 'none')}"
        new[new.index("licence")] = f"licence ({change})"
    return f"the same files, new {' and '.join(new) or 'facts'}"


def _digests(files: Sequence[LockedFile]) -> list[str]:
    return [file.sha256 for file in files]


def _way(each: Obtained) -> str:
    if each.here:
        return "here"
    return "linked" if each.original is not None else "fetched"


def _fetched(obtained: Sequence[Obtained]) -> str:
    """How much came which way: `2.50 GB in 1 file`."""
    ways = {way: [e for e in obtained if _way(e) == way] for way in ("fetched", "linked", "here")}
    words = {"fetched": "", "linked": ", linked", "here": ", here already"}
    return " · ".join(
        f"{size(sum(e.size for e in some))} in {counted(len(some), 'file')}{words[way]}"
        for way, some in ways.items()
        if some
    )


def _verified(artefact: Artefact, obtained: Sequence[Obtained]) -> str:
    by_publisher = all(file.verified is Verified.PUBLISHER for file in artefact.files)
    digest = (
        "sha256 matches the publisher"
        if by_publisher
        else f"no digest from the publisher: sha256 {artefact.files[0].sha256[:12]}… trusted on first use"
    )
    findings = sum(len(each.report.findings) for each in obtained)
    template = "template compiles" if artefact.template is not None else "no template"
    return f"{digest} · header valid · {template}, {counted(findings, 'finding')}"


def _shown(path: Path) -> str:
    """Relative to where the user is, where that is shorter."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def _gib(number: int) -> str:
    return f"{number / 1024**3:,.2f}"
