"""From settings to what is loaded: what is left open comes from the model and the machine."""

from __future__ import annotations

from pathlib import Path

from gguf_models import tiny_model
from rung.config import LoadSettings
from rung.engines.llama_cpp.parameters import USUAL_CONTEXT, Adapter, parameters_of


def test_the_context_is_the_models_own_unless_asked_for(tmp_path: Path) -> None:
    """A small model is not asked for more than it was trained for."""
    model = tiny_model(tmp_path / "m.gguf", context=256)
    assert parameters_of(model, LoadSettings(), root=tmp_path).context == 256
    assert parameters_of(model, LoadSettings(context=128), root=tmp_path).context == 128


def test_a_file_that_cannot_be_read_is_told_of_when_it_is_loaded(tmp_path: Path) -> None:
    """Opening a project with a missing model is no error: doctor and the first answer say it."""
    found = parameters_of(tmp_path / "none.gguf", LoadSettings(), root=tmp_path)
    assert found.context == USUAL_CONTEXT


def test_threads_are_there_and_adapters_lie_below_the_project(tmp_path: Path) -> None:
    """Paths in rung.toml are relative to it; a child gets absolute ones."""
    load = LoadSettings(adapters={"legal": "lora/legal.gguf"}, start_s=7)
    found = parameters_of(tmp_path / "none.gguf", load, root=tmp_path)
    assert found.threads >= 1
    assert found.start_s == 7
    assert found.adapters == (Adapter("legal", str(tmp_path / "lora" / "legal.gguf")),)
