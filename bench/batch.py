"""How fast `rung batch` is, and how much memory it takes, beside a plain loop over scikit-learn.

A student is trained and certified on the given rows; then inputs of the given sizes are made from them and run
through `rung batch`, each in a process of its own so that its peak memory is its own. The loop beside it asks a
TF-IDF + logistic regression pipeline row by row in the same run and keeps nothing: no order, no receipts, no ledger.

    python bench/batch.py --data ../shared/data/banking77/train.csv --sizes 10000 100000 1000000
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CERTIFY_ROWS = 2000
LOOP_ROWS = 2000

SETTINGS = """format = 1
[rungs.student]
engine = "student"
model = "models/{task}"
where = "device"
accept = "certified"
[ladders]
default = ["student"]
[frontier]
input_per_million = "2.50"
output_per_million = "10.00"
currency = "USD"
date = "2026-11-01"
"""


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CSV with text and category")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the inputs")
    parser.add_argument("--target", default="5%", help="largest share of wrong answers")
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.data, arguments.seed)
    fit, certify = pairs[CERTIFY_ROWS:], pairs[:CERTIFY_ROWS]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root, fit, certify, arguments.target)
        runs = [measure(root, fit, size, arguments) for size in arguments.sizes]
    loop = plain_loop(fit, random.Random(arguments.seed))
    show(runs, loop)
    print(
        json.dumps(
            {
                "format": 1,
                "runs": runs,
                "loop_rows_per_second": loop,
                "times_the_loop": runs[-1]["rows_per_second"] / loop,
                "peak_growth_mib": runs[-1]["peak_mib"] - runs[0]["peak_mib"],
            }
        )
    )


def read_pairs(path: Path, seed: int) -> list[tuple[str, str]]:
    """Distinct (text, label) pairs in random order."""
    with path.open(encoding="utf-8", newline="") as file:
        found = {row["text"].strip(): row["category"] for row in csv.DictReader(file)}
    pairs = list(found.items())
    random.Random(seed).shuffle(pairs)
    return pairs


def prepare(
    root: Path, fit: list[tuple[str, str]], certify: list[tuple[str, str]], target: str
) -> None:
    """A project with a student trained on `fit` and certified on `certify`."""
    labels = sorted({label for _, label in fit})
    (root / "tasks").mkdir()
    (root / "rung.toml").write_text(SETTINGS)
    (root / "tasks" / "triage.toml").write_text(
        'format = 1\nkind = "classify"\ninstructions = "What is it about?"\n'
        f"labels = {json.dumps(labels)}\n[quality]\nmax_error = {target!r}\n"
    )
    for name, rows in (("fit", fit), ("certify", certify)):
        with (root / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "category"), *rows])
    rung(root, "train", "triage", "--on", "fit.csv")
    rung(root, "calibrate", "triage", "--on", "certify.csv", "--yes")


def rung(root: Path, *arguments: str) -> str:
    """Run the command line in `root`; what it prints."""
    command = [sys.executable, "-m", "rung", *arguments]
    done = subprocess.run(
        command, check=False, cwd=root, env=environment(), capture_output=True, text=True
    )
    if done.returncode not in (0, 4):  # 4: not certified, which is timed as well
        raise SystemExit(done.stderr)
    return done.stdout


def environment() -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[1] / "src")
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def measure(
    root: Path, pairs: list[tuple[str, str]], size: int, arguments: argparse.Namespace
) -> dict[str, float]:
    """One batch of `size` rows in a process of its own."""
    source = root / f"in{size}.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number, (text, _) in enumerate(itertools.islice(itertools.cycle(pairs), size)):
            line = {"id": f"q{number}", "text": f"{text} {number // len(pairs)}"}
            file.write(json.dumps(line) + "\n")
    output = root / f"out{size}.jsonl"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(Path(__file__)), "--one", str(root), str(source), str(output)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, summary = done.stdout.splitlines()[-1], json.loads(done.stdout.splitlines()[0])
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    source.unlink()
    output.unlink()
    return {
        "rows": size,
        "rows_per_second": summary["rows_per_second"],
        "seconds": summary["seconds"],
        "cpu_us_per_row": cpu / size * 1e6,
        "peak_mib": int(peak) / 1024,
        "answered_share": summary["answered"] / summary["rows"],
    }


def one(root: Path, source: str, output: str) -> None:
    """The measured process: the summary, then its peak memory in KiB."""
    from rung.cli import root as command_line  # noqa: PLC0415 - only this process needs it

    command = ["batch", source, "--task", "triage", "-o", output, "--json"]
    command += ["--config", str(root / "rung.toml")]
    try:
        command_line(command)
    finally:
        sys.stdout.flush()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def plain_loop(pairs: list[tuple[str, str]], draw: random.Random) -> float:
    """Rows a second of a scikit-learn pipeline that is asked row by row."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - seconds to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=20, max_iter=200),
    )
    texts, labels = zip(*pairs, strict=True)
    pipeline.fit(texts, labels)
    asked = draw.sample(texts, min(LOOP_ROWS, len(texts)))
    started = time.perf_counter()
    for text in asked:
        pipeline.predict_proba([text])
    return len(asked) / (time.perf_counter() - started)


def show(runs: list[dict[str, float]], loop: float) -> None:
    print(f"{'rows':>10} {'rows/s':>9} {'s':>7} {'CPU µs/row':>11} {'peak MiB':>9} {'answered':>9}")
    for run in runs:
        print(
            f"{run['rows']:>10,} {run['rows_per_second']:>9,.0f} {run['seconds']:>7.1f}"
            f" {run['cpu_us_per_row']:>11.0f} {run['peak_mib']:>9.0f} {run['answered_share']:>9.1%}"
        )
    print(f"scikit-learn, row by row: {loop:,.0f} rows/s")
    print(f"rung batch is {runs[-1]['rows_per_second'] / loop:.1f} times as fast")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        main()
