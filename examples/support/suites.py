"""The demo's suites, from the data files and the shipped splits.

Each row has one role: fitting the student, fitting the starter's calibrator, certifying, or testing. The splits are
made by `data/splits.py` and `data/booking/splits.py` from a hash of each text, and the built-in model was trained on no
row but those of `fit`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rung.text import text_digest

DATA = Path(__file__).resolve().parent / "data"

BOOKING_ROWS = {"tune": 200, "calibration": 400, "test": 400}
"""How many rows of each split of the bookings are used: a language model takes longer than a student."""


class Suites(NamedTuple):
    """The files of one task; `fit` trains the student, None where there is none."""

    fit: Path | None
    tune: Path
    calibration: Path
    test: Path


def triage(folder: Path) -> Suites:
    """BANKING77: questions and their one intent of 77."""
    train, test = _questions(DATA / "train.csv"), _questions(DATA / "test.csv")
    splits = _splits(DATA / "splits.json")
    rows = {name: [train[row] for row in splits[name]] for name in ("fit", "tune", "calibration")}
    written = {
        name: _write(folder / f"triage-{name}.jsonl", pairs)
        for name, pairs in (rows | {"test": test}).items()
    }
    return Suites(**written)


def booking(folder: Path) -> Suites:
    """Restaurant8k: what a guest says, and the fields of the booking that stand in it."""
    data = DATA / "booking"
    source = {name: _bookings(data / f"{name}.jsonl") for name in ("train", "test")}
    splits = _splits(data / "splits.json")
    written = {
        name: _write(
            folder / f"booking-{name}.jsonl",
            _drawn(source["test" if name == "test" else "train"], splits[name], count),
        )
        for name, count in BOOKING_ROWS.items()
    }
    return Suites(fit=None, **written)


def _drawn(rows: Sequence[tuple[str, Any]], split: Sequence[int], count: int) -> list[Any]:
    """`count` rows of a split in the order of their hashes, which is none of the file's."""
    return [rows[row] for row in sorted(split, key=lambda row: text_digest(rows[row][0]))[:count]]


def _questions(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def _bookings(path: Path) -> list[tuple[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [(row["input"], row["expected"]) for row in map(json.loads, file)]


def _splits(path: Path) -> dict[str, Sequence[int]]:
    splits: dict[str, Sequence[int]] = json.loads(path.read_text(encoding="utf-8"))
    return splits


def _write(path: Path, rows: Iterable[tuple[str, Any]]) -> Path:
    """A suite of these (input, expected) pairs; each is a draw from the traffic."""
    with path.open("w", encoding="utf-8") as file:
        for number, (text, expected) in enumerate(rows):
            row = {"id": f"{path.stem}-{number}", "input": text, "expected": expected}
            file.write(json.dumps(row | {"sampling": "traffic"}, ensure_ascii=False) + "\n")
    return path
