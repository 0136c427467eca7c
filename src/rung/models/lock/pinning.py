"""The record of a model that is on this machine: what `rung.lock` says of it. Fetching it is `pull`'s."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rung.errors import ModelError
from rung.ids import now
from rung.models.filetypes import file_type_name
from rung.models.fingerprint import unchanged
from rung.models.header import Header, read_header
from rung.models.lock.drift import read_slice
from rung.models.lock.hashing import Progress, hash_file
from rung.models.lock.identity import identity_of, sample_of, template_of
from rung.models.lock.record import Artefact, FitRecord, LockedFile, Signature, Verified
from rung.models.lock.sound import is_below, is_nameable
from rung.models.reference import Origin, Reference
from rung.models.shards import part_names, read_model, unsplit
from rung.models.sources.resolved import RemoteFile, Resolved, Role
from rung.text import plain
from rung.version import __version__


def artefact_of(
    resolved: Resolved,
    files: Sequence[LockedFile],
    headers: Sequence[Header],
    *,
    root: Path | None = None,
    fit: FitRecord | None = None,
    signature: Signature | None = None,
) -> Artefact:
    """The record of a model.

    Args:
        resolved: what its reference named.
        files: as they lie on this machine, weights first, shards in order.
        headers: of the weights.
        root: the folder of the lock, where slices of the weights are to be read from.
        fit: what memory it is expected to take.
        signature: of the publisher, where one was checked.

    Raises:
        ModelError: the weights cannot be read.
    """
    weights = [file for file in files if file.role == Role.WEIGHTS]
    paths = tuple(root / file.path for file in weights) if root is not None else ()
    first = headers[0]
    return Artefact(
        name=_name(weights[0].path),
        source=_source(resolved.reference, weights[0].path),
        revision=plain(resolved.revision),
        files=tuple(files),
        identity=identity_of(headers),
        sample=sample_of(headers, lambda piece: read_slice(paths, piece)) if paths else None,
        architecture=plain(first.architecture),
        file_type=file_type_name(first.number("general.file_type")),
        parameters=sum(header.parameters for header in headers),
        bits_per_weight=_bits_per_weight(headers),
        context_length=first.number(f"{first.architecture}.context_length"),
        licence=licence_of(resolved, headers),
        base_models=tuple(plain(each) for each in resolved.base_models),
        engine=engine_build(),
        fit=fit,
        template=template_of(headers),
        signature=signature,
        retrieved=now(),
        rung=__version__,
    )


def licence_of(resolved: Resolved, headers: Sequence[Header]) -> str | None:
    """The licence of a model as the lock has it: what the source states, or else the file."""
    licence = resolved.licence or headers[0].text("general.license")
    return plain(licence) if licence else None


def local_artefact(
    path: str, root: Path, *, progress: Progress = lambda done, total: None
) -> Artefact:
    """The record of a model that lies below a project's folder; of a split one, name the first part.

    Args:
        path: relative to `root`, with forward slashes.
        root: the folder of the lock.
        progress: told the bytes hashed of a file and its bytes in all.

    Raises:
        ModelError: it is no model, or lies elsewhere.
    """
    if not is_nameable(path):
        raise ModelError(
            f"the name {path!r} has characters that cannot stand in rung.lock, which is to be read on every platform",
            hint="rename the file: no backslashes, nothing that cannot be seen",
        )
    if not is_below(path):
        raise ModelError(
            f"{path!r} does not lie below the folder of rung.lock, which holds for every checkout of it",
            hint=f"bring it there without copying: rung pull file:{path}",
        )
    pure = PurePosixPath(path)
    parts = [pure.with_name(name).as_posix() for name in part_names(pure.name)]
    with unchanged([root / part for part in parts]):  # headers, digests and slices are of one file
        headers = read_model(root / path)
        files = tuple(
            LockedFile(
                role=Role.WEIGHTS.value,
                path=part,
                size=header.size,
                sha256=hash_file(root / part, progress),
                verified=Verified.COMPUTED,
            )
            for part, header in zip(parts, headers, strict=True)
        )
        named = tuple(RemoteFile(name=PurePosixPath(p).name, role=Role.WEIGHTS) for p in parts)
        reference = Reference(origin=Origin.FILE, repo=parts[0])
        resolved = Resolved(reference=reference, revision="", files=named)
        return artefact_of(resolved, files, headers, root=root)


def fetched_artefact(
    resolved: Resolved,
    places: Sequence[tuple[Path, RemoteFile]],
    root: Path,
    *,
    progress: Progress = lambda done, total: None,
) -> Artefact:
    """The record of a model whose files are here and have the digests that its publisher states.

    Args:
        resolved: what its reference named.
        places: where each file is to lie, and what the publisher says of it.
        root: the folder of the lock.
        progress: told the bytes hashed of a file and its bytes in all.

    Raises:
        ModelError: a file is not there, is another one, or its publisher states no digest.
    """
    fetch = f"rung pull {resolved.reference}"
    for path, remote in places:
        if remote.sha256 is None:
            what = f"{resolved.reference} states no digest of {remote.name!r} to compare with"
            raise ModelError(what, hint=fetch)
        if not path.exists():
            name = path.relative_to(root).as_posix()
            raise ModelError(f"{resolved.reference} is not here: there is no {name!r}", hint=fetch)
    with unchanged([path for path, _ in places]) as prints:
        files = tuple(
            LockedFile(
                role=remote.role.value,
                path=path.relative_to(root).as_posix(),
                size=print_.size,
                sha256=hash_file(path, progress),
                verified=Verified.PUBLISHER,
            )
            for (path, remote), print_ in zip(places, prints, strict=True)
        )
        for file, (_, remote) in zip(files, places, strict=True):
            if file.sha256 != remote.sha256:
                raise ModelError(
                    f"{file.path!r} is sha256 {file.sha256}, {resolved.reference} is {remote.sha256}",
                    hint=f"{fetch} --force replaces it",
                )
        headers = [read_header(root / file.path) for file in files if file.role == Role.WEIGHTS]
        return artefact_of(resolved, files, headers, root=root)


def engine_build() -> str:
    """The embedded engine's library and its version; `none` where it is not installed."""
    try:
        return f"xllamacpp {importlib.metadata.version('xllamacpp')}"
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _name(path: str) -> str:
    """A file's name without its ending and without which part of a split model it is."""
    return unsplit(PurePosixPath(path).stem)[0]


def _source(reference: Reference, path: str) -> str:
    """The reference; that of a file is where it lies below the lock, which holds on other machines too."""
    return f"file:{path}" if reference.origin is Origin.FILE else str(reference)


def _bits_per_weight(headers: Sequence[Header]) -> float:
    tensors = [tensor for header in headers for tensor in header.tensors]
    elements = sum(tensor.elements for tensor in tensors)
    if not elements:
        return 0.0
    return round(sum(tensor.size for tensor in tensors) * 8 / elements, 4)
