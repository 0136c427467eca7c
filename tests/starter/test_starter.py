"""The starter model's file is there, and none of what it has read certifies, tunes or tests anything."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rung.starter import model_path, training_digests
from rung.text import text_digest

REPOSITORY = Path(__file__).resolve().parents[2]
TRAINING = REPOSITORY / "training" / "starter"
SUPPORT = REPOSITORY / "examples" / "support" / "data"
BOOKING = REPOSITORY / "examples" / "support" / "data" / "booking"

Splits = dict[str, dict[str, dict[str, list[int]]]]


def load(name: str, path: Path) -> ModuleType:
    """A script as a module, without its folder on the path."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shipped_splits() -> Splits:
    """What `training/starter/splits.json` says."""
    stored = json.loads((TRAINING / "splits.json").read_text(encoding="utf-8"))
    datasets: Splits = stored["datasets"]
    return datasets


def demo_splits(folder: Path) -> dict[str, Any]:
    """A demo's `splits.json`."""
    stored: dict[str, Any] = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    return stored


def support_inputs(name: str) -> list[str]:
    """The questions of one of the support demo's files."""
    with (SUPPORT / name).open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def booking_inputs(name: str) -> list[str]:
    """The messages of one of the booking demo's files."""
    with (BOOKING / name).open(encoding="utf-8") as lines:
        return [json.loads(line)["input"] for line in lines]


@pytest.fixture(scope="module")
def read() -> frozenset[int]:
    """Digests of what the model was trained on."""
    return frozenset(training_digests().tolist())


@pytest.fixture(scope="module")
def training(shared_data: Path) -> Any:
    """The training scripts' splits module and every row of the data sets."""
    sys.path.insert(0, str(TRAINING))
    try:
        splits = load("splits", TRAINING / "splits.py")
    finally:
        sys.path.remove(str(TRAINING))
    return splits, splits.read_all(shared_data)


def test_the_model_is_one_gguf_of_at_most_16_megabytes() -> None:
    """It travels in the wheel, so its size is everybody's."""
    path = model_path()
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
    assert path.stat().st_size <= 16_000_000


def test_the_digests_are_sorted_and_no_digest_is_there_twice() -> None:
    """Whoever looks a digest up may search by halves."""
    digests = training_digests()
    assert digests.dtype == np.uint64
    assert np.all(digests[1:] > digests[:-1])


def test_no_question_that_tunes_certifies_or_tests_in_the_support_demo_was_trained_on(
    read: frozenset[int],
) -> None:
    """A certificate on rows that the model has read would be worthless."""
    splits, train = demo_splits(SUPPORT), support_inputs("train.csv")
    held = [train[row] for part in ("tune", "calibration") for row in splits[part]]
    held += support_inputs("test.csv")
    assert not read & {text_digest(text) for text in held}


def test_no_message_that_tunes_certifies_or_tests_in_the_booking_demo_was_trained_on(
    read: frozenset[int],
) -> None:
    """A certificate on rows that the model has read would be worthless."""
    splits, train = demo_splits(BOOKING), booking_inputs("train.jsonl")
    held = [train[row] for part in ("tune", "calibration") for row in splits[part]]
    held += booking_inputs("test.jsonl")
    assert not read & {text_digest(text) for text in held}


@pytest.mark.parametrize("folder", [SUPPORT, BOOKING], ids=["support", "booking"])
def test_a_demos_splits_follow_from_their_rule(folder: Path) -> None:
    """Nobody chose the rows by hand."""
    rule = load(f"{folder.parent.name}_splits", folder / "splits.py")
    assert rule.splits(folder) == demo_splits(folder)


@pytest.mark.parametrize(
    ("folder", "dataset", "file"),
    [(SUPPORT, "banking77", "train.csv"), (BOOKING, "restaurant8k", "train_0.json.gz")],
    ids=["support", "booking"],
)
def test_a_demo_and_the_starter_hold_back_the_same_rows(
    folder: Path, dataset: str, file: str
) -> None:
    """Two rules that say the same must stay the same."""
    demo, starter = demo_splits(folder), shipped_splits()[dataset][file]
    known = {row for rows in starter.values() for row in rows}
    # A row whose text also stands in another data set's test rows is in no part of the starter's.
    assert set(starter["certify"]) == set(demo["calibration"]) & known
    assert set(starter["tune"]) == set(demo["tune"]) & known
    assert {*starter["train"], *starter["dev"]} == set(demo["fit"]) & known


def test_the_shipped_splits_follow_from_the_rule(training: Any) -> None:
    """Made again from the data sets, they are what is in the repository."""
    splits, rows = training
    assert splits.splits_of(rows) == shipped_splits()


def test_the_digests_are_those_of_the_training_rows_and_of_no_other_part(
    training: Any, read: frozenset[int]
) -> None:
    """Not even the rows that chose between runs are among them."""
    splits, rows = training
    parts = {
        part: {text_digest(row.input) for row in splits.rows_in(rows, shipped_splits(), part)}
        for part in splits.PARTS
    }
    assert read == parts["train"]
    for part in ("test", "certify", "tune", "dev"):
        assert not read & parts[part]


def test_every_test_file_is_held_back_whole(training: Any, read: frozenset[int]) -> None:
    """BANKING77 test, CLINC150 validation, SNIPS validation and test, Restaurant8k test: no text of theirs was read."""
    splits, rows = training
    held = {text_digest(row.input) for row in rows if row.file in splits.HELD_FILES[row.dataset]}
    assert held
    assert not read & held
