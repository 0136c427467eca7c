"""The demo's figures over many draws: certified coverage and measured error, beside plain TF-IDF + logistic regression.

Each draw splits the training file anew into rows to fit and rows to certify, trains both, certifies both by the same
procedure (four starts, attempt 1), and applies both to the same test file. Prints a table and one JSON line.

    python bench/demo.py --data ../shared/data/banking77 --draws 20
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from rung.engines.student.spool import spooled
from rung.engines.student.training import out_of_fold, train
from rung.text import normalize
from rung.trust.bounds import attempt_delta
from rung.trust.certification import certify
from rung.trust.fitting import fit_calibrator
from rung.trust.path import threshold_path
from rung.trust.signals import classification_signals


class Rows(NamedTuple):
    """Texts with the number of each one's label."""

    texts: list[str]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """These rows."""
        return Rows([self.texts[row] for row in rows], self.labels[rows])


class Scored(NamedTuple):
    """Confidence and correctness of each certifying and each test row, and the unlabelled reference."""

    certifying: tuple[NDArray[np.float64], NDArray[np.bool_]]
    test: tuple[NDArray[np.float64], NDArray[np.bool_]]
    reference: NDArray[np.float64]


def main() -> None:
    """Run the draws and print what they gave."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with train.csv and test.csv (text, category)",
    )
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--certify-rows", type=int, default=2_000)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.05, 0.02])
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    names, pool, test = load(options.data)
    delta = attempt_delta(1 - options.confidence, 1)
    results: list[dict[str, float]] = []
    for draw in range(options.draws):
        started = time.perf_counter()
        order = np.random.default_rng([options.seed, draw]).permutation(len(pool.texts))
        certifying, fit = (
            pool.take(order[: options.certify_rows]),
            pool.take(order[options.certify_rows :]),
        )
        scored = {
            "rung": by_rung(names, fit, certifying, test, options.processes),
            "plain": by_plain(fit, certifying, test),
        }
        row: dict[str, float] = {}
        for name, side in scored.items():
            row[f"{name}.accuracy"] = float(side.test[1].mean())
            for target in options.targets:
                row |= applied(side, target, delta, f"{name}.{target:g}")
        results.append(row)
        print(
            f"draw {draw + 1}/{options.draws}  {time.perf_counter() - started:.0f} s",
            file=sys.stderr,
        )
    report(results, options, len(test.texts))


def load(folder: Path) -> tuple[list[str], Rows, Rows]:
    """Label names, the pool that draws split, and the test rows; pool texts are unique and not in the test."""
    train_rows, test_rows = read(folder / "train.csv"), read(folder / "test.csv")
    names = sorted({label for _, label in train_rows})
    number = {name: index for index, name in enumerate(names)}
    seen = {normalize(text) for text, _ in test_rows}
    unique = [
        (text, label)
        for text, label in train_rows
        if normalize(text) not in seen and not seen.add(normalize(text))  # type: ignore[func-returns-value]
    ]
    return names, rows(unique, number), rows(test_rows, number)


def read(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def rows(pairs: Sequence[tuple[str, str]], number: dict[str, int]) -> Rows:
    return Rows([text for text, _ in pairs], np.array([number[label] for _, label in pairs]))


def by_rung(names: list[str], fit: Rows, certifying: Rows, test: Rows, processes: int) -> Scored:
    """The student and its calibrator, as `rung train` makes them."""
    pairs = [(text, names[label]) for text, label in zip(fit.texts, fit.labels, strict=True)]
    with spooled(lambda: pairs, names) as spool:
        model = train(spool).model()
        out = out_of_fold(spool, processes=processes)
    signals = classification_signals(out, fit.texts)
    calibrator = fit_calibrator(signals, signals.predicted == fit.labels, source="out-of-fold")

    def score(given: Rows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        found = classification_signals(model.probabilities(given.texts), given.texts)
        return calibrator.confidence(found), found.predicted == given.labels

    return Scored(score(certifying), score(test), np.array(calibrator.quantiles))


def by_plain(fit: Rows, certifying: Rows, test: Rows) -> Scored:
    """TF-IDF + logistic regression, raw probability; the certifying scores, labels unread, are the reference."""
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )
    model = make_pipeline(features, LogisticRegression(C=10, max_iter=200))
    model.fit(fit.texts, fit.labels)

    def score(given: Rows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        found = model.predict_proba(given.texts)
        return found.max(axis=1), model.classes_[found.argmax(axis=1)] == given.labels

    certified = score(certifying)
    return Scored(certified, score(test), certified[0])


def applied(side: Scored, target: float, delta: float, name: str) -> dict[str, float]:
    """Coverage and error on the test rows at the certified threshold; coverage 0 when nothing was certified."""
    confidence, right = side.certifying
    path = threshold_path([side.reference], rows=len(confidence), max_error=target, delta=delta)
    found = certify(confidence, ~right, path, max_error=target, delta=delta)
    if found.thresholds is None:
        return {f"{name}.coverage": 0.0, f"{name}.error": 0.0}
    accepted = side.test[0] > found.thresholds[0]
    wrong = ~side.test[1][accepted]
    return {f"{name}.coverage": float(accepted.mean()), f"{name}.error": float(wrong.mean())}


def report(results: list[dict[str, float]], options: argparse.Namespace, test_rows: int) -> None:
    """The table, then the JSON line: means over draws with the 95 % interval of each mean."""
    means = {key: mean([row[key] for row in results]) for key in results[0]}
    print(
        f"{options.draws} draws · {options.certify_rows:,} certifying rows · {test_rows:,} test rows · attempt 1"
    )
    print(f"{'':<22}{'rung':>24}{'TF-IDF + LR':>24}{'difference':>24}")
    table: dict[str, object] = {}
    keys = [
        "accuracy",
        *(f"{t:g}.{what}" for t in options.targets for what in ("coverage", "error")),
    ]
    for key in keys:
        paired = mean([row[f"rung.{key}"] - row[f"plain.{key}"] for row in results])
        table[key] = {
            "rung": means[f"rung.{key}"],
            "plain": means[f"plain.{key}"],
            "difference": paired,
        }
        cells = "".join(
            f"{shown(cell):>24}" for cell in (means[f"rung.{key}"], means[f"plain.{key}"], paired)
        )
        print(f"{key:<22}{cells}")
    print(
        json.dumps({"format": 1, "draws": options.draws, "test_rows": test_rows, "figures": table})
    )


def mean(values: list[float]) -> dict[str, float]:
    """Mean over draws, the half width of its 95 % interval (normal), the least and the greatest."""
    found = np.array(values)
    half = 1.96 * found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    return {
        "mean": float(found.mean()),
        "half": float(half),
        "min": float(found.min()),
        "max": float(found.max()),
    }


def shown(cell: dict[str, float]) -> str:
    return f"{cell['mean']:.4f} ± {cell['half']:.4f}"


if __name__ == "__main__":
    main()
