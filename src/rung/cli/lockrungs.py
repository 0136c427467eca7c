"""Which model files the rungs of a project name, and whether each is pinned."""

from __future__ import annotations

import enum
import os
from pathlib import Path

import msgspec

from rung.config import STARTER, EngineName, Settings
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
    UNFETCHED = "unfetched"  # a reference that is not pinned


class NamedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model of a rung.

    Attributes:
        rung: whose it is.
        model: as `rung.toml` says.
        state: how it stands.
        path: relative to the project, for a file below it.
        artefact: that pins it.
    """

    rung: str
    model: str
    state: State
    path: str | None = None
    artefact: Artefact | None = None


def named_models(settings: Settings, lock: Lock) -> tuple[NamedModel, ...]:
    """The models of embedded rungs; the starter, which comes with Rung, needs no pin.

    Raises:
        InputError: a reference in `rung.toml` is none.
    """
    return tuple(
        _named(rung.name, rung.model, settings.root, lock)
        for rung in settings.rungs.values()
        if rung.engine is EngineName.LLAMA_CPP and rung.model != STARTER
    )


def below(path: Path, root: Path) -> str:
    """A path relative to the project's folder, with forward slashes; it may lead out of it."""
    return Path(os.path.relpath(path, root)).as_posix()


def _named(rung: str, model: str, root: Path, lock: Lock) -> NamedModel:
    file = model
    if is_reference(model):
        reference = parse_reference(model)
        if reference.origin is not Origin.FILE:
            found = lock.find(str(reference))
            state = State.UNFETCHED if found is None else State.PINNED
            return NamedModel(rung=rung, model=model, state=state, artefact=found)
        file = reference.repo
    path = below(root / file, root)
    holder = lock.holder(path)
    if holder is not None:
        return NamedModel(rung=rung, model=model, state=State.PINNED, path=path, artefact=holder[0])
    if not is_below(path):
        return NamedModel(rung=rung, model=model, state=State.ELSEWHERE)
    state = State.HERE if (root / path).exists() else State.MISSING
    return NamedModel(rung=rung, model=model, state=state, path=path)
