"""`pull`: from a reference to a model that is whole, checked, visible and pinned, or to none of these.

Nothing is visible before all files are whole, right and harmless; the model's first file comes last, and the entry in
`rung.lock` after it. What a process that was killed left is found and used by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rung.models.fit.estimate import Estimate
from rung.models.header import Header, read_header
from rung.models.lock.file import LOCK_NAME, read_lock, update_lock
from rung.models.lock.identity import identity_of
from rung.models.lock.pinning import artefact_of
from rung.models.lock.record import Artefact, LockedFile, Verified
from rung.models.pull.agreement import (
    apart,
    below,
    check_digests,
    check_licence,
    check_pin,
    pinned_as,
    with_right_of_pin,
)
from rung.models.pull.download import Streams
from rung.models.pull.events import Changed, Settled, Tell
from rung.models.pull.extra import projector_of, with_projector
from rung.models.pull.fetching import Batch, fetching
from rung.models.pull.fitting import fit_record
from rung.models.pull.obtaining import Obtained
from rung.models.pull.plan import folder_of, wanted
from rung.models.reference import Origin, Reference
from rung.models.shards import check_parts
from rung.models.sources.resolved import Resolved, Role

Fit = Callable[[Resolved, Sequence[Header]], Estimate | None]
"""Says how a model fits, None of an adapter; or raises `GateError` when it does not."""


class Source(Streams, Protocol):
    """Where models come from; `Sources` is the real one."""

    async def resolve(self, reference: Reference) -> Resolved:
        """What a reference names, pinned."""

    async def headers(self, resolved: Resolved) -> tuple[Header, ...]:
        """The headers of its weights, before they are fetched."""


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """What is here now.

    Attributes:
        artefact: as it is pinned.
        before: what was pinned under its source, None for nothing.
        resolved: what its reference named.
        estimate: how it fits this machine; None of an adapter.
        headers: of its weights.
        obtained: its files.
    """

    artefact: Artefact
    before: Artefact | None
    resolved: Resolved
    estimate: Estimate | None
    headers: tuple[Header, ...]
    obtained: tuple[Obtained, ...]


async def pull(
    reference: Reference,
    root: Path,
    sources: Source,
    *,
    fit: Fit,
    tell: Tell,
    force: bool = False,
    projector: str | None = None,
    into: str | None = None,
) -> Pulled:
    """Fetch a model into a project and pin it.

    Args:
        reference: what to fetch.
        root: folder of the project; files go below it into `models`, the pin into `rung.lock`.
        sources: where models come from.
        fit: says whether the model fits; asked before anything is fetched.
        tell: told how it goes, for some steps in another thread.
        force: replace files and pins that are in the way.
        projector: name of the repository's file that reads pictures; None for the one that is pinned, if any.
        into: folder below `models` for the files; None for where they are pinned, or else `models` itself.

    Raises:
        GateError: it does not fit, the scan blocks it, or it is pinned otherwise.
        ModelError: the source has no such model, or what it has is none.
        SourceError: the source cannot be reached, or gives other bytes than its publisher states.
        InputError: another file lies where it would go, or it is pinned in another folder.
        StorageError: the disk is full or cannot be written.
    """
    lock = read_lock(root / LOCK_NAME)
    folder = folder_of(lock, reference, into)
    resolved = await sources.resolve(reference)
    if extra := projector or projector_of(lock.find(str(reference))):
        resolved = await with_projector(resolved, extra, sources)
    files = wanted(resolved, root, projector=True, replace=force, folder=folder)
    files = apart(files, lock, resolved, root)
    before = pinned_as(lock, resolved, files, root)
    if before is not None and not force:
        check_pin(before, resolved, files, root)
    files = tuple(with_right_of_pin(each, before, resolved.revision, root) for each in files)
    headers = await sources.headers(resolved)
    if before is not None and not force:
        check_licence(before, resolved, headers)
    estimate = fit(resolved, headers)
    tell(Settled(resolved, headers, estimate))
    async with fetching(files, resolved.store, root, sources, tell) as batch:
        if before is not None and not force:
            check_digests(before, batch.obtained, root)
        read = _headers_of(batch.obtained)
        if identity_of(read) != identity_of(headers):
            # The source changed the file meanwhile: what came is what has to fit.
            tell(Changed(batch.obtained[0].wanted.path.name))
            estimate = fit(resolved, read)
        await batch.show()
        return _pin(resolved, before, batch, read, root, estimate)


def _headers_of(obtained: Sequence[Obtained]) -> tuple[Header, ...]:
    """The headers of the weights where they are now, of which parts belong together."""
    headers = tuple(
        read_header(each.lies) for each in obtained if each.wanted.file.role is Role.WEIGHTS
    )
    check_parts(headers)
    return headers


def _pin(
    resolved: Resolved,
    before: Artefact | None,
    batch: Batch,
    headers: tuple[Header, ...],
    root: Path,
    estimate: Estimate | None,
) -> Pulled:
    obtained = batch.obtained
    if resolved.reference.origin is Origin.URL:  # what came counts, not what was announced
        resolved = msgspec.structs.replace(resolved, revision=obtained[0].etag or "")
    locked = tuple(_locked(each, root) for each in obtained)
    fit = fit_record(estimate, headers) if estimate is not None else None
    artefact = artefact_of(resolved, locked, headers, root=root, fit=fit)
    batch.confirm()
    lock = update_lock(root / LOCK_NAME, lambda lock: lock.put(artefact))
    return Pulled(
        artefact=lock.find(artefact.source) or artefact,
        before=before,
        resolved=resolved,
        estimate=estimate,
        headers=headers,
        obtained=obtained,
    )


def _locked(each: Obtained, root: Path) -> LockedFile:
    return LockedFile(
        role=each.wanted.file.role.value,
        path=below(each.wanted.path, root),
        size=each.size,
        sha256=each.sha256,
        verified=Verified.PUBLISHER if each.wanted.by_publisher else Verified.COMPUTED,
    )
