"""A student trained once on a small made-up suite, and one saved on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from student_examples import Examples, make_examples, train_on

from rung.engines.student.artifact import StudentArtifact


@pytest.fixture(scope="session")
def examples() -> Examples:
    """300 made-up rows."""
    return make_examples(300)


@pytest.fixture(scope="session")
def artifact(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> StudentArtifact:
    """A student trained on `examples`."""
    return train_on(examples, tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def store(artifact: StudentArtifact, tmp_path: Path) -> Path:
    """A folder with that student saved in it."""
    artifact.save(tmp_path / "store")
    return tmp_path / "store"
