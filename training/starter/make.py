"""Makes the starter model: splits, tokenizer, training, export, evaluation. Each step can be run again by itself.

    python training/starter/make.py --data ../shared/data --out /tmp/starter
    python training/starter/make.py --data ../shared/data --out /tmp/starter --only export evaluate

A training run that was stopped goes on from its last checkpoint in `--out`. `ship` copies the model and the digests of
its training rows into the package.
"""

# ruff: noqa: T201 -- a command line
from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bpe import Vocabulary, learn
from sources import Row, read_all
from splits import rows_in, splits_of, write_splits

from rung.text import text_digest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "rung" / "starter"
MODEL = "starter-f16.gguf"
PROMPT_WORDS = (
    "classify", "extract", "intent", "support", "triage", "assistant", "command", "task",
)  # fmt: skip
"""Words of the system turn, each one token."""


class Job(NamedTuple):
    """Where the data is, where what is made goes, and how long training may take."""

    data: Path
    out: Path
    minutes: float

    def part(self, name: str) -> list[Row]:
        """The rows of one part."""
        rows = read_all(self.data)
        return rows_in(rows, splits_of(rows), name)

    def vocabulary(self) -> Vocabulary:
        """The tokenizer of this run."""
        return Vocabulary.load(self.out / "vocabulary.json")


def make_splits(job: Job) -> None:
    """Which row is in which part."""
    write_splits(job.data)


def make_tokenizer(job: Job) -> None:
    """Learn the vocabulary from the training rows."""
    rows = job.part("train")
    names = {row.label for row in rows if row.label} | {
        name for row in rows for name in row.expected
    }
    learn([row.input for row in rows], names | set(PROMPT_WORDS)).save(job.out / "vocabulary.json")


def make_weights(job: Job) -> None:
    """Train, or go on training."""
    from train import Run, train  # noqa: PLC0415 -- torch takes seconds and only this step needs it

    run = Run(out=job.out, minutes=job.minutes)
    train(run, job.part("train"), job.part("dev"), job.vocabulary())


def make_model(job: Job) -> None:
    """Write the GGUF of the averaged weights."""
    from export import export, load_average  # noqa: PLC0415 -- torch

    state, shape = load_average(job.out)
    export(state, shape, job.vocabulary(), job.out / MODEL)


def make_figures(job: Job) -> None:
    """Ask the GGUF about the held rows."""
    from evaluate import evaluate  # noqa: PLC0415 -- the engine's wheel

    figures = json.dumps(evaluate(job.data, job.out / MODEL))
    (job.out / "figures.json").write_text(figures + "\n", encoding="utf-8")
    print(figures)


def ship(job: Job) -> None:
    """Put the model and the digests of its training rows into the package."""
    digests = sorted({text_digest(row.input) for row in job.part("train")})
    np.save(PACKAGE / "rows.npy", np.array(digests, dtype=np.uint64), allow_pickle=False)
    shutil.copyfile(job.out / MODEL, PACKAGE / MODEL)


STEPS: dict[str, Callable[[Job], None]] = {
    "splits": make_splits,
    "tokenizer": make_tokenizer,
    "train": make_weights,
    "export": make_model,
    "evaluate": make_figures,
    "ship": ship,
}


def main() -> None:
    """Run the steps that are asked for, in order; without `--only` all but `ship`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the five data sets")
    parser.add_argument(
        "--out", type=Path, required=True, help="where checkpoints and the model go"
    )
    parser.add_argument("--minutes", type=float, default=60, help="bound on training (60)")
    parser.add_argument("--only", nargs="+", choices=STEPS, help="only these steps")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    job = Job(options.data, options.out, options.minutes)
    for name in options.only or [name for name in STEPS if name != "ship"]:
        print(f"--- {name}", flush=True)
        STEPS[name](job)


if __name__ == "__main__":
    main()
