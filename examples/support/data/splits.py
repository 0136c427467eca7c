"""How `splits.json` was made: which rows of train.csv fit the student and which certify it.

Run from this folder: `python splits.py > splits.json`. Rows are numbered from 0 in file order.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

from rung.text import normalize

SEED = 77
CALIBRATION_ROWS = 2_000


def main() -> None:
    """Print the splits as JSON."""
    here = Path(__file__).parent
    train = _texts(here / "train.csv")
    seen = set(_texts(here / "test.csv"))
    rows = []
    for row, text in enumerate(train):
        if text not in seen:  # neither a repeat within train.csv nor a question of test.csv
            seen.add(text)
            rows.append(row)
    random.Random(SEED).shuffle(rows)
    splits = {
        "format": 1,
        "source": "train.csv, without texts that repeat or stand in test.csv (after normalising)",
        "seed": SEED,
        "calibration": sorted(rows[:CALIBRATION_ROWS]),
        "fit": sorted(rows[CALIBRATION_ROWS:]),
    }
    print(json.dumps(splits))


def _texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [normalize(row["text"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
