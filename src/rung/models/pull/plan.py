"""Which files a pull fetches, what they are called here, and whether they may take the place of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from rung.errors import InputError, ModelError
from rung.models.lock.record import Artefact, Lock, LockedFile
from rung.models.names import is_plain_path
from rung.models.reference import Origin, Reference
from rung.models.sources.resolved import RemoteFile, Resolved, Role

FOLDER = "models"
"""Folder of a project that models lie in."""

LARGEST_SIDE_FILE = 4 * 1024 * 1024
"""Bytes; templates, licences and parameters have some kilobytes."""

_ENDINGS = {
    Role.PROJECTOR: ".mmproj.gguf",
    Role.ADAPTER: ".adapter.gguf",
    Role.LICENCE: ".licence.txt",
    Role.SYSTEM: ".system.txt",
    Role.PARAMETERS: ".parameters.json",
}
"""What follows the model's name where a source has no names of its own. A registry's template is left out: it is of
another language than the model file's own, which is the one in use; the manifest's digest pins it all the same."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One file to be had.

    Attributes:
        file: at its source; its digest is the publisher's, or the pinned one where it is pinned.
        source: reference of the model that it is of.
        path: where it is going to lie.
        by_publisher: whether the digest is the publisher's; False while there is none.
        etag: the source's name for its content where that is all that is known of it.
        replace: whether another file may lie there and lose its place.
    """

    file: RemoteFile
    source: str
    path: Path
    by_publisher: bool
    etag: str | None = None
    replace: bool


def folder_of(lock: Lock, reference: Reference, into: str | None = None) -> str:
    """The folder that a reference's files go to, relative to the project: where they are pinned, or `models`.

    Args:
        lock: of the project.
        reference: of the model.
        into: folder below `models` that was asked for.

    Raises:
        InputError: that is none, or the reference is pinned in another one.
    """
    pinned = lock.find(str(reference))
    if into is not None and not is_plain_path(into):
        raise InputError(
            f"{into!r} is not the plain name of a folder below {FOLDER!r}",
            hint="name it as in --into maker",
        )
    asked = FOLDER if into is None else f"{FOLDER}/{into}"
    if pinned is None:
        return asked
    held = pinned.files[0].path.rpartition("/")[0]
    if into is not None and held != asked:
        raise InputError(
            f"{reference} is pinned as {pinned.files[0].path!r} already",
            hint=f"leave out --into, or first rung lock --remove {pinned.name}",
        )
    return held


def wanted(
    resolved: Resolved, root: Path, *, projector: bool, replace: bool, folder: str = FOLDER
) -> tuple[Wanted, ...]:
    """The files that a reference names, weights first.

    Args:
        resolved: what it names.
        root: folder of the project.
        projector: a projector among them is wanted, too.
        replace: other files may be in the way.
        folder: that they go to, relative to the project.

    Raises:
        ModelError: there are no weights, or two files would have one name.
    """
    named = _each_content_once(resolved, _named(resolved, projector))
    if not any(file.role is Role.WEIGHTS for _, file in named):
        raise ModelError(
            f"{resolved.reference} names no model weights", hint="name a .gguf file of it"
        )
    names = [name for name, _ in named]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ModelError(
            f"{resolved.reference} has two files {min(twice)!r}", hint="name one of them exactly"
        )
    return tuple(
        Wanted(
            file=file,
            source=str(resolved.reference),
            path=root / folder / name,
            by_publisher=file.sha256 is not None,
            etag=resolved.revision if resolved.reference.origin is Origin.URL else None,
            replace=replace,
        )
        for name, file in named
    )


def _each_content_once(
    resolved: Resolved, named: Iterable[tuple[str, RemoteFile]]
) -> tuple[tuple[str, RemoteFile], ...]:
    """The files without repetitions: while they are fetched they lie under their digests, in each other's way."""
    kept: dict[str, tuple[str, RemoteFile]] = {}
    for name, file in named:
        key = file.sha256 or file.url or file.name
        if key in kept and file.role is Role.WEIGHTS:
            raise ModelError(
                f"{resolved.reference} has two parts of the same content, {kept[key][0]!r} and {name!r}",
                hint="choose another quantisation or repository; this one is damaged",
            )
        kept.setdefault(key, (name, file))
    return tuple(kept.values())


def restored(
    resolved: Resolved, artefact: Artefact, root: Path, *, missing: Iterable[LockedFile]
) -> tuple[Wanted, ...]:
    """The files of a pinned model, as they were pinned.

    Args:
        resolved: what its source gives at the pinned revision.
        artefact: as it is pinned.
        root: folder of the lock.
        missing: files that are not here as they were pinned.

    Raises:
        ModelError: the source does not have one of them any more.
    """
    offered = (*resolved.files, *resolved.others)
    return tuple(_restored(file, artefact, offered, root) for file in missing)


def _restored(
    file: LockedFile, artefact: Artefact, offered: Iterable[RemoteFile], root: Path
) -> Wanted:
    for other in offered:
        same = other.sha256 == file.sha256 if other.sha256 else _called_alike(other, file)
        if same and other.size in (None, file.size):
            pinned = msgspec.structs.replace(other, sha256=file.sha256, size=file.size)
            return Wanted(
                file=pinned,
                source=artefact.source,
                path=root / file.path,
                by_publisher=other.sha256 is not None,
                replace=True,
            )
    raise ModelError(
        f"{artefact.source} does not have the pinned {file.path!r} (sha256 {file.sha256[:12]}…) any more",
        hint="restore it from a backup; or pin what there is now: rung pull --force "
        + artefact.source,
    )


def _called_alike(other: RemoteFile, file: LockedFile) -> bool:
    return other.role == file.role and Path(other.name).name == Path(file.path).name


def _named(resolved: Resolved, projector: bool) -> Iterator[tuple[str, RemoteFile]]:
    """Each file with its name here."""
    if resolved.reference.origin is Origin.OLLAMA:
        yield from _ollama_names(resolved)
        return
    for file in resolved.files:
        if file.role is Role.WEIGHTS or (projector and file.role is Role.PROJECTOR):
            yield _last_part(file.name), file


def _ollama_names(resolved: Resolved) -> Iterator[tuple[str, RemoteFile]]:
    """`name-tag` and an ending for each layer that Rung has a use for."""
    reference = resolved.reference
    tag = (reference.revision or "latest").removeprefix("sha256:")[:40]
    stem = f"{_last_part(reference.repo)}-{tag}"
    weights = resolved.weights
    for number, file in enumerate(weights, start=1):
        part = f"-{number:05}-of-{len(weights):05}" if len(weights) > 1 else ""
        yield f"{stem}{part}.gguf", file
    for role, ending in _ENDINGS.items():
        layers = [file for file in resolved.files if file.role is role]
        for number, file in enumerate(layers, start=1):
            small = role in (Role.PROJECTOR, Role.ADAPTER) or (file.size or 0) <= LARGEST_SIDE_FILE
            if small:
                yield f"{stem}{'' if number == 1 else f'.{number}'}{ending}", file


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]
