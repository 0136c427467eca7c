"""Writes the booking demo's rows from Restaurant8k's files, as the starter model reads them.

    python training/starter/booking.py --data ../shared/data

writes examples/support/data/booking/{train,test}.jsonl.

Rows stay in the order of the upstream files, so row numbers mean the same in both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sources import RESTAURANT_SLOTS, restaurant8k

TARGET = Path(__file__).resolve().parents[2] / "examples" / "support" / "data" / "booking"
FILES = {"train_0.json.gz": "train.jsonl", "test.json.gz": "test.jsonl"}


def lines(data: Path, file: str) -> list[str]:
    """One JSON object a row: the input and the slots that occur, in the schema's order."""
    rows = []
    for row in restaurant8k(data, file):
        values = row.expected
        expected = {slot: values[slot] for slot in RESTAURANT_SLOTS if slot in values}
        rows.append(json.dumps({"input": row.input, "expected": expected}, ensure_ascii=False))
    return rows


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    options = parser.parse_args()
    TARGET.mkdir(parents=True, exist_ok=True)
    for file, name in FILES.items():
        text = "".join(f"{line}\n" for line in lines(options.data, file))
        (TARGET / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
