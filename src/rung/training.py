"""From labelled examples to a student and its calibrator, on one set of rows that certify nothing.

The student learns from all rows; each row is also scored by a student that did not see it, and those out-of-fold
scores fit the calibrator. The learning itself is the engine's and `trust.fitting`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from rung.config import EngineName, RungSettings
from rung.engines.student.spool import Corpus, Spool, spooled
from rung.engines.student.training import TrainingSettings, held_out, out_of_fold, train
from rung.errors import ConfigError, EvidenceError, SuiteError
from rung.project import Project
from rung.suite import iter_examples
from rung.task import Kind, Task
from rung.trust.bounds import interval
from rung.trust.calibrator import raw_calibrator
from rung.trust.fitting import fit_calibrator
from rung.trust.signals import classification_signals

CALIBRATION_ROWS = 50_000
"""Rows scored out of fold at most: a calibrator has a few hundred numbers and needs no more."""


class Trained(msgspec.Struct, frozen=True):
    """What training made.

    Attributes:
        digest: of the student's artefact; `folder` holds it.
        examples, labels: how many it learnt from.
        accuracy: share of rows a student that had not seen them answered rightly, with its exact 95 % interval.
        calibrator: the kind of map from signals to confidence that was kept.
        scored: rows scored out of fold.
    """

    digest: str
    folder: Path
    examples: int
    labels: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    calibrator: str
    scored: int


def student_rung(project: Project, task: Task) -> RungSettings:
    """The student of the task's ladder.

    Raises:
        ConfigError: the task is not `classify`, or its ladder has no student.
    """
    if task.kind is not Kind.CLASSIFY:
        raise ConfigError(
            f"task {task.name!r} is {task.kind.value}; a student learns classify tasks only"
        )
    for rung in project.settings.ladder(task.ladder):
        if rung.engine is EngineName.STUDENT:
            return rung
    raise ConfigError(
        f"ladder {task.ladder!r} of task {task.name!r} has no rung with engine 'student'",
        hint="add one to rung.toml: see rung init",
    )


def train_student(
    project: Project,
    task: Task,
    corpus: Corpus,
    *,
    seed: int = 0,
    processes: int | None = None,
    stage: Callable[[str], None] = lambda name: None,
) -> Trained:
    """Train the student of `task` on `corpus`, fit its calibrator, and make both current.

    Args:
        project: where they are written.
        task: what is learnt.
        corpus: the examples; the same ones in the same order give the same bytes.
        seed: of everything random.
        processes: for the out-of-fold scores; None for one a core. The result does not depend on it.
        stage: told the name of each stage as it begins.

    Raises:
        ConfigError: there is no student to train.
        SuiteError: the examples cannot train one.
        StorageError: a file cannot be written.
    """
    rung = student_rung(project, task)
    settings = TrainingSettings(seed=seed)
    cores = processes if processes is not None else os.cpu_count() or 1
    stage("read")
    with spooled(corpus, task.label_names) as spool:
        stage("train")
        artifact = train(spool, settings)
        stage("score out of fold")
        scored = _scored(spool, corpus, settings, cores)
    stage("calibrate")
    signals = classification_signals(scored.probabilities, scored.texts)
    correct = signals.predicted == scored.targets
    try:
        calibrator = fit_calibrator(signals, correct, source="out-of-fold", seed=seed)
    except EvidenceError:  # too few mistakes to learn from: its own probability is told, as "raw"
        calibrator = raw_calibrator(signals, source="out-of-fold")
    folder = artifact.save(project.settings.path(rung.model.format(task=task.name)))
    project.keep_calibrator(task, rung.name, calibrator)
    low, high = interval(int(np.sum(~correct)), len(correct))
    return Trained(
        digest=artifact.digest,
        folder=folder,
        examples=len(spool.index),
        labels=len(task.labels),
        accuracy=float(np.mean(correct)),
        accuracy_low=1 - float(high),
        accuracy_high=1 - float(low),
        calibrator=calibrator.kind,
        scored=len(scored.texts),
    )


def labelled_texts(path: Path, task: Task) -> Iterator[tuple[str, str]]:
    """(text, label) pairs of a suite, streamed.

    Raises:
        SuiteError: at the first row that is not an example with one label.
    """
    for example in iter_examples(path, task):
        if not isinstance(example.expected, str):
            raise SuiteError(
                f"{path}:{example.row}: a student learns one label a text, not {example.expected!r}"
            )
        yield example.text, example.expected


def _scored(spool: Spool, corpus: Corpus, settings: TrainingSettings, processes: int) -> _Scored:
    """Rows scored by students that had not seen them: all of a small suite, a sample of a large one."""
    if len(spool.index) <= CALIBRATION_ROWS:
        rows = np.arange(len(spool.index), dtype=np.int64)
        probabilities = out_of_fold(spool, settings, processes=processes)
    else:
        rows, probabilities = held_out(spool, CALIBRATION_ROWS, settings)
    wanted = set(rows.tolist())
    texts = [text for row, (text, _) in enumerate(corpus()) if row in wanted]
    return _Scored(probabilities, texts, spool.index.targets[rows])


class _Scored(msgspec.Struct, frozen=True):
    """Probabilities of rows that the scoring student had not seen, with their texts and true labels."""

    probabilities: NDArray[np.float64]
    texts: list[str]
    targets: NDArray[np.int32]
