"""Models that Ollama keeps on this machine, used where they are.

Its layout: `manifests/registry.ollama.ai/<namespace>/<name>/<tag>`, and `blobs/sha256-<digest>` for every layer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rung.errors import ModelError, SourceError
from rung.models.names import DIGEST
from rung.models.reference import Origin, Reference
from rung.models.sources.found import Found, whole_file
from rung.models.sources.ollama import REGISTRY, manifest_digest, resolved_manifest
from rung.models.sources.resolved import Resolved

STORE = "Ollama"

_HOST = "registry.ollama.ai"
_SERVICE = Path("/usr/share/ollama/.ollama/models")  # where its Linux service keeps them
_MOST_MANIFEST_BYTES = 4 * 1024 * 1024


def folders() -> tuple[Path, ...]:
    """Where its models may lie; none of them needs to exist."""
    if named := os.environ.get("OLLAMA_MODELS"):
        return (Path(named).expanduser(),)
    return (Path.home() / ".ollama" / "models", _SERVICE)


def blob(sha256: str, size: int | None) -> Path | None:
    """A layer by its digest, None when no store holds it whole."""
    for folder in folders():
        path = whole_file(folder / "blobs" / f"sha256-{sha256}", size, within=folder)
        if path is not None:
            return path
    return None


def resolve_stored(reference: Reference) -> Resolved | None:
    """A reference from the store alone; None when it does not hold all of what it names.

    Args:
        reference: of Ollama; a tag counts as what it was when Ollama last asked.
    """
    for folder in folders():
        home = folder / "manifests" / _HOST / reference.repo
        manifest = _manifest(home, reference.revision or "latest")
        if manifest is not None:
            return _whole(reference, manifest)
    return None


def found() -> Iterator[Found]:
    """The weights of every model in the stores that is whole."""
    for folder in folders():
        home = folder / "manifests" / _HOST
        for path in sorted(home.glob("*/*/*")):
            namespace, name, tag = path.relative_to(home).parts
            reference = Reference(origin=Origin.OLLAMA, repo=f"{namespace}/{name}", revision=tag)
            manifest = _read(path)
            stored = _whole(reference, manifest) if manifest is not None else None
            for file in stored.weights if stored is not None else ():
                if file.path is not None and file.size is not None:
                    yield Found(
                        store=STORE, reference=str(reference), path=file.path, size=file.size
                    )


def _whole(reference: Reference, manifest: bytes) -> Resolved | None:
    """What a manifest names, when every layer of it is there."""
    try:
        resolved = resolved_manifest(reference, manifest, f"{REGISTRY}/v2/{reference.repo}/blobs")
    except (ModelError, SourceError):
        return None  # its runner's own format, or a damaged manifest
    files = []
    for file in resolved.files:
        path = blob(file.sha256 or "", file.size)
        if path is None:
            return None
        files.append(msgspec.structs.replace(file, path=path))
    return msgspec.structs.replace(
        resolved,
        files=tuple(files),
        store=STORE,
        notes=(f"found in the store of {STORE}, without asking the network",),
    )


def _manifest(home: Path, revision: str) -> bytes | None:
    """The bytes of a manifest by its tag or its digest."""
    if not DIGEST.fullmatch(revision):
        return _read(home / revision)
    manifests = [_read(path) for path in sorted(home.glob("*"))]
    return next((m for m in manifests if m is not None and manifest_digest(m) == revision), None)


def _read(path: Path) -> bytes | None:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_MANIFEST_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None
