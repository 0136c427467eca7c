"""Files that are pinned beside a model's weights: what their source calls them, and whether it has others now.

Which files are fetched with a model is `pull`'s.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

from rung.models.lock.record import Artefact, LockedFile
from rung.models.reference import Origin
from rung.models.shards import unsplit
from rung.models.sources.resolved import RemoteFile, Resolved, Role

_WITH = ".with."


class Beside(NamedTuple):
    """How the files beside a model's weights stand.

    Attributes:
        changed: whether one of them is another one by now, or gone.
        reason: what is to be said of it, None for nothing.
    """

    changed: bool
    reason: str | None


def name_beside(weights: str, name: str) -> str:
    """What a side file is called here where another model's file has its name: `tiny.with.mmproj-F16.gguf`.

    Args:
        weights: path or name of the model's first file.
        name: of the side file at its source.
    """
    return f"{_prefix(weights)}{name}"


def name_at_source(artefact: Artefact, file: LockedFile) -> str:
    """What a side file's source calls it, without folders."""
    return PurePosixPath(file.path).name.removeprefix(_prefix(artefact.files[0].path))


def beside(artefact: Artefact, resolved: Resolved) -> Beside:
    """Compare the pinned side files with what their source has.

    Args:
        artefact: as it is pinned.
        resolved: what its reference names now.
    """
    changed, reasons = False, []
    for file in artefact.files:
        if file.role == Role.WEIGHTS:
            continue
        name = name_at_source(artefact, file)
        digests = [each.sha256 for each in _offered(file, name, resolved)]
        if not digests:
            reasons.append(f"its {file.role} {name!r} is not there any more")
        elif None in digests:
            reasons.append(f"its {file.role} {name!r} has no digest there to compare")
        changed = changed or (None not in digests and file.sha256 not in digests)
    return Beside(changed, "; ".join(reasons) or None)


def _offered(file: LockedFile, name: str, resolved: Resolved) -> list[RemoteFile]:
    """The files at the source that may be the pinned one."""
    every = (*resolved.files, *resolved.others, *resolved.beside)
    alike = [each for each in every if each.role == file.role]
    if resolved.reference.origin is Origin.OLLAMA:
        return alike  # layers have no names
    return [each for each in alike if PurePosixPath(each.name).name == name]


def _prefix(weights: str) -> str:
    return f"{unsplit(PurePosixPath(weights).stem)[0]}{_WITH}"
