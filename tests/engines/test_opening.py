"""From settings to engines: what a rung's model is known to have read goes with it under any name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from gguf_models import tiny_model
from rung.config import Settings
from rung.engines.opening import Engines
from rung.engines.protocol import KnowsTraining
from rung.starter import NAME, training_digests
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
