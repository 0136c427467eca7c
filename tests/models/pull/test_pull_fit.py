"""What the lock keeps of whether a model fits: what was expected, and what it took where it ran here."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from pullable import LARGE

from gguf_models import tiny_model
from rung.engines.llama_cpp.footprint import run_of
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.models.fit.estimate import Estimate, estimate
from rung.models.fit.measured import Measured, Measurements, model_key
from rung.models.fit.model import model_of
from rung.models.fit.run import Run
from rung.models.header import Header, read_header
from rung.models.lock.pinning import engine_build
from rung.models.pull.fitting import fit_record


@pytest.fixture
def header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Header:
    """Of a model that never ran here."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    return read_header(tiny_model(tmp_path / "tiny.gguf"))


def expected(header: Header) -> Estimate:
    """Before a download, with 1,024 tokens."""
    return estimate(model_of((header,), "tiny"), Run(context=1024), LARGE)


def test_nothing_is_measured_of_a_model_that_did_not_run(header: Header) -> None:
    """What was expected is all there is."""
    record = fit_record(expected(header), (header,))
    assert (record.context, record.slots, record.kv_type, record.measured) == (1024, 1, "f16", None)
    assert record.predicted > header.size


def test_what_a_model_took_when_it_ran_like_that_is_kept(header: Header) -> None:
    """As `rung run` starts it; another context is another run, and cards are not measured."""
    parameters = ModelParameters(path=header.path, context=1024, slots=1)
    run = run_of(parameters, Role.SERVER)
    taken = Measured(engine=engine_build(), backend="cpu", started_rss=70, peak_rss=90, at="now")
    Measurements().record(model_key(header), run, taken)
    answer = expected(header)
    assert fit_record(answer, (header,)).measured == 90
    on_card = msgspec.structs.replace(answer, layers_on_card=1)
    assert fit_record(on_card, (header,)).measured is None
    longer = msgspec.structs.replace(answer, run=Run(context=2048))
    assert fit_record(longer, (header,)).measured is None
