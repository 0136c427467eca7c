"""Which row of which data set trains, tunes, certifies or tests: a rule on the text, so that it can be checked.

    python training/starter/splits.py --data ../shared/data      writes training/starter/splits.json

A row's part follows from `text_digest(input) % 100`, so equal inputs (after normalising) share a part. An input that
occurs more than once, in one data set or in several, belongs to exactly one row: the one whose part comes first in
`PARTS`, and within a part the one read first. The other rows are in no part.
"""

# ruff: noqa: T201 -- a command line
from __future__ import annotations

import argparse
import json
from pathlib import Path

from sources import Row, read_all

from rung.text import text_digest

PARTS = ("test", "certify", "tune", "dev", "train")
"""Which part keeps an input that several could claim."""

HELD_FILES = {
    "banking77": {"test.csv"},
    "clinc150": {"val", "oos_train", "oos_val"},
    "snips": {"valid", "test"},
    "restaurant8k": {"test.json.gz"},
    "nlupp": set[str](),
}
"""Files that only ever test."""

FIRST_TRAIN_BUCKET = {"banking77": 30, "restaurant8k": 38, "nlupp": 20}
"""Buckets below it are held back; a data set that is not named trains on every bucket but dev's."""

CERTIFY_BUCKETS = {"banking77": 20, "restaurant8k": 25}
FIRST_DEV_BUCKET = 96

Splits = dict[str, dict[str, dict[str, list[int]]]]
"""Data set, file, part: row numbers in file order, counted from 0."""


def part(dataset: str, file: str, text: str) -> str:
    """The part the rule gives a row, before inputs that occur twice are settled."""
    if file in HELD_FILES[dataset]:
        return "test"
    bucket = text_digest(text) % 100
    if bucket >= FIRST_DEV_BUCKET:
        return "dev"
    if bucket >= FIRST_TRAIN_BUCKET.get(dataset, 0):
        return "train"
    if dataset == "nlupp":
        return "test"
    return "certify" if bucket < CERTIFY_BUCKETS[dataset] else "tune"


def assign(rows: list[Row]) -> list[str | None]:
    """Every row's part; None for a row whose input another row holds."""
    parts = [part(row.dataset, row.file, row.input) for row in rows]
    digests = [text_digest(row.input) for row in rows]
    holder: dict[int, int] = {}
    for index in sorted(range(len(rows)), key=lambda index: (PARTS.index(parts[index]), index)):
        holder.setdefault(digests[index], index)
    return [
        name if holder[digest] == index else None
        for index, (name, digest) in enumerate(zip(parts, digests, strict=True))
    ]


def splits_of(rows: list[Row]) -> Splits:
    """`assign` as it is written to `splits.json`."""
    splits: Splits = {}
    for row, name in zip(rows, assign(rows), strict=True):
        if name is not None:
            splits.setdefault(row.dataset, {}).setdefault(row.file, {}).setdefault(name, []).append(
                row.number
            )
    return splits


def rows_in(rows: list[Row], splits: Splits, name: str) -> list[Row]:
    """The rows of one part, in reading order."""
    wanted = {
        (dataset, file, number)
        for dataset, files in splits.items()
        for file, parts in files.items()
        for number in parts.get(name, ())
    }
    return [row for row in rows if (row.dataset, row.file, row.number) in wanted]


def main() -> None:
    """Write the splits beside this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the five data sets")
    options = parser.parse_args()
    write_splits(options.data)


def write_splits(data: Path) -> Splits:
    """Make the splits, write them beside this file and print how many rows each part has."""
    splits = splits_of(read_all(data))
    target = Path(__file__).with_name("splits.json")
    target.write_text(
        json.dumps({"format": 1, "datasets": splits}, separators=(",", ":")) + "\n",
        encoding="utf-8",
    )
    for dataset, files in splits.items():
        counts = {name: sum(len(parts.get(name, ())) for parts in files.values()) for name in PARTS}
        print(f"{dataset:<14}" + "  ".join(f"{name} {count:,}" for name, count in counts.items()))
    return splits


if __name__ == "__main__":
    main()
