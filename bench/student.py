"""The student beside TF-IDF + logistic regression: accuracy, ranking of errors, speed and size.

    python bench/student.py --data DATA/banking77 --seeds 0 1 2 --fit-rows 8003
    python bench/student.py --data DATA/banking77 --million 1000000

`--data` is a folder with train.csv and test.csv, columns text and category. Each seed draws the
rows to fit on; the rest of train.csv is held out. Coverage at a risk is the hindsight kind: the
largest share of rows, surest first, with at most that share of errors among them. Times are of one
core: the numeric libraries are held to one thread. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from threadpoolctl import threadpool_limits

from rung.engines.student.artifact import load
from rung.engines.student.spool import spooled
from rung.engines.student.training import TrainingSettings, train

RISKS = (0.05, 0.02)

Probabilities = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


class Data(NamedTuple):
    """Texts and label numbers."""

    labels: tuple[str, ...]
    texts: list[str]
    targets: Numbers
    test_texts: list[str]
    test_targets: Numbers


class Fitted(NamedTuple):
    """A classifier after training."""

    predict: Callable[[list[str]], Probabilities]
    seconds: float
    megabytes: float


def read(folder: Path) -> Data:
    """Both files of `folder`."""

    def rows(name: str) -> list[tuple[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    fit, test = rows("train.csv"), rows("test.csv")
    labels = tuple(sorted({label for _, label in fit}))
    number = {label: place for place, label in enumerate(labels)}
    return Data(
        labels,
        [text for text, _ in fit],
        np.array([number[label] for _, label in fit]),
        [text for text, _ in test],
        np.array([number[label] for _, label in test]),
    )


def fit_student(data: Data, rows: Numbers, scratch: Path) -> Fitted:
    """Train, save and load a student."""

    def examples() -> Iterator[tuple[str, str]]:
        return ((data.texts[row], data.labels[data.targets[row]]) for row in rows)

    started = time.perf_counter()
    with spooled(examples, data.labels, scratch=scratch) as spool:
        artifact = train(spool)
    seconds = time.perf_counter() - started
    folder = artifact.save(scratch)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Fitted(load(scratch).model().probabilities, seconds, size / 1e6)


def fit_reference(data: Data, rows: Numbers, inverse_penalty: float) -> Fitted:
    """TF-IDF of words (1-2) and characters within words (2-5), then logistic regression."""
    pipeline = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        ),
        LogisticRegression(C=inverse_penalty, max_iter=300),
    )
    started = time.perf_counter()
    pipeline.fit([data.texts[row] for row in rows], data.targets[rows])
    seconds = time.perf_counter() - started
    size = pipeline[-1].coef_.astype(np.float32).nbytes
    return Fitted(pipeline.predict_proba, seconds, size / 1e6)


def coverage_at(probabilities: Probabilities, targets: Numbers, risk: float) -> float:
    """Largest share of rows, surest first and ties whole, with an error rate of at most `risk`."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    wrong = (probabilities.argmax(axis=1) != targets)[order]
    accepted = np.arange(1, len(order) + 1)
    ends_tie = np.append(np.diff(confidence[order]) != 0, [True])
    passing = accepted[ends_tie & (np.cumsum(wrong) <= risk * accepted)]
    return float(passing[-1] / len(order)) if len(passing) else 0.0


def exact_interval(right: int, count: int) -> tuple[float, float]:
    """Clopper–Pearson 95 % interval of a share."""
    low = float(betaincinv(right, count - right + 1, 0.025)) if right else 0.0
    high = float(betaincinv(right + 1, count - right, 0.975)) if right < count else 1.0
    return low, high


def measured(fitted: Fitted, data: Data, held_out: Numbers, repeats: int) -> dict[str, float]:
    """Every figure of one classifier on one draw."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        probabilities = fitted.predict(data.test_texts)
        seconds.append(time.perf_counter() - started)
    latencies = []
    for text in data.test_texts[:500]:
        started = time.perf_counter()
        fitted.predict([text])
        latencies.append((time.perf_counter() - started) * 1e3)
    held = fitted.predict([data.texts[row] for row in held_out])
    figures = {
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == data.test_targets)),
        "held_out_accuracy": float(np.mean(held.argmax(axis=1) == data.targets[held_out])),
        "train_seconds": fitted.seconds,
        "texts_per_second": len(data.test_texts) / min(seconds),
        "latency_p50_ms": float(np.percentile(latencies, 50)),
        "latency_p95_ms": float(np.percentile(latencies, 95)),
        "megabytes": fitted.megabytes,
    }
    for risk in RISKS:
        name = f"coverage_at_{risk:g}"
        figures[name] = coverage_at(probabilities, data.test_targets, risk)
        figures[f"held_out_{name}"] = coverage_at(held, data.targets[held_out], risk)
    return figures


def compare(data: Data, arguments: argparse.Namespace) -> dict[str, object]:
    """Both classifiers on every draw, means over the draws."""
    draws: dict[str, list[dict[str, float]]] = {"student": [], "reference": []}
    for seed in arguments.seeds:
        order = np.random.default_rng(seed).permutation(len(data.texts))
        rows, held_out = order[: arguments.fit_rows], order[arguments.fit_rows :]
        with tempfile.TemporaryDirectory() as scratch:
            student = fit_student(data, rows, Path(scratch))
        draws["student"].append(measured(student, data, held_out, 3))
        if arguments.reference:
            reference = fit_reference(data, rows, arguments.inverse_penalty)
            draws["reference"].append(measured(reference, data, held_out, 1))
    means = {
        name: {key: statistics.fmean(draw[key] for draw in found) for key in found[0]}
        for name, found in draws.items()
        if found
    }
    count = len(data.test_targets)
    interval = exact_interval(round(means["student"]["accuracy"] * count), count)
    return {"rows": count, "accuracy_interval": interval, "draws": draws, **means}


def show(result: dict[str, dict[str, float]]) -> None:
    """A table, one line a figure."""
    names = [name for name in ("student", "reference") if name in result]
    print(f"{'':32}" + "".join(f"{name:>12}" for name in names))
    for key in result["student"]:
        print(f"{key:32}" + "".join(f"{result[name][key]:12.4f}" for name in names))
    print(f"accuracy, 95 % exact interval of the student: {result['accuracy_interval']}")


def at_scale(data: Data, count: int) -> dict[str, float]:
    """Time and peak memory of training on `count` rows, those of train.csv over and over, varied."""

    def examples() -> Iterator[tuple[str, str]]:
        size = len(data.texts)
        for number in range(count):
            row = number % size
            yield f"{data.texts[row]} {number // size:x}", data.labels[data.targets[row]]

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        with spooled(examples, data.labels, scratch=Path(scratch)) as spool:
            hashed = time.perf_counter()
            on_disk = spool.index.path.stat().st_size
            train(spool)
        done = time.perf_counter()
    return {
        "rows": count,
        "passes": TrainingSettings().passes(count),
        "hash_seconds": hashed - started,
        "train_seconds": done - hashed,
        "scratch_megabytes": on_disk / 1e6,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def report(data: Data, arguments: argparse.Namespace) -> None:
    if arguments.million:
        scale = at_scale(data, arguments.million)
        for key, value in scale.items():
            print(f"{key:24}{value:14,.1f}")
        print(json.dumps({"format": 1, "bench": "student-scale", **scale}))
        return
    result = compare(data, arguments)
    show(result)  # type: ignore[arg-type]  # the table reads the two inner mappings only
    print(json.dumps({"format": 1, "bench": "student", "seeds": arguments.seeds, **result}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of train.csv, test.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fit-rows", type=int, default=8003)
    parser.add_argument("--inverse-penalty", type=float, default=10.0, help="C of the reference")
    parser.add_argument("--no-reference", dest="reference", action="store_false")
    parser.add_argument("--million", type=int, metavar="ROWS", help="measure memory at this size")
    arguments = parser.parse_args()
    data = read(arguments.data)
    with threadpool_limits(1):
        report(data, arguments)


if __name__ == "__main__":
    main()
