"""The student as an engine: answers `classify` tasks from an artefact on this machine.

Reading the artefact happens on first use. What it takes to train one is not imported here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rung.engines.protocol import (
    Capabilities,
    Classification,
    ClassifyRequest,
    GenerateRequest,
    Generation,
    Health,
    State,
    Support,
)
from rung.engines.student.artifact import StudentArtifact, load
from rung.engines.student.model import StudentModel
from rung.errors import EngineUnavailable, EngineUnsupported, ModelError
from rung.receipt import Usage
from rung.task import Task

MICRO_BATCH = 512
"""Texts at once: about 15 ms of work, after which other tasks of the event loop get their turn."""

_SIGNAL_REVISION = "1"  # raised whenever the same artefact would give other probabilities


class _Loaded(NamedTuple):
    artifact: StudentArtifact
    model: StudentModel


class StudentEngine:
    """Classifies with a trained student.

    Args:
        store: the folder that `rung train` wrote (see `artifact`).
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._loaded: _Loaded | None = None

    @property
    def batch(self) -> int:
        """How many inputs `classify` likes at once."""
        return MICRO_BATCH

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Label probabilities for a micro-batch; a text's are the same bits in any micro-batch.

        Raises:
            EngineUnavailable: there is no artefact that can be used.
            EngineUnsupported: the artefact was trained for other labels than the task's.
        """
        started = time.perf_counter()
        loaded = self._open()
        columns = _columns(loaded.artifact.labels, request.task)
        probabilities = loaded.model.probabilities(request.texts)[:, columns]
        count = len(request.texts)
        share_ms = (time.perf_counter() - started) * 1e3 / max(count, 1)
        return Classification(
            probabilities=probabilities,
            chosen=probabilities.argmax(axis=1).astype(np.int64),
            usages=(Usage(),) * count,
            latencies_ms=(share_ms,) * count,
        )

    async def generate(self, request: GenerateRequest) -> Generation:
        """A student has no words of its own: always `EngineUnsupported`."""
        raise EngineUnsupported(
            "a student only classifies; it cannot generate text",
            hint="give the task's ladder a rung on an engine that generates",
        )

    async def embed(self, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """A student keeps no embeddings: always `EngineUnsupported`."""
        raise EngineUnsupported("a student only classifies; it cannot embed text")

    async def health(self) -> Health:
        """Ready when the artefact can be read and is whole."""
        try:
            artifact = self._open().artifact
        except EngineUnavailable as error:
            return Health(State.MISCONFIGURED, error.message, error.hint)
        return Health(State.READY, f"student {artifact.digest[:16]}, {len(artifact.labels)} labels")

    async def capabilities(self) -> Capabilities:
        """Classification, and nothing else."""
        return Capabilities(classify=Support.YES)

    def identity(self, task: Task) -> Mapping[str, str]:
        """The artefact's digest, which covers every weight, and how its scores become signals.

        Raises:
            EngineUnavailable: there is no artefact that can be used.
        """
        digest = self._open().artifact.digest
        return {"engine": "student", "model": digest, "revision": _SIGNAL_REVISION}

    def trained_on(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(texts,) whether the artefact saw each text in training; such rows cannot certify it.

        Raises:
            EngineUnavailable: there is no artefact that can be used.
        """
        return self._open().artifact.trained_on(texts)

    async def aclose(self) -> None:
        """Let go of the weights; the next call reads them again."""
        self._loaded = None

    def _open(self) -> _Loaded:
        if self._loaded is None:
            try:
                artifact = load(self._store)
            except ModelError as error:
                raise EngineUnavailable(error.message, hint=error.hint) from error
            self._loaded = _Loaded(artifact, artifact.model())
        return self._loaded


def _columns(labels: tuple[str, ...], task: Task) -> list[int]:
    """Where each of the task's labels stands among the artefact's."""
    if set(labels) != set(task.label_names):
        other = sorted(set(labels) ^ set(task.label_names))
        raise EngineUnsupported(
            f"the student was trained for other labels than task {task.name!r} has, such as "
            f"{other[0]!r}",
            hint=f"train it again: rung train {task.name} --on SUITE",
        )
    place = {label: number for number, label in enumerate(labels)}
    return [place[name] for name in task.label_names]
