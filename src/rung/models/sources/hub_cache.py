"""Models that lie in the cache of Hugging Face's library on this machine, used where they are.

Its layout: `models--owner--repo/` with `refs/<branch>` holding a commit, `snapshots/<commit>/<file>` linking to
`blobs/<digest>`, where the digest of a large file is its SHA-256. Any program can write there, and a snapshot holds
what was fetched of a repository, not what is in it: which file a name means and which bytes it has, only the hub knows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rung.errors import ModelError
from rung.models.names import COMMIT, is_plain_path
from rung.models.reference import Origin, Reference
from rung.models.sources.choice import choose, role_of
from rung.models.sources.found import Found, whole_file
from rung.models.sources.resolved import RemoteFile, Resolved, Role

STORE = "Hugging Face cache"

_PREFIX = "models--"


def folder() -> Path:
    """Where the cache lies, as its library finds it; it need not exist."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if named := os.environ.get(name):
            return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HF_HOME") or Path(cache, "huggingface")).expanduser() / "hub"


def blob(repo: str, sha256: str, size: int | None) -> Path | None:
    """A file of a repository by its digest, None when the cache does not hold it whole."""
    home = _home(repo)
    return whole_file(home / "blobs" / sha256, size, within=home)


def resolve_cached(reference: Reference) -> Resolved | None:
    """A reference from the cache alone; None when the cache does not hold all of what it names.

    No file has a digest: nobody asked the publisher for one.

    Args:
        reference: of Hugging Face, with a file; a branch counts as what it was when the cache last asked.
    """
    if reference.file is None:
        return None  # the only model of a snapshot need not be the only one of the repository
    home = _home(reference.repo)
    commit = _commit(home, reference.revision or "main")
    if commit is None:
        return None
    try:
        files, others = choose(reference, _listing(home, home / "snapshots" / commit))
    except ModelError:
        return None  # it, or a part of it, has never been fetched
    return Resolved(
        reference=reference,
        revision=commit,
        files=files,
        others=others,
        store=STORE,
        notes=(f"found in the {STORE}: nobody asked whether these are the publisher's bytes",),
    )


def found() -> Iterator[Found]:
    """Every model file of the cache that is whole."""
    if not folder().is_dir():
        return
    for home in sorted(folder().glob(f"{_PREFIX}*--*")):
        repo = home.name.removeprefix(_PREFIX).replace("--", "/", 1)
        for snapshot in sorted(home.glob("snapshots/*")):
            for file in _listing(home, snapshot):
                if file.role is Role.WEIGHTS and file.path is not None and file.size is not None:
                    name = Reference(
                        origin=Origin.HF, repo=repo, revision=snapshot.name, file=file.name
                    )
                    yield Found(store=STORE, reference=str(name), path=file.path, size=file.size)


def _home(repo: str) -> Path:
    return folder() / f"{_PREFIX}{repo.replace('/', '--')}"


def _commit(home: Path, revision: str) -> str | None:
    if COMMIT.fullmatch(revision):
        return revision
    try:
        commit = (home / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def _listing(home: Path, snapshot: Path) -> list[RemoteFile]:
    """The files of a snapshot that are there whole."""
    found = []
    for path in sorted(snapshot.rglob("*")):
        name = path.relative_to(snapshot).as_posix()
        if is_plain_path(name) and whole_file(path, None, within=home) is not None:
            size = path.stat().st_size
            found.append(RemoteFile(name=name, role=role_of(name), size=size, path=path))
    return found
