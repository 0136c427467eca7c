"""Pinned files compared with what lies in their place: offline, in full, and saying which part is not what it was."""

from __future__ import annotations

import enum
from collections.abc import Collection
from pathlib import Path

import msgspec

from rung.errors import ModelError
from rung.models.header import Header, read_header
from rung.models.lock.changes import Part, changed_parts
from rung.models.lock.hashing import Progress, hash_file, known_hash
from rung.models.lock.identity import Slice, identity_of, sample_of, slices_of, template_of
from rung.models.lock.record import Artefact, Lock, LockedFile


class Kind(enum.StrEnum):
    """How a file differs from what is pinned."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    SIZE = "size"
    CONTENT = "content"


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One file that is not what was pinned.

    Attributes:
        artefact: name of its model.
        file: as it is pinned.
        kind: how it differs.
        size: bytes of what is there; None where that is not known.
        sha256: of what is there; None where it was not read in full, as one of another size is not.
        parts: what of the model changed; empty where that cannot be told.
        sampled: whether slices of the weights were compared; None where that was no question.
        places: how many slices were.
        reason: why it, or its header, cannot be read; None where it can.
        template: the chat template as it is now, where it is another one.
    """

    artefact: str
    file: LockedFile
    kind: Kind
    size: int | None = None
    sha256: str | None = None
    parts: tuple[Part, ...] = ()
    sampled: bool | None = None
    places: int = 0
    reason: str | None = None
    template: str | None = None


def check(
    lock: Lock,
    root: Path,
    *,
    names: Collection[str] | None = None,
    quick: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[Drift, ...]:
    """Compare files with what is pinned.

    Args:
        lock: what is pinned.
        root: the folder of the lock.
        names: of the artefacts to look at; None for all.
        quick: trust a file whose size and times are those of the last time it was read in full.
        progress: told the bytes done and the bytes in all.

    Returns:
        What differs, in the order of the lock.
    """
    chosen = [each for each in lock.artefacts if names is None or each.name in names]
    total = sum(file.size for artefact in chosen for file in artefact.files)
    walk = _Walk(root, quick, progress, total)
    return tuple(drift for artefact in chosen for drift in walk.artefact(artefact))


def read_slice(paths: tuple[Path, ...], piece: Slice) -> bytes:
    """The bytes of a slice of a model's files.

    Raises:
        ModelError: they cannot be read.
    """
    path = paths[piece.part]
    try:
        with path.open("rb") as file:
            file.seek(piece.start)
            return file.read(piece.length)
    except OSError as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error.strerror or error}",
            hint="check its permissions",
        ) from error


class _Walk:
    """From pinned file to pinned file, with how far it is."""

    def __init__(self, root: Path, quick: bool, progress: Progress, total: int) -> None:
        self._root = root
        self._quick = quick
        self._progress = progress
        self._total = total
        self._done = 0

    def artefact(self, artefact: Artefact) -> list[Drift]:
        """What differs of one model."""
        drifts: list[Drift] = []
        for file in artefact.files:
            drift = self._file(artefact, file)
            self._done += file.size
            self._progress(self._done, self._total)
            if drift is not None:
                drifts.append(drift)
        return _explained(artefact, self._root, drifts)

    def _file(self, artefact: Artefact, file: LockedFile) -> Drift | None:
        path = self._root / file.path
        name = artefact.name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return Drift(artefact=name, file=file, kind=Kind.MISSING)
        except OSError as error:
            reason = error.strerror or str(error)
            return Drift(artefact=name, file=file, kind=Kind.UNREADABLE, reason=reason)
        try:
            if size != file.size:
                return Drift(artefact=name, file=file, kind=Kind.SIZE, size=size)
            found = (known_hash(path) if self._quick else None) or self._hash(path)
        except ModelError as error:
            return Drift(artefact=name, file=file, kind=Kind.UNREADABLE, reason=error.message)
        if found == file.sha256:
            return None
        return Drift(artefact=name, file=file, kind=Kind.CONTENT, size=size, sha256=found)

    def _hash(self, path: Path) -> str:
        before = self._done
        return hash_file(path, lambda done, _: self._progress(before + done, self._total))


def _explained(artefact: Artefact, root: Path, drifts: list[Drift]) -> list[Drift]:
    """The same with what changed, as the headers of the files that are there tell."""
    replaced = [drift for drift in drifts if drift.kind in (Kind.SIZE, Kind.CONTENT)]
    if not any(drift.file.role == "weights" for drift in replaced):
        return [_beside(drift) if drift in replaced else drift for drift in drifts]
    paths = tuple(root / file.path for file in artefact.weights)
    try:
        headers = tuple(read_header(path) for path in paths)
        sample = None if artefact.sample is None else _sampled(headers, paths)
    except ModelError as error:
        return [_unread(drift, error) if drift in replaced else drift for drift in drifts]
    parts = changed_parts(artefact, identity_of(headers), sample)
    template = template_of(headers)
    return [
        msgspec.structs.replace(
            drift,
            parts=parts,
            sampled=sample is not None,
            places=len(slices_of(headers)) if sample is not None else 0,
            template=template if Part.TEMPLATE in parts else None,
        )
        if drift in replaced and drift.file.role == "weights"
        else _beside(drift)
        for drift in drifts
    ]


def _sampled(headers: tuple[Header, ...], paths: tuple[Path, ...]) -> str | None:
    return sample_of(headers, lambda piece: read_slice(paths, piece))


def _beside(drift: Drift) -> Drift:
    """A file that is no header's business."""
    if drift.kind in (Kind.SIZE, Kind.CONTENT):
        return msgspec.structs.replace(drift, parts=(Part.FILES,))
    return drift


def _unread(drift: Drift, error: ModelError) -> Drift:
    if drift.file.role != "weights":
        return _beside(drift)
    return msgspec.structs.replace(drift, reason=error.message)
