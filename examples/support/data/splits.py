"""How `splits.json` was made: which rows of train.csv fit the student, tune, and certify, by a hash of the text.

Run from this folder: `python splits.py > splits.json`. Rows are numbered from 0 in file order. The hash puts equal
questions (after normalising) into one part, so no part shares a question with another, and the starter model, whose
training splits follow the same rule (`training/starter/splits.py`), has read none that tunes or certifies here.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from rung.text import text_digest

CERTIFY_BELOW, TUNE_BELOW = 20, 30
"""Of 100 buckets: those below the first certify, those below the second tune, the others fit."""


def main() -> None:
    """Print the splits as JSON."""
    print(json.dumps(splits(Path(__file__).parent)))


def splits(folder: Path) -> dict[str, object]:
    """Rows of train.csv by part, without questions that repeat or stand in test.csv."""
    seen = set(_digests(folder / "test.csv"))
    parts: dict[str, list[int]] = {"calibration": [], "tune": [], "fit": []}
    for row, digest in enumerate(_digests(folder / "train.csv")):
        if digest not in seen:
            seen.add(digest)
            bucket = digest % 100
            name = (
                "calibration"
                if bucket < CERTIFY_BELOW
                else "tune"
                if bucket < TUNE_BELOW
                else "fit"
            )
            parts[name].append(row)
    return {"format": 1, **parts}


def _digests(path: Path) -> list[int]:
    with path.open(encoding="utf-8", newline="") as file:
        return [text_digest(row["text"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
