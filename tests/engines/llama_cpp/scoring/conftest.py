"""One tiny model file for all scoring tests, and one child for those that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scoring_parts import SharedChild, parameters

from gguf_models import tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a ChatML-like template."""
    return tiny_model(tmp_path_factory.mktemp("scoring") / "tiny.gguf")


@pytest.fixture(scope="session")
def child(model: Path) -> Iterator[SharedChild]:
    """A scoring child that stays."""
    shared = SharedChild(parameters(model))
    yield shared
    shared.close()
