"""Loopback servers and an empty home for tests of where models come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Servers that this process takes for Hugging Face and Ollama's registry."""
    with Hub() as hub:
        hub.use(monkeypatch, tmp_path)
        yield hub
