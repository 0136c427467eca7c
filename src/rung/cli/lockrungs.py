"""Which files of models and adapters the rungs of a project name, and whether each is pinned."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rung.config import STARTER, EngineName, RungSettings, Settings
from rung.engines.pins import is_reference
from rung.models.lock.record import Artefact, Lock
from rung.models.lock.sound import is_below, is_nameable
from rung.models.reference import Origin, parse_reference


class State(enum.StrEnum):
    """How the model of a rung stands to the lock."""

    PINNED = "pinned"
    HERE = "here"  # and not pinned
    MISSING = "missing"
    ELSEWHERE = "elsewhere"  # outside the project's folder
    UNNAMEABLE = "unnameable"  # its name cannot stand in the lock
    UNFETCHED = "unfetched"  # a reference that is not pinned


class NamedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model of a rung, or an adapter that is loaded with it.

    Attributes:
        rung: whose it is.
        key: of `rung.toml`, below the rung.
        model: as `rung.toml` says.
        state: how it stands.
        path: relative to the project, for a file below it.
        artefact: that pins it.
    """

    rung: str
    key: str = "model"
    model: str
    state: State
    path: str | None = None
    artefact: Artefact | None = None


def named_models(settings: Settings, lock: Lock) -> tuple[NamedModel, ...]:
    """The models and adapters of embedded rungs; the starter, which comes with Rung, needs no pin.

    Raises:
        InputError: a reference in `rung.toml` is none.
    """
    return tuple(
        named
        for rung in settings.rungs.values()
        if rung.engine is EngineName.LLAMA_CPP
        for named in _of_rung(rung, settings.root, lock)
    )


def below(path: Path, root: Path) -> str:
    """A path relative to the project's folder, with forward slashes; it may lead out of it."""
    return Path(os.path.relpath(path, root)).as_posix()


def _of_rung(rung: RungSettings, root: Path, lock: Lock) -> Iterator[NamedModel]:
    if rung.model != STARTER:
        yield _model(rung.name, rung.model, root, lock)
    for name, file in rung.load.adapters.items():
        adapter = _file(rung.name, file, file, root, lock)
        yield msgspec.structs.replace(adapter, key=f"load.adapters.{name}")


def _model(rung: str, model: str, root: Path, lock: Lock) -> NamedModel:
    if not is_reference(model):
        return _file(rung, model, model, root, lock)
    reference = parse_reference(model)
    if reference.origin is Origin.FILE:
        return _file(rung, model, reference.repo, root, lock)
    found = lock.find(str(reference))
    state = State.UNFETCHED if found is None else State.PINNED
    # Not as it was written: a query may be a key.
    return NamedModel(rung=rung, model=str(reference), state=state, artefact=found)


def _file(rung: str, model: str, file: str, root: Path, lock: Lock) -> NamedModel:
    path = below(root / file, root)
    holder = lock.holder(path)
    if holder is not None:
        return NamedModel(rung=rung, model=model, state=State.PINNED, path=path, artefact=holder[0])
    if not is_nameable(path):
        return NamedModel(rung=rung, model=model, state=State.UNNAMEABLE)
    if not is_below(path):
        return NamedModel(rung=rung, model=model, state=State.ELSEWHERE)
    state = State.HERE if (root / path).exists() else State.MISSING
    return NamedModel(rung=rung, model=model, state=state, path=path)
