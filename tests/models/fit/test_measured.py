"""Measurements survive other processes, damage and folders that cannot be written to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_models import tiny_model
from rung.models.fit.measured import (
    MOST_KEPT,
    SCORER,
    Measured,
    Measurements,
    Reserve,
    model_key,
)
from rung.models.fit.run import Run
from rung.models.header import read_header

ENGINE, AT = "xllamacpp 2026.10.11549", "2026-11-21T12:00:00+00:00"
RUN = Run(context=4096, slots=2)
MEASURED = Measured(
    engine=ENGINE,
    backend="cpu",
    weights={"CPU_Mapped": 1000, "CPU_REPACK": 500},
    cache={"CPU": 200},
    compute={"CPU": 100},
    output={"CPU": 10},
    started_rss=1900,
    peak_rss=2000,
    at=AT,
)


@pytest.fixture
def kept(tmp_path: Path) -> Measurements:
    """Measurements in a folder that is not there yet."""
    return Measurements(tmp_path / "home" / "measured")


def test_what_was_kept_is_found(kept: Measurements) -> None:
    """Under the same model, run, engine and role, and under no other."""
    assert kept.record("model", RUN, MEASURED)
    assert kept.find("model", RUN, ENGINE) == MEASURED
    assert kept.find("other", RUN, ENGINE) is None
    assert kept.find("model", msgspec.structs.replace(RUN, slots=1), ENGINE) is None
    assert kept.find("model", RUN, "another build") is None
    assert kept.find("model", RUN, ENGINE, role=SCORER) is None


def test_the_highest_speeds_stay(kept: Measurements) -> None:
    """A slow day does not hide a fast one, nor an answer without a figure any."""
    for writing, reading in ((60.0, None), (25.0, 400.0), (None, None)):
        figures = {"tokens_per_s": writing, "prompt_tokens_per_s": reading}
        assert kept.record("model", RUN, msgspec.structs.replace(MEASURED, **figures))
    found = kept.find("model", RUN, ENGINE)
    assert found is not None
    assert (found.tokens_per_s, found.prompt_tokens_per_s) == (60.0, 400.0)


def test_the_largest_peak_stays(kept: Measurements) -> None:
    """A short visit of a model does not hide what a long one took."""
    kept.record("model", RUN, MEASURED)
    kept.record("model", RUN, msgspec.structs.replace(MEASURED, peak_rss=1500))
    assert kept.find("model", RUN, ENGINE) == MEASURED
    kept.record("model", RUN, msgspec.structs.replace(MEASURED, peak_rss=None))
    assert kept.find("model", RUN, ENGINE) == MEASURED
    more = msgspec.structs.replace(MEASURED, peak_rss=3000)
    kept.record("model", RUN, more)
    assert kept.find("model", RUN, ENGINE) == more


def test_the_process_is_kept_by_build(kept: Measurements) -> None:
    """Another build has not been measured."""
    assert kept.process_reserve(ENGINE) is None
    assert kept.record_reserve(Reserve(engine=ENGINE, bytes=42, at=AT))
    assert kept.process_reserve(ENGINE) == 42
    assert kept.process_reserve("another build") is None


def test_a_folder_that_cannot_be_written_to_costs_the_measurement_only(tmp_path: Path) -> None:
    """Nothing is raised."""
    (tmp_path / "file").write_text("no folder")
    kept = Measurements(tmp_path / "file" / "measured")
    assert not kept.record("model", RUN, MEASURED)
    assert not kept.record_reserve(Reserve(engine=ENGINE, bytes=42, at=AT))
    assert kept.find("model", RUN, ENGINE) is None
    assert kept.process_reserve(ENGINE) is None


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=300) | st.just(b"[" * 50_000) | st.just(b" " * 100_000))
def test_a_damaged_file_counts_as_none(content: bytes) -> None:
    """Whatever the bytes are; the next measurement mends it."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Measurements(Path(folder))
        kept.record("model", RUN, MEASURED)
        (path,) = Path(folder).iterdir()
        path.write_bytes(content)
        assert kept.find("model", RUN, ENGINE) is None
        assert kept.record("model", RUN, MEASURED)
        assert kept.find("model", RUN, ENGINE) == MEASURED


def test_there_are_never_too_many(tmp_path: Path) -> None:
    """The oldest go first; what a process takes stays."""
    kept = Measurements(tmp_path)
    kept.record_reserve(Reserve(engine=ENGINE, bytes=42, at=AT))
    for number in range(MOST_KEPT + 5):
        path = tmp_path / f"{number}.measured.json"
        path.touch()
        os.utime(path, (number, number))
    kept.record("model", RUN, MEASURED)
    left = {path.name for path in tmp_path.glob("*.measured.json")}
    assert len(left) == MOST_KEPT
    assert "5.measured.json" not in left
    assert "6.measured.json" in left
    assert kept.find("model", RUN, ENGINE) == MEASURED
    assert kept.process_reserve(ENGINE) == 42


def test_several_processes_keep_measurements_at_once(tmp_path: Path) -> None:
    """None of them is lost, and nothing half-written is left."""
    program = """
import sys
from pathlib import Path
from rung.models.fit.measured import Measured, Measurements
from rung.models.fit.run import Run
kept = Measurements(Path(sys.argv[1]))
for number in range(20):
    measured = Measured(engine="e", backend="cpu", peak_rss=number, at="now")
    assert kept.record(sys.argv[2] + str(number), Run(context=512), measured)
    assert kept.record("shared", Run(context=512), measured)
"""
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name])
        for name in ("a", "b", "c")
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    kept = Measurements(tmp_path)
    names = [f"{name}{number}" for name in "abc" for number in range(20)]
    assert all(kept.find(name, Run(context=512), "e") is not None for name in names)
    shared = kept.find("shared", Run(context=512), "e")
    assert shared is not None
    assert shared.peak_rss == 19
    assert len(list(tmp_path.iterdir())) == len(names) + 1


def test_a_models_key_is_of_what_takes_memory(tmp_path: Path) -> None:
    """Other weights of the same kind have the same key; other tensors have another, and so has another part."""
    one = read_header(tiny_model(tmp_path / "one.gguf"))
    again = read_header(tiny_model(tmp_path / "again.gguf", seed=1))
    larger = read_header(tiny_model(tmp_path / "larger.gguf", layers=3))
    assert model_key(one) == model_key(again) != model_key(larger)
    assert model_key(one, larger) != model_key(larger, one)


def test_the_usual_folder_is_rungs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable RUNG_HOME moves it."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path))
    Measurements().record("model", RUN, MEASURED)
    assert list((tmp_path / "measured").iterdir())


def test_models_that_differ_in_a_number_of_their_architecture_are_two(tmp_path: Path) -> None:
    """A window is in no table of tensors, and decides what the cache takes."""
    keys = set()
    for window in (512, 4096):
        path = tmp_path / f"{window}.gguf"
        tiny_model(
            path,
            arch="gemma3",
            extra={
                "gemma3.attention.sliding_window": window,
                "gemma3.attention.head_count_kv": 4,
            },
        )
        keys.add(model_key(read_header(path)))
    assert len(keys) == 2
