"""Where a project's lock is, for the verbs that read it, and which of its models were meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rung.errors import ConfigError, InputError
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.models.lock.record import Artefact, Lock
from rung.userfiles.settings import find_settings


def project_root(config: Path | None) -> Path:
    """The folder of the project: that of its settings, or the current one where there are none."""
    if config is not None:
        return (config if config.is_dir() else config.parent).absolute()
    try:
        return find_settings().parent
    except ConfigError:
        return Path.cwd()


def lock_of(root: Path) -> Lock:
    """The lock of a project that has one.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = root / LOCK_NAME
    if not path.exists():
        raise ConfigError(
            f"there is no {LOCK_NAME} in {str(root)!r}",
            hint="rung pull fetches and pins a model, rung lock pins one that is here",
        )
    return read_lock(path)


def chosen(lock: Lock, names: Sequence[str]) -> tuple[Artefact, ...]:
    """The pinned models with these names, references or paths; all where none is named.

    Raises:
        InputError: one is not pinned.
    """
    if not names:
        return lock.artefacts
    found = {name: lock.find(name) for name in names}
    for name, artefact in found.items():
        if artefact is None:
            pinned = ", ".join(each.name for each in lock.artefacts) or "nothing"
            raise InputError(f"{name!r} is not pinned in {LOCK_NAME}", hint=f"it pins {pinned}")
    wanted = {each.name for each in found.values() if each is not None}
    return tuple(each for each in lock.artefacts if each.name in wanted)
