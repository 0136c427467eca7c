"""The student behind the engine protocol."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from student_examples import LABELS, Examples

from rung.engines.protocol import ClassifyRequest, Engine, GenerateRequest, State, Support
from rung.engines.student.artifact import StudentArtifact
from rung.engines.student.engine import StudentEngine
from rung.errors import EngineUnavailable, EngineUnsupported
from rung.task import Kind, Label, Task


def _task(*labels: str) -> Task:
    return Task(name="topics", kind=Kind.CLASSIFY, labels=tuple(Label(name) for name in labels))


def test_columns_are_in_the_tasks_label_order(
    artifact: StudentArtifact, store: Path, examples: Examples
) -> None:
    """A task that lists its labels in another order than the artefact gets them in its own."""
    engine: Engine = StudentEngine(store)
    texts = tuple(text for text, _ in examples[:20])
    task = _task(*LABELS[::-1])
    answer = asyncio.run(engine.classify(ClassifyRequest(task=task, texts=texts)))
    assert np.array_equal(answer.probabilities, artifact.model().probabilities(texts)[:, ::-1])
    assert [task.label_names[number] for number in answer.chosen] == [
        label for _, label in examples[:20]
    ]
    assert len(answer.usages) == len(answer.latencies_ms) == 20
    assert not answer.failures


def test_an_empty_micro_batch_is_an_empty_answer(store: Path) -> None:
    """No texts give no rows."""
    request = ClassifyRequest(task=_task(*LABELS), texts=())
    answer = asyncio.run(StudentEngine(store).classify(request))
    assert answer.probabilities.shape == (0, 3)
    assert answer.usages == ()


def test_other_labels_than_the_tasks_are_refused(store: Path) -> None:
    """A task that gained a label needs a new student, and is told so."""
    request = ClassifyRequest(task=_task(*LABELS, "fraud"), texts=("x",))
    with pytest.raises(EngineUnsupported, match="'fraud'") as caught:
        asyncio.run(StudentEngine(store).classify(request))
    assert caught.value.hint == "train it again: rung train topics --on SUITE"


def test_what_it_cannot_do_is_said(store: Path) -> None:
    """Generation and embedding are unsupported, and the capabilities say so beforehand."""
    engine = StudentEngine(store)
    found = asyncio.run(engine.capabilities())
    assert (found.classify, found.generate, found.embed) == (Support.YES, Support.NO, Support.NO)
    with pytest.raises(EngineUnsupported, match="cannot generate"):
        asyncio.run(engine.generate(GenerateRequest(messages=(), max_tokens=1)))
    with pytest.raises(EngineUnsupported, match="cannot embed"):
        asyncio.run(engine.embed(("x",)))


def test_health_and_identity_name_the_artefact(artifact: StudentArtifact, store: Path) -> None:
    """Ready with its digest; the fingerprint gets the whole digest."""
    engine = StudentEngine(store)
    health = asyncio.run(engine.health())
    assert (health.state, artifact.digest[:16] in health.detail) == (State.READY, True)
    assert engine.identity(_task(*LABELS))["model"] == artifact.digest
    asyncio.run(engine.aclose())
    asyncio.run(engine.aclose())


def test_without_an_artefact_it_is_misconfigured_with_a_fix(tmp_path: Path) -> None:
    """Opening touches nothing; health and calls say how to train one."""
    engine = StudentEngine(tmp_path / "none")
    health = asyncio.run(engine.health())
    assert (health.state, health.hint) == (
        State.MISCONFIGURED,
        "train one: rung train TASK --on SUITE",
    )
    with pytest.raises(EngineUnavailable, match="no trained student"):
        asyncio.run(engine.classify(ClassifyRequest(task=_task("a", "b"), texts=("x",))))


def test_inference_imports_neither_scipy_nor_scikit_learn() -> None:
    """Answering needs numpy alone."""
    script = (
        "import sys, rung.engines.student.engine;"
        "print([name for name in ('scipy', 'sklearn') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == "[]"
