"""`rung pull` without a reference: every pinned model as it was pinned, or an error that says which cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from rung.errors import ConfigError, ModelError
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.models.lock.record import Artefact, LockedFile
from rung.models.pull.events import Hashing, Here, Tell
from rung.models.pull.extra import projector_of, with_projector
from rung.models.pull.fetching import fetching
from rung.models.pull.hashing import sha256_of
from rung.models.pull.plan import restored
from rung.models.pull.pulling import Source
from rung.models.reference import Origin, Reference, names_source, parse_reference


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """One pinned model that is here.

    Attributes:
        artefact: as it is pinned.
        fetched: paths of the files that had to be fetched again.
    """

    artefact: Artefact
    fetched: tuple[str, ...]


def pinned(root: Path) -> tuple[Artefact, ...]:
    """Every pinned model of a project.

    Raises:
        ConfigError: nothing is pinned, or the lock is damaged.
    """
    found = read_lock(root / LOCK_NAME).artefacts
    if not found:
        raise ConfigError(
            f"{root / LOCK_NAME}: nothing is pinned here",
            hint="name a model to fetch and pin it: rung pull hf:owner/repo:Q4_K_M",
        )
    return found


def pinned_by(text: str, root: Path) -> Artefact | None:
    """The model that is pinned under a name or a reference, or whose file a path leads to; None where none is.

    Args:
        text: as somebody typed it.
        root: folder of the project.

    Raises:
        ConfigError: the lock is damaged.
    """
    lock = read_lock(root / LOCK_NAME)
    path = Path(os.path.relpath(text, root)).as_posix()
    holder = None if names_source(text) else lock.holder(path)
    return holder[0] if holder is not None else lock.find(text)


def source_now(artefact: Artefact, root: Path) -> Reference:
    """The reference that a model was pinned by, to ask for what it names now."""
    reference = parse_reference(artefact.source)
    if reference.origin is Origin.FILE:
        return msgspec.structs.replace(reference, repo=str(root / reference.repo))
    return reference


async def restore(artefact: Artefact, root: Path, sources: Source, tell: Tell) -> Restored:
    """Bring back the files of a pinned model that are missing or changed; the pin stays as it is.

    Args:
        artefact: as it is pinned.
        root: folder of the lock.
        sources: where models come from; asked only when a file is to be fetched.
        tell: told how it goes.

    Raises:
        ModelError: the source does not have the pinned files any more.
        SourceError: it cannot be reached, or gives other bytes.
        GateError: the scan blocks a file.
        StorageError: the disk is full or cannot be written.
    """
    missing = tuple([file for file in artefact.files if not await _is_right(file, root, tell)])
    if missing:
        reference = pinned_reference(artefact)
        if reference.origin is Origin.FILE and not Path(reference.repo).is_absolute():
            raise ModelError(
                f"{missing[0].path!r} is not what was pinned, and was pinned from a file of this machine",
                hint=f"bring back the file with the sha256 {missing[0].sha256[:12]}…, or pin what is there: rung lock",
            )
        resolved = await sources.resolve(reference)
        if extra := projector_of(artefact):
            resolved = await with_projector(resolved, extra, sources)
        files = restored(resolved, artefact, root, missing=missing)
        async with fetching(files, resolved.store, root, sources, tell) as batch:
            await batch.show()
    return Restored(artefact=artefact, fetched=tuple(file.path for file in missing))


def pinned_reference(artefact: Artefact) -> Reference:
    """The reference of an artefact, at the revision that is pinned."""
    reference = parse_reference(artefact.source)
    if reference.origin in (Origin.HF, Origin.OLLAMA) and artefact.revision:
        return msgspec.structs.replace(reference, revision=artefact.revision)
    return reference


async def _is_right(file: LockedFile, root: Path, tell: Tell) -> bool:
    path = root / file.path
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    name = path.name
    found = await sha256_of(path, lambda done, total: tell(Hashing(name, done, total)))
    if found == file.sha256:
        tell(Here(name))
    return found == file.sha256
