"""A model file that the tests of the embedded engine share: written once, never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_models import tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 3 MB that the real engine loads in a fifth of a second."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random recurrent model, whose labels can only be scored through the server."""
    from scoring.scoring_parts import tiny_mamba

    return tiny_mamba(tmp_path_factory.mktemp("models") / "mamba.gguf")
