"""How `splits.json` was made: which rows of train.jsonl are for fitting, tuning and certifying, by a hash of the text.

Run from this folder: `python splits.py > splits.json`. Rows are numbered from 0 in file order. The hash puts equal
inputs (after normalising) into one part; an input that repeats is taken once, one that stands in test.jsonl not at
all. The starter model was trained by the same rule (`training/starter/splits.py`), so it has read no row that tunes,
certifies or tests here.
"""

from __future__ import annotations

import json
from pathlib import Path

from rung.text import text_digest

CERTIFY_BELOW, TUNE_BELOW = 25, 38
"""Of 100 buckets: those below the first certify, those below the second tune, the others fit."""


def main() -> None:
    """Print the splits as JSON."""
    print(json.dumps(splits(Path(__file__).parent)))


def splits(folder: Path) -> dict[str, object]:
    """Rows of train.jsonl by part; `test` holds the rows of test.jsonl without repeats."""
    test, seen = _first(_digests(folder / "test.jsonl"), set())
    parts: dict[str, list[int]] = {"calibration": [], "tune": [], "fit": []}
    digests = _digests(folder / "train.jsonl")
    rows, _ = _first(digests, seen)
    for row in rows:
        bucket = digests[row] % 100
        name = "calibration" if bucket < CERTIFY_BELOW else "tune" if bucket < TUNE_BELOW else "fit"
        parts[name].append(row)
    return {"format": 1, **parts, "test": test}


def _first(digests: list[int], seen: set[int]) -> tuple[list[int], set[int]]:
    """The rows whose text was not seen before, and all that has been seen after them."""
    rows, seen = [], set(seen)
    for row, digest in enumerate(digests):
        if digest not in seen:
            seen.add(digest)
            rows.append(row)
    return rows, seen


def _digests(path: Path) -> list[int]:
    with path.open(encoding="utf-8") as lines:
        return [text_digest(json.loads(line)["input"]) for line in lines]


if __name__ == "__main__":
    main()
