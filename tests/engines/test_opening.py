"""From settings to engines: what a rung's model is known to have read goes with it under any name."""

from __future__ import annotations

import asyncio
import csv
import errno
import json
from pathlib import Path

import psutil
import pytest

from gguf_models import tiny_model
from rung.config import Settings
from rung.engines.opening import Engines
from rung.engines.protocol import GenerateRequest, KnowsTraining
from rung.starter import NAME, training_digests
from rung.task import Message
from rung.text import text_digest
from rung.userfiles.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]

RUNGS = """format = 1
[rungs.copy]
engine = "llama_cpp"
model = "copy.gguf"
[rungs.other]
engine = "llama_cpp"
model = "other.gguf"
[rungs.tape]
engine = "replay"
recording = "tape.jsonl"
replays = "copy"
[ladders]
default = ["copy", "other", "tape"]
"""


def opened(root: Path) -> Settings:
    """A project with a file that calls itself the starter model, another one, and a recording of the first."""
    tiny_model(root / "copy.gguf", extra={"general.name": NAME})
    tiny_model(root / "other.gguf", extra={"general.name": "another"})
    (root / "rung.toml").write_text(RUNGS)
    return load_settings(root / "rung.toml")


def knows(settings: Settings, rung: str, texts: list[str]) -> list[bool]:
    """What the rung's engine says of these texts."""
    engine = Engines(settings).get(settings.rungs[rung], "triage")
    assert isinstance(engine, KnowsTraining)
    return engine.trained_on(texts).tolist()


def test_an_engine_that_fails_to_close_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the processes that models run in."""

    async def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scene() -> None:
        settings = opened(tmp_path)
        engines = Engines(settings)
        found = [engines.get(settings.rungs[name], "triage") for name in ("copy", "other", "tape")]
        request = GenerateRequest(messages=(Message("user", "hello"),), max_tokens=1)
        before = set(psutil.Process().children())
        await asyncio.gather(*(engine.generate(request) for engine in found[:2]))
        started = set(psutil.Process().children()) - before
        assert len(started) == 2
        for engine in found:
            monkeypatch.setattr(engine, "aclose", fail)
        with pytest.raises(OSError, match="No space left"):
            await engines.aclose()
        assert not any(child.is_running() for child in started)
        await engines.aclose()

    asyncio.run(scene())


def test_a_copy_of_the_starter_model_and_its_recording_know_its_training_rows(
    tmp_path: Path,
) -> None:
    """A certificate on such rows would promise too much, whatever the file is called."""
    settings = opened(tmp_path)
    data = ROOT / "examples" / "support" / "data"
    row = json.loads((data / "splits.json").read_text())["fit"][0]
    with (data / "train.csv").open(encoding="utf-8", newline="") as file:
        learnt = list(csv.DictReader(file))[row]["text"]
    texts = [learnt, "no one has ever read this line 7341"]
    assert text_digest(texts[0]) in set(training_digests().tolist())
    assert knows(settings, "copy", texts) == [True, False]
    assert knows(settings, "tape", texts) == [True, False]
    assert knows(settings, "other", texts) == [False, False]
