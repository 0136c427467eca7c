"""How often a certificate is false, and how much it covers, over many random splits.

    python bench/guarantee.py --data DATA --splits 500 --seed 1

`--data` is a folder with `frugalml/`, `banking77/` and `clinc150/`. A set's labelled outcomes (at
most `--pool` rows, or all that the models were not trained on) stand for the world: each split
draws `--labels` rows from them with replacement, certifies on those, and the truth is the pooled
risk of the chosen thresholds over the whole pool. A split without a certificate accepts nothing and
is no violation; its coverage counts as 0.

Rung 1 is the free local model of a set, or Rung's student; rung 2 a named paid service, or a
heavier local model (`LADDERS` below; printed with the table). On `frugalml` rung 1's calibrator is
fitted on its agreement with rung 2 over rows outside the pool; the student's on its out-of-fold
scores. Rung 2's own confidence is taken as it is. Models are trained once. Intervals are exact and
hold for all cells of the table at once (Bonferroni). `--delta` is the probability of a false
certificate that each split may spend; the product spreads 0.05 over all attempts at a certificate,
and its first attempt spends 6·0.05/π² = 0.0304 of it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from rung.engines.student.spool import spooled
from rung.engines.student.training import out_of_fold, train
from rung.trust.bounds import binomial_p_value, interval
from rung.trust.calibrator import raw_calibrator
from rung.trust.certification import choose, first_accepting
from rung.trust.fitting import fit_calibrator
from rung.trust.path import threshold_path
from rung.trust.sequence import rejected
from rung.trust.signals import answer_signals, classification_signals

LADDERS = {
    "COMMAND": ("GitHub_DeepSpeech", "Microsoft"),
    "FLUENT": ("GitHub_DeepSpeech", "Microsoft"),
    "AUDIOMNIST": ("GitHub_DeepSpeech", "Microsoft"),
    "DIGIT": ("GitHub_DeepSpeech", "Microsoft"),
    "IMDB": ("GitHub_Vader", "Google"),
    "YELP": ("GitHub_Vader", "Google"),
    "YELP-Amazon": ("Amazon", "Google"),
    "BANKING77": ("student", "tf-idf + logistic regression"),
    "CLINC150": ("student", "tf-idf + logistic regression"),
}

FLOORS_TARGET = 0.05

FLOORS = {
    ("COMMAND", 1000): 0.71,
    ("AUDIOMNIST", 1000): 0.93,
    ("YELP-Amazon", 1000): 0.65,
    ("COMMAND", 300): 0.60,
    ("AUDIOMNIST", 300): 0.91,
    ("FLUENT", 300): 0.38,
}
"""Mean certified coverage to reach with one rung at 5 % (reference: routing, section 6)."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """One set's pool: confidences and mistakes of both rungs, shape (rows, 2), and references."""

    name: str
    scores: Floats
    wrong: Flags
    references: tuple[Floats, Floats]
    calibrator: str


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    set: str
    rungs: int
    target: float
    labels: int
    splits: int
    violations: int
    certified: float
    coverage: float
    on_first_rung: float


def frugal(data: Path, name: str, pool: int, seed: int) -> Outcomes:
    bottom, top = LADDERS[name]
    with gzip.open(data / "frugalml" / f"{name.split('-', maxsplit=1)[0]}.csv.gz", "rt") as file:
        header = next(csv.reader(file))
        table = np.loadtxt(file, delimiter=",")
    column = {title: table[:, place] for place, title in enumerate(header)}
    answers = {model: column[f"{model}|pred"].astype(int) for model in (bottom, top)}
    labels = np.unique(np.concatenate([column["true"], *answers.values()]))
    signals = {
        model: answer_signals(column[f"{model}|conf"], np.searchsorted(labels, answer), len(labels))
        for model, answer in answers.items()
    }
    order = np.random.default_rng(seed).permutation(len(table))
    outside, inside = np.split(order, [max(len(order) // 3, len(order) - pool)])
    calibrator = fit_calibrator(
        signals[bottom].take(outside),
        (answers[bottom] == answers[top])[outside],
        source=f"agreement:{top}",
    )
    above = raw_calibrator(signals[top].take(outside), source="held-out")
    models = ((bottom, calibrator), (top, above))
    scores = np.column_stack([c.confidence(signals[m].take(inside)) for m, c in models])
    wrong = np.column_stack([answers[m][inside] != column["true"][inside] for m, _ in models])
    references = (np.array(calibrator.quantiles), np.array(above.quantiles))
    return Outcomes(name, scores, wrong, references, calibrator.kind)


def texts(data: Path, name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Rows to draw the fit part from, and rows that go to the pool whole."""
    if name == "BANKING77":
        parts = []
        for part in ("train.csv", "test.csv"):
            with (data / "banking77" / part).open(encoding="utf-8", newline="") as file:
                parts.append([(row["text"], row["category"]) for row in csv.DictReader(file)])
        return parts[0], parts[1]
    with gzip.open(data / "clinc150" / "train_val.json.gz", "rt", encoding="utf-8") as file:
        splits = json.load(file)
    return [tuple(row) for row in splits["train"]], [tuple(row) for row in splits["val"]]


def student_ladder(data: Path, name: str, fit_share: float, pool: int, seed: int) -> Outcomes:
    drawn, rest = texts(data, name)
    order = np.random.default_rng(seed).permutation(len(drawn))
    size = int(len(drawn) * fit_share)
    fit = [drawn[row] for row in order[:size]]
    world = ([drawn[row] for row in order[size:]] + rest)[:pool]
    labels = sorted({label for _, label in drawn + rest})
    index = {label: place for place, label in enumerate(labels)}
    fit_truth = np.array([index[label] for _, label in fit])
    truth = np.array([index[label] for _, label in world])
    fit_texts, world_texts = [text for text, _ in fit], [text for text, _ in world]
    with spooled(lambda: iter(fit), labels) as spool:
        student = train(spool).model()
        held_out = classification_signals(out_of_fold(spool), fit_texts)
    calibrator = fit_calibrator(held_out, held_out.predicted == fit_truth, source="out-of-fold")
    bottom = classification_signals(student.probabilities(world_texts), world_texts)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    heavy = make_pipeline(
        make_union(words, characters), LogisticRegression(C=30, max_iter=200, tol=1e-3)
    )
    heavy.fit(fit_texts, fit_truth)
    top = classification_signals(_all_labels(heavy, world_texts, len(labels)))
    above = raw_calibrator(top, source="held-out")
    scores = np.column_stack([calibrator.confidence(bottom), above.confidence(top)])
    wrong = np.column_stack([bottom.predicted != truth, top.predicted != truth])
    references = (np.array(calibrator.quantiles), np.array(above.quantiles))
    return Outcomes(name, scores, wrong, references, calibrator.kind)


def _all_labels(model: object, questions: list[str], labels: int) -> Floats:
    """Probabilities over all labels; one that the fit part lacks gets 0."""
    probabilities = np.zeros((len(questions), labels))
    probabilities[:, model.classes_] = model.predict_proba(questions)  # type: ignore[attr-defined]
    return probabilities


def multiplicities(rows: int, labels: int, splits: int, seed: int) -> NDArray[np.float32]:
    """How often each row of the pool is in each split, shape (splits, rows)."""
    drawn = np.random.default_rng(seed).integers(0, rows, (splits, labels))
    counts = np.zeros((splits, rows), dtype=np.float32)
    np.add.at(counts, (np.arange(splits)[:, None], drawn), 1.0)
    return counts


def measure(
    pool: Outcomes,
    rungs: int,
    target: float,
    labels: int,
    splits: NDArray[np.float32],
    delta: float,
) -> Cell:
    """Certify every split by the product's own parts; only the counting is shared between them."""
    path = threshold_path(pool.references[:rungs], rows=labels, max_error=target, delta=delta)
    scores, wrong = pool.scores[:, :rungs], pool.wrong[:, :rungs]
    points = len(path.thresholds)
    taken = np.zeros((rungs, points, len(scores)), dtype=np.float32)
    mistaken = np.zeros((points, len(scores)), dtype=np.float32)
    for point, thresholds in enumerate(path.thresholds):
        answers = first_accepting(scores, thresholds)
        taken[:, point] = answers.T
        mistaken[point] = (answers & wrong).any(axis=1)
    accepted = np.stack([splits @ rung.T for rung in taken], axis=2).astype(np.int64)
    errors = (splits @ mistaken.T).astype(np.int64)
    p_values = binomial_p_value(errors, accepted.sum(axis=2), target)
    share = taken.mean(axis=2)
    risk = mistaken.mean(axis=1) / np.maximum(share.sum(axis=0), 1e-12)
    chosen = []
    for split in range(len(splits)):
        passed = rejected(p_values[split], path.starts, delta)
        if passed.any():
            chosen.append(choose(accepted[split], passed, labels))
    return Cell(
        set=pool.name,
        rungs=rungs,
        target=target,
        labels=labels,
        splits=len(splits),
        violations=int((risk[chosen] > target).sum()),
        certified=len(chosen) / len(splits),
        coverage=float(share.sum(axis=0)[chosen].sum()) / len(splits),
        on_first_rung=float(share[0][chosen].sum()) / len(splits),
    )


def summary(cells: list[Cell], delta: float) -> dict[str, object]:
    each = 1.0 - (1.0 - 0.95) / len(cells)
    worst = max(cells, key=lambda cell: cell.violations / cell.splits)
    low, high = interval(worst.violations, worst.splits, each)
    violations, splits = sum(c.violations for c in cells), sum(c.splits for c in cells)
    certified = round(sum(c.certified * c.splits for c in cells))
    floors = {
        f"{cell.set}/{cell.labels}": [round(cell.coverage, 4), floor]
        for cell in cells
        if cell.rungs == 1
        and cell.target == FLOORS_TARGET
        and (floor := FLOORS.get((cell.set, cell.labels))) is not None
    }
    return {
        "violation_rate": worst.violations / worst.splits,
        "violation_rate_low": float(low),
        "violation_rate_high": float(high),
        "verdict": "pass" if high <= delta else "fail" if low > delta else "undecided",
        "worst_cell": [worst.set, worst.rungs, worst.target, worst.labels],
        "pooled": violations / splits,
        "pooled_among_certified": violations / max(certified, 1),
        "coverage_reached_and_floor": floors,
        "coverage_floors_met": all(reached >= floor for reached, floor in floors.values()),
    }


def show(cell: Cell) -> None:
    print(
        f"{cell.set:<12}{cell.rungs:>3}{cell.target:>8.0%}{cell.labels:>8}"
        f"{cell.violations / cell.splits:>11.3f}{cell.certified:>11.3f}"
        f"{cell.coverage:>10.3f}{cell.on_first_rung:>9.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delta", type=float, default=0.05, help="chance of a false certificate")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.10])
    parser.add_argument("--labels", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--sets", nargs="+", default=list(LADDERS), choices=list(LADDERS))
    parser.add_argument("--pool", type=int, default=20_000)
    parser.add_argument("--fit-share", type=float, default=0.6, help="of the texts to train on")
    wanted = parser.parse_args()
    started = time.monotonic()
    cells: list[Cell] = []
    for name in wanted.sets:
        build = student_ladder if name in ("BANKING77", "CLINC150") else frugal
        extra = (wanted.fit_share,) if build is student_ladder else ()
        pool = build(wanted.data, name, *extra, wanted.pool, wanted.seed)
        errors = pool.wrong.mean(axis=0)
        bottom, top = LADDERS[name]
        print(
            f"\n{name}: rung 1 {bottom} ({errors[0]:.1%} wrong, {pool.calibrator} calibrator),"
            f" rung 2 {top} ({errors[1]:.1%} wrong), pool of {len(pool.scores):,} rows,"
            f" delta {wanted.delta:g}"
        )
        print("set         rungs target  labels  violations  certified  coverage  rung 1")
        for labels in wanted.labels:
            splits = multiplicities(len(pool.scores), labels, wanted.splits, wanted.seed + labels)
            for target in wanted.targets:
                for rungs in (1, 2):
                    cells.append(measure(pool, rungs, target, labels, splits, wanted.delta))
                    show(cells[-1])
    table = [
        [c.set, c.rungs, c.target, c.labels, c.violations / c.splits, round(c.coverage, 4)]
        for c in cells
    ]
    figures = summary(cells, wanted.delta) | {
        "format": 1,
        "bench": "guarantee",
        "splits": wanted.splits,
        "seed": wanted.seed,
        "delta": wanted.delta,
        "seconds": round(time.monotonic() - started, 1),
        "columns": ["set", "rungs", "target", "labels", "violation_rate", "coverage"],
        "table": table,
    }
    print()
    for key in ("violation_rate", "violation_rate_low", "violation_rate_high", "pooled", "verdict"):
        print(f"{key:<22}{figures[key]}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
