"""What publishers have now under the references that models were pinned by; weights are not fetched.

Digests decide whether a file is another one; which part of it is, its header tells, read over ranges, and slices of
the weights where only the header seems to have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from rung.errors import ConfigError, InputError, ModelError, RungError, SourceError, first_of
from rung.models.header import Header
from rung.models.lock.changes import Part, changed_parts
from rung.models.lock.file import LOCK_NAME
from rung.models.lock.identity import identity_of, slices_of, template_of
from rung.models.lock.record import Artefact
from rung.models.lock.sampling import remote_sample
from rung.models.lock.sidefiles import Beside, beside
from rung.models.reference import Origin, Reference, parse_reference
from rung.models.sources.choice import quant_of
from rung.models.sources.resolved import Resolved

if TYPE_CHECKING:
    from rung.models.sources.opening import Sources

AT_ONCE = 4
"""Models that are asked after at once."""


class State(enum.StrEnum):
    """How a pinned model stands to what its publisher has.

    `current`: the reference names the same revision. `revision`: another one with the same files. `changed`: other
    files, or at the same revision not those that are pinned. `gone`: nothing there, or nothing for us.
    `unanswerable`: there is nobody to ask. `unreachable`: no answer.
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
        sampled: whether slices of the weights were compared; None where that was no question.
        places: how many slices were.
        licence: as the publisher says now.
        template: the chat template now, where it is another one.
        reason: what is in the way, or why it cannot be told; None where nothing is.
        broken_off: whether the source failed before all was known that it could have told.
    """

    artefact: Artefact
    state: State
    revision: str | None = None
    parts: tuple[Part, ...] = ()
    sampled: bool | None = None
    places: int = 0
    licence: str | None = None
    template: str | None = None
    reason: str | None = None
    broken_off: bool = False


async def updates(artefacts: Iterable[Artefact], sources: Sources) -> tuple[Update, ...]:
    """Ask after pinned models, in their order; what goes wrong with one at its source is said of it.

    Args:
        artefacts: as they are pinned.
        sources: where to ask.

    Raises:
        ConfigError: the lock names a source that is none.
        InputError: the environment names an address that is none.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def asked(artefact: Artefact) -> Update:
        async with turn:
            return await _update(artefact, sources)

    try:
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(asked(artefact)) for artefact in artefacts]
    except BaseExceptionGroup as errors:
        raise first_of(errors) from errors
    return tuple(task.result() for task in asking)


async def _update(artefact: Artefact, sources: Sources) -> Update:
    reference = _reference(artefact)
    if reason := _unanswerable(reference, artefact):
        return Update(artefact=artefact, state=State.UNANSWERABLE, reason=reason)
    try:
        resolved = await _resolved(reference, artefact, sources)
        return await _compared(artefact, resolved, sources)
    except SourceError as error:
        return Update(artefact=artefact, state=State.UNREACHABLE, reason=error.message)
    except ModelError as error:
        return Update(artefact=artefact, state=State.GONE, reason=error.message)


def _reference(artefact: Artefact) -> Reference:
    try:
        return parse_reference(artefact.source)
    except InputError as error:
        raise ConfigError(
            f"{LOCK_NAME}: the source of {artefact.name!r} is no name of a model: {error.message}",
            hint="restore it from version control, or pin the model again",
        ) from error


def _unanswerable(reference: Reference, artefact: Artefact) -> str | None:
    """Why there is nobody to ask after a model; None where there is."""
    if reference.query is not None:
        return "its address took a query, which is kept nowhere: it cannot be asked again"
    if reference.origin in (Origin.FILE, Origin.LMSTUDIO):
        return "a file of this machine has no publisher to ask"
    if artefact.revision:
        return None
    if reference.origin is Origin.URL:
        return "its server gave no strong etag, so only fetching it again would tell"
    return "it was fetched without a revision to compare"


async def _resolved(reference: Reference, artefact: Artefact, sources: Sources) -> Resolved:
    """What the model's publisher has now, at best the file that is pinned.

    Raises:
        ModelError: neither the reference names anything, nor is that file there.
        SourceError: the source cannot be reached.
    """
    for asked in _ways(reference, artefact):
        with contextlib.suppress(ModelError):  # what the reference itself meets is said below
            return await sources.resolve(asked)
    return await sources.resolve(reference)


def _ways(reference: Reference, artefact: Artefact) -> tuple[Reference, ...]:
    """What to ask for before the reference itself: what a short one means depends on what else there is by now."""
    if reference.origin is not Origin.HF or reference.file is not None:
        return ()
    name = artefact.weights[0].path.rpartition("/")[2]
    by_file = msgspec.structs.replace(reference, quant=None, file=name)
    if reference.quant is not None:
        return (reference, by_file)
    label = quant_of(name)
    by_label = (msgspec.structs.replace(reference, quant=label),) if label else ()
    return (by_file, *by_label)


async def _compared(artefact: Artefact, resolved: Resolved, sources: Sources) -> Update:
    facts = Update(
        artefact=artefact,
        state=State.CURRENT,
        revision=resolved.revision,
        licence=resolved.licence,
    )
    if resolved.revision == artefact.revision and not _is_another(artefact, resolved):
        return facts
    found = beside(artefact, resolved)
    parts = _parts_beside(artefact, resolved, found)
    facts = msgspec.structs.replace(facts, state=State.CHANGED, parts=parts, reason=found.reason)
    if _same_weights(artefact, resolved):
        state = State.CHANGED if parts else State.REVISION
        return msgspec.structs.replace(facts, state=state)
    try:
        headers = await sources.headers(resolved)
        return await _looked_into(facts, headers, resolved, sources)
    except ModelError as error:
        return msgspec.structs.replace(facts, reason=_more(facts, error))
    except SourceError as error:
        if not _digests(resolved):
            raise
        return msgspec.structs.replace(facts, reason=_more(facts, error), broken_off=True)


def _is_another(artefact: Artefact, resolved: Resolved) -> bool:
    """Whether what was pinned at a revision is not what its publisher has there, as another program's copy may be."""
    return bool(_digests(resolved)) and not _same_weights(artefact, resolved)


def _more(facts: Update, error: RungError) -> str:
    """What is to be said, and that the header could not be read."""
    before = f"{facts.reason}; " if facts.reason else ""
    return f"{before}its header cannot be read: {error.message}"


async def _looked_into(
    facts: Update, headers: Sequence[Header], resolved: Resolved, sources: Sources
) -> Update:
    """The same with what changed, as the header and slices of the weights tell."""
    artefact, now = facts.artefact, identity_of(headers)
    pinned, slices = artefact.identity, slices_of(headers)
    sample = None
    if now.tensor_table == pinned.tensor_table and artefact.sample is not None:
        sample = await remote_sample(slices, resolved.weights, sources)
    noted = now if pinned.layout is not None else msgspec.structs.replace(now, layout=None)
    if noted == pinned and sample == artefact.sample and not _digests(resolved):
        # Without a digest nothing says that the weights are others, and their slices say that they are not.
        state = State.CHANGED if facts.parts else State.REVISION
        return msgspec.structs.replace(facts, state=state)
    parts = changed_parts(artefact, now, sample)
    return msgspec.structs.replace(
        facts,
        parts=parts + facts.parts,
        sampled=sample is not None,
        places=len(slices) if sample is not None else 0,
        template=template_of(headers) if Part.TEMPLATE in parts else None,
    )


def _same_weights(artefact: Artefact, resolved: Resolved) -> bool:
    """Whether the publisher still has the very files, under the reference or, where that is short, beside it."""
    pinned = [file.sha256 for file in artefact.weights]
    if _digests(resolved) == pinned:
        return True
    asked = resolved.reference
    there = {file.sha256 for file in (*resolved.files, *resolved.others)}
    return asked.quant is None and asked.file is None and there.issuperset(pinned)


def _digests(resolved: Resolved) -> list[str]:
    """The publisher's digests of the weights; empty where one has none."""
    digests = [file.sha256 for file in resolved.weights if file.sha256 is not None]
    return digests if len(digests) == len(resolved.weights) else []


def _parts_beside(artefact: Artefact, resolved: Resolved, found: Beside) -> tuple[Part, ...]:
    """What changed beside the weights: other files that are pinned, and the licence."""
    files = (Part.FILES,) if found.changed else ()
    told = resolved.licence is not None and resolved.licence != artefact.licence
    return (*files, Part.LICENCE) if told else files
