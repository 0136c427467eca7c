"""Models that LM Studio keeps on this machine, used where they are: `<folder>/<publisher>/<repo>/<file>`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rung.errors import ModelError
from rung.models.names import is_plain_path
from rung.models.reference import Origin, Reference
from rung.models.sources.choice import choose, role_of
from rung.models.sources.found import Found, whole_file
from rung.models.sources.resolved import RemoteFile, Resolved, Role

STORE = "LM Studio"


def folders() -> tuple[Path, ...]:
    """Where its models may lie; none of them needs to exist."""
    if named := os.environ.get("LMSTUDIO_HOME"):
        return (Path(named).expanduser() / "models",)
    usual = (Path.home() / ".lmstudio", Path.home() / ".cache" / "lm-studio")
    return tuple(home / "models" for home in (*_moved_home(), *usual))


def resolve_lmstudio(reference: Reference) -> Resolved:
    """Look a model up in LM Studio's folder.

    Raises:
        ModelError: there is no such model, or more than one thing is what was asked for.
    """
    for folder in folders():
        home = folder / reference.repo
        if home.is_dir():
            files, others = choose(reference, _listing(home))
            return Resolved(
                reference=reference, revision="", files=files, others=others, store=STORE
            )
    places = " and ".join(repr(str(folder)) for folder in folders())
    raise ModelError(
        f"LM Studio has no {reference.repo!r} in {places}",
        hint="check the names of the folders there",
    )


def found() -> Iterator[Found]:
    """Every model file in its folders."""
    for folder in folders():
        for home in sorted(folder.glob("*/*")):
            repo = home.relative_to(folder).as_posix()
            for file in _listing(home):
                if file.role is Role.WEIGHTS and file.path is not None and file.size is not None:
                    name = Reference(origin=Origin.LMSTUDIO, repo=repo, file=file.name)
                    yield Found(store=STORE, reference=str(name), path=file.path, size=file.size)


def _moved_home() -> Iterator[Path]:
    """The home that LM Studio's pointer file names, for users who moved it."""
    try:
        said = (Path.home() / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return
    if said:
        yield Path(said)


def _listing(home: Path) -> list[RemoteFile]:
    found = []
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if is_plain_path(name) and whole_file(path, None, within=home) is not None:
            size = path.stat().st_size
            found.append(RemoteFile(name=name, role=role_of(name), size=size, path=path))
    return found
