"""Which file a rung's model is, and what the project's `rung.lock` says of it. Nothing here asks the network.

That no other file is loaded is the engine's to see to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from rung.config import RungSettings
from rung.errors import ModelError
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.models.lock.record import Artefact, Lock, LockedFile
from rung.models.reference import Origin, names_source, parse_reference


def is_reference(model: str) -> bool:
    """Whether a rung's `model` names a source and not, like most, a path."""
    return names_source(model)


class Pins:
    """The lock of a project, read when it is first needed.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: Lock | None = None

    def path(self, rung: RungSettings) -> Path:
        """The file of a rung's model: for a reference the one that is pinned.

        Raises:
            InputError: the reference is none.
            ModelError: it is not pinned, or its file is gone.
            ConfigError: the lock is damaged.
        """
        if not is_reference(rung.model):
            return self._written(rung)
        reference = parse_reference(rung.model)
        if reference.origin is Origin.FILE:
            return self._root / reference.repo
        artefact = self._lock.find(str(reference))
        if artefact is None:
            raise ModelError(
                f"rungs.{rung.name}.model: {str(reference)!r} is not pinned in {LOCK_NAME}",
                hint=f"rung pull {reference}",
            )
        return self._present(artefact, f"rungs.{rung.name}.model: {str(reference)!r}")

    def named(self, model: str) -> Path | None:
        """The file of the pinned model with this name or reference; None where none has it.

        Raises:
            InputError: it begins as a reference does and is none.
            ModelError: its file is gone.
            ConfigError: the lock is damaged.
        """
        asked = str(parse_reference(model)) if is_reference(model) else model
        artefact = self._lock.find(asked)
        return None if artefact is None else self._present(artefact, repr(asked))

    def files(self, paths: Iterable[str]) -> Mapping[str, LockedFile]:
        """What is pinned under each of these absolute paths; those that are not are left out.

        Raises:
            ConfigError: the lock is damaged.
        """
        found: dict[str, LockedFile] = {}
        root = self._root.absolute()
        for path in paths:
            relative = Path(os.path.relpath(path, root)).as_posix()
            holder = self._lock.holder(relative)
            if holder is not None:
                found[path] = holder[1]
        return found

    def _written(self, rung: RungSettings) -> Path:
        """The file whose path a rung names; a name of the lock is no path, and that is said."""
        path = self._root / rung.model
        named = None if path.exists() else self._lock.find(rung.model)
        if named is None:
            return path
        source = parse_reference(named.source)
        whole = named.weights[0].path if source.origin is Origin.FILE else source
        raise ModelError(
            f"rungs.{rung.name}.model: {rung.model!r} is a name in {LOCK_NAME}, not a file",
            hint=f'write model = "{whole}"',
        )

    def _present(self, artefact: Artefact, what: str) -> Path:
        """The file of a pinned model, which has to be there; `what` begins the sentence otherwise."""
        path = self._root / artefact.weights[0].path
        if not path.exists():
            raise ModelError(
                f"{what} is pinned, but its file {artefact.weights[0].path!r} is not there",
                hint="rung pull restores what is pinned",
            )
        return path

    @property
    def _lock(self) -> Lock:
        if self._read is None:
            self._read = read_lock(self._root / LOCK_NAME)
        return self._read
