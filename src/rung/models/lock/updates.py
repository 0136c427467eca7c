"""What publishers have now under the references that models were pinned by; weights are not fetched.

Digests decide whether a file is another one; which part of it is, its header tells, read over ranges, and slices of
the weights where only the header seems to have changed.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from rung.errors import InputError, ModelError, SourceError, first_of
from rung.models.header import Header
from rung.models.lock.changes import Part, changed_parts
from rung.models.lock.identity import Slice, digest_of_slices, identity_of, slices_of, template_of
from rung.models.lock.record import Artefact
from rung.models.reference import Origin, parse_reference
from rung.models.sources.resolved import RemoteFile, Resolved, Role

if TYPE_CHECKING:
    from rung.models.sources.opening import Sources

AT_ONCE = 4
"""Models that are asked after at once."""


class State(enum.StrEnum):
    """How a pinned model stands to what its publisher has.

    `current`: the reference names the same revision. `revision`: another one with the same files. `changed`: other
    files. `gone`: nothing there, or nothing for us. `unanswerable`: there is nobody to ask. `unreachable`: no answer.
    """

    CURRENT = "current"
    REVISION = "revision"
    CHANGED = "changed"
    GONE = "gone"
    UNANSWERABLE = "unanswerable"
    UNREACHABLE = "unreachable"


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the reference of one pinned model.

    Attributes:
        artefact: as it is pinned.
        state: how it stands.
        revision: that the reference names now, None where that is not known.
        parts: what changed; empty with `changed` where that cannot be told.
        sampled: whether slices of the weights were compared, where only the header seems to have changed.
        licence: as the publisher says now.
        template: the chat template now, where it is another one.
        reason: what is in the way, or why it cannot be told; None where nothing is.
    """

    artefact: Artefact
    state: State
    revision: str | None = None
    parts: tuple[Part, ...] = ()
    sampled: bool = True
    licence: str | None = None
    template: str | None = None
    reason: str | None = None


async def updates(artefacts: Iterable[Artefact], sources: Sources) -> tuple[Update, ...]:
    """Ask after pinned models, in their order; what goes wrong with one is said of it.

    Args:
        artefacts: as they are pinned.
        sources: where to ask.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def asked(artefact: Artefact) -> Update:
        async with turn:
            return await _update(artefact, sources)

    return tuple(await asyncio.gather(*(asked(artefact) for artefact in artefacts)))


async def _update(artefact: Artefact, sources: Sources) -> Update:
    try:
        reference = parse_reference(artefact.source)
        if reference.origin in (Origin.FILE, Origin.LMSTUDIO) or not artefact.revision:
            reason = _NOBODY.get(reference.origin, "it was fetched without a revision to compare")
            return Update(artefact=artefact, state=State.UNANSWERABLE, reason=reason)
        resolved = await sources.resolve(reference)
        return await _compared(artefact, resolved, sources)
    except SourceError as error:
        return Update(artefact=artefact, state=State.UNREACHABLE, reason=error.message)
    except (InputError, ModelError) as error:
        return Update(artefact=artefact, state=State.GONE, reason=error.message)


_NOBODY = {
    Origin.FILE: "a file of this machine has no publisher to ask",
    Origin.LMSTUDIO: "a file of this machine has no publisher to ask",
    Origin.URL: "its server gave no strong etag, so only fetching it again would tell",
}


async def _compared(artefact: Artefact, resolved: Resolved, sources: Sources) -> Update:
    facts = Update(
        artefact=artefact,
        state=State.CURRENT,
        revision=resolved.revision,
        licence=resolved.licence,
    )
    if resolved.revision == artefact.revision:
        return facts
    beside = _beside(artefact, resolved)
    if _same_weights(artefact, resolved):
        state = State.CHANGED if beside else State.REVISION
        return msgspec.structs.replace(facts, state=state, parts=beside)
    facts = msgspec.structs.replace(facts, state=State.CHANGED)
    try:
        headers = await sources.headers(resolved)
        return await _looked_into(facts, headers, resolved, sources, beside)
    except ModelError as error:
        return msgspec.structs.replace(facts, parts=beside, reason=error.message)


async def _looked_into(
    facts: Update,
    headers: Sequence[Header],
    resolved: Resolved,
    sources: Sources,
    beside: tuple[Part, ...],
) -> Update:
    """The same with what changed, as the header and slices of the weights tell."""
    artefact, now = facts.artefact, identity_of(headers)
    sample = None
    if now.tensor_table == artefact.identity.tensor_table and artefact.sample is not None:
        sample = await _sample(headers, resolved.weights, sources)
    if now == artefact.identity and sample == artefact.sample and not _digests(resolved):
        # Without a digest nothing says that the weights are others, and their slices say that they are not.
        state = State.CHANGED if beside else State.REVISION
        return msgspec.structs.replace(facts, state=state, parts=beside)
    parts = changed_parts(artefact, now, sample)
    return msgspec.structs.replace(
        facts,
        parts=parts + beside,
        sampled=sample is not None,
        template=template_of(headers) if Part.TEMPLATE in parts else None,
    )


def _same_weights(artefact: Artefact, resolved: Resolved) -> bool:
    """Whether the publisher's digests are those that are pinned."""
    return _digests(resolved) == [file.sha256 for file in artefact.weights]


def _digests(resolved: Resolved) -> list[str]:
    """The publisher's digests of the weights; empty where one has none."""
    digests = [file.sha256 for file in resolved.weights if file.sha256 is not None]
    return digests if len(digests) == len(resolved.weights) else []


def _beside(artefact: Artefact, resolved: Resolved) -> tuple[Part, ...]:
    """What changed beside the weights: other files that are pinned, and the licence."""
    changed = [
        file
        for file in artefact.files
        if file.role != Role.WEIGHTS
        and (
            now := [
                each.sha256
                for each in (*resolved.files, *resolved.others)
                if each.role == file.role
            ]
        )
        and None not in now
        and file.sha256 not in now
    ]
    files = (Part.FILES,) if changed else ()
    told = resolved.licence is not None and resolved.licence != artefact.licence
    return (*files, Part.LICENCE) if told else files


async def _sample(
    headers: Sequence[Header], weights: Sequence[RemoteFile], sources: Sources
) -> str | None:
    """The digest of slices of the weights, None where the server gives no parts of files."""
    slices = slices_of(headers)
    try:
        async with asyncio.TaskGroup() as group:
            reading = [
                group.create_task(_read(weights[each.part], each, sources)) for each in slices
            ]
    except BaseExceptionGroup as errors:
        raise first_of(errors) from errors
    pieces = [task.result() for task in reading]
    if any(len(piece) != each.length for piece, each in zip(pieces, slices, strict=True)):
        return None
    return digest_of_slices(pieces) if slices else None


async def _read(file: RemoteFile, piece: Slice, sources: Sources) -> bytes:
    """The bytes of a slice; fewer where the server does not give them."""
    found = bytearray()
    async with sources.stream(file, start=piece.start, length=piece.length) as stream:
        if stream.start == piece.start:
            async for chunk in stream.chunks:
                found += chunk
                if len(found) >= piece.length:
                    break
    return bytes(found[: piece.length])
