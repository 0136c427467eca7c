"""What the student and the starter model certify together that neither does alone, over many draws.

The rows the starter model was trained on train the student too; the others are drawn anew each time into rows that
fit the starter's calibrator and rows that certify. Four sides are certified by the product's procedure (attempt 1) on
the same rows and applied to the same test file: the student, the starter, the ladder of both with the starter's own
signals only, and the ladder in which the starter's confidence also hears the student. Prints a table and one JSON line.

    python bench/together.py --data ../shared/data/banking77 --draws 20
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rung.blocking import run_blocking
from rung.engines.protocol import ClassifyRequest
from rung.engines.student.spool import spooled
from rung.engines.student.training import out_of_fold, train
from rung.project import Project
from rung.starter import training_digests
from rung.text import text_digest
from rung.trust.bounds import attempt_delta
from rung.trust.calibrator import Calibrator
from rung.trust.certification import FREE_SLACK, certify
from rung.trust.fitting import fit_calibrator
from rung.trust.path import threshold_path
from rung.trust.signals import SignalColumns, classification_signals, with_support

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SIDES = ("student", "starter", "ladder", "ladder with agreement")

SETTINGS = """format = 1
[rungs.starter]
engine = "llama_cpp"
model = "starter"
[ladders]
default = ["starter"]
"""


class Rows(NamedTuple):
    """Texts with the number of each one's label."""

    texts: list[str]
    labels: NDArray[np.int64]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Rows:
        """These rows."""
        return Rows([self.texts[row] for row in rows], self.labels[rows])


class Seen(NamedTuple):
    """What both models make of some rows."""

    student: SignalColumns
    starter: SignalColumns
    labels: NDArray[np.int64]
    student_confidence: Floats

    def take(self, rows: NDArray[np.int64]) -> Seen:
        """These rows."""
        return Seen(
            self.student.take(rows),
            self.starter.take(rows),
            self.labels[rows],
            self.student_confidence[rows],
        )

    def heard(self) -> SignalColumns:
        """The starter's signals with the student's word on its answers."""
        same = self.student.predicted == self.starter.predicted
        return with_support(self.starter, same, self.student_confidence)

    @property
    def wrong(self) -> Flags:
        """(rows, 2) mistakes of the student and of the starter."""
        pairs = (self.student.predicted, self.starter.predicted)
        return np.column_stack([predicted != self.labels for predicted in pairs])


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
    parser.add_argument("--tune-rows", type=int, default=1_000)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.05, 0.02])
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    names, fit, pool, test = load(options.data)
    started = time.perf_counter()
    student, seen_pool, seen_test = asked(names, fit, pool, test)
    print(f"asked both models in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    delta = attempt_delta(1 - options.confidence, 1)
    results = []
    for draw in range(options.draws):
        order = np.random.default_rng([options.seed, draw]).permutation(len(pool.texts))
        tune, certifying = order[: options.tune_rows], order[options.tune_rows :]
        sides = drawn(student, seen_pool.take(tune), seen_pool.take(certifying), seen_test)
        row: dict[str, float] = {}
        for name, side in sides.items():
            for target in options.targets:
                row |= applied(side, target, delta, f"{name}.{target:g}")
        results.append(row)
    sizes = {"fit": len(fit.texts), "pool": len(pool.texts), "test": len(test.texts)}
    report(results, options, sizes)


def load(folder: Path) -> tuple[list[str], Rows, Rows, Rows]:
    """Label names; rows to fit (the starter's training rows, or half when it knows too few); the pool; the test."""
    train_rows, test_rows = read(folder / "train.csv"), read(folder / "test.csv")
    names = sorted({label for _, label in train_rows + test_rows})
    number = {name: index for index, name in enumerate(names)}
    seen = {text_digest(text) for text, _ in test_rows}
    unique = {text_digest(text): (text, label) for text, label in train_rows}
    learnt = set(training_digests().tolist())
    known = [pair for digest, pair in unique.items() if digest in learnt]
    others = [pair for digest, pair in unique.items() if digest not in learnt | seen]
    if 3 * len(known) < len(others):
        known, others = known + others[::2], others[1::2]
    return names, rows(known, number), rows(others, number), rows(test_rows, number)


def read(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def rows(pairs: Sequence[tuple[str, str]], number: dict[str, int]) -> Rows:
    return Rows([text for text, _ in pairs], np.array([number[label] for _, label in pairs]))


def asked(names: list[str], fit: Rows, pool: Rows, test: Rows) -> tuple[Calibrator, Seen, Seen]:
    """The student's calibrator, and what both models make of the pool and of the test rows."""
    pairs = [(text, names[label]) for text, label in zip(fit.texts, fit.labels, strict=True)]
    with spooled(lambda: pairs, names) as spool:
        model = train(spool).model()
        out = out_of_fold(spool, processes=2)
    signals = classification_signals(out, fit.texts)
    calibrator = fit_calibrator(signals, signals.predicted == fit.labels, source="out-of-fold")

    def both(given: Rows) -> Seen:
        own = classification_signals(model.probabilities(given.texts), given.texts)
        starter = classification_signals(by_starter(names, given.texts), given.texts)
        return Seen(own, starter, given.labels, calibrator.confidence(own))

    return calibrator, both(pool), both(test)


def by_starter(names: list[str], texts: list[str]) -> Floats:
    """(texts, labels) probabilities of the built-in model, as a rung of a project has them."""

    async def ask(project: Project) -> Floats:
        task = project.task("triage")
        engine = project.rung("starter", task).engine
        try:
            parts = [
                await engine.classify(
                    ClassifyRequest(task=task, texts=tuple(texts[first : first + engine.batch]))
                )
                for first in range(0, len(texts), engine.batch)
            ]
        finally:
            await project.aclose()
        return np.concatenate([part.probabilities for part in parts])

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "rung.toml").write_text(SETTINGS)
        (root / "tasks").mkdir()
        labels = json.dumps(names)
        (root / "tasks" / "triage.toml").write_text(
            f'format = 1\nkind = "classify"\nlabels = {labels}\n'
        )
        return run_blocking(ask(Project.open(root / "rung.toml")))


class Side(NamedTuple):
    """Confidences and mistakes, (rows, rungs), of certifying and test rows; a reference a rung."""

    certifying: tuple[Floats, Flags]
    test: tuple[Floats, Flags]
    references: list[Floats]


def drawn(student: Calibrator, tune: Seen, certifying: Seen, test: Seen) -> dict[str, Side]:
    """The four sides of one draw; calibrators of the starter are fitted on the tune rows."""
    right = ~tune.wrong[:, 1]
    alone = fit_calibrator(tune.starter, right, source="held-out")
    heard = fit_calibrator(tune.heard(), right, source="held-out")

    def side(columns: Sequence[int], upper: Calibrator, *, hears: bool) -> Side:
        def scored(seen: Seen) -> tuple[Floats, Flags]:
            own = upper.confidence(seen.heard() if hears else seen.starter)
            scores = np.column_stack([seen.student_confidence, own])
            return scores[:, columns], seen.wrong[:, columns]

        references = [np.array(student.quantiles), np.array(upper.quantiles)]
        return Side(scored(certifying), scored(test), [references[column] for column in columns])

    return {
        "student": side([0], alone, hears=False),
        "starter": side([1], alone, hears=False),
        "ladder": side([0, 1], alone, hears=False),
        "ladder with agreement": side([0, 1], heard, hears=True),
    }


def applied(side: Side, target: float, delta: float, name: str) -> dict[str, float]:
    """Coverage and error on the test rows at the certified thresholds; coverage 0 when nothing was certified."""
    scores, wrong = side.certifying
    path = threshold_path(side.references, rows=len(scores), max_error=target, delta=delta)
    found = certify(scores, wrong, path, max_error=target, delta=delta, slack=FREE_SLACK)
    if found.thresholds is None:
        return {f"{name}.coverage": 0.0, f"{name}.error": 0.0}
    accepts = side.test[0] > np.array(found.thresholds)
    first = accepts.argmax(axis=1)
    answered = accepts.any(axis=1)
    mistakes = side.test[1][np.arange(len(first)), first][answered]
    return {f"{name}.coverage": float(answered.mean()), f"{name}.error": float(mistakes.mean())}


def report(
    results: list[dict[str, float]], options: argparse.Namespace, sizes: dict[str, int]
) -> None:
    """The table, then the JSON line: means over draws with the 95 % interval of each mean."""
    print(
        f"{options.draws} draws · {sizes['fit']:,} rows train the student · {options.tune_rows:,} fit and"
        f" {sizes['pool'] - options.tune_rows:,} certify · {sizes['test']:,} test rows · attempt 1"
    )
    print(
        f"{'':<26}"
        + "".join(f"{f'{t:g} coverage':>20}{f'{t:g} error':>20}" for t in options.targets)
    )
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name in SIDES:
        keys = [f"{t:g}.{what}" for t in options.targets for what in ("coverage", "error")]
        figures[name] = {key: mean([row[f"{name}.{key}"] for row in results]) for key in keys}
        print(f"{name:<26}" + "".join(f"{shown(figures[name][key]):>20}" for key in keys))
    gains = {
        f"{t:g}": {
            "over the better alone": mean(
                [gain(row, t, ("student", "starter")) for row in results]
            ),
            "over the ladder without agreement": mean(
                [gain(row, t, ("ladder",)) for row in results]
            ),
        }
        for t in options.targets
    }
    for target, each in gains.items():
        for what, figure in each.items():
            print(f"coverage with agreement at {target}, {what}: {shown(figure)}")
    print(
        json.dumps(
            {"format": 1, "draws": options.draws, **sizes, "figures": figures, "gains": gains}
        )
    )


def gain(row: dict[str, float], target: float, others: Sequence[str]) -> float:
    """Coverage of the ladder with agreement in one draw, beyond the best of the others."""
    best = max(row[f"{name}.{target:g}.coverage"] for name in others)
    return row[f"ladder with agreement.{target:g}.coverage"] - best


def mean(values: list[float]) -> dict[str, float]:
    """Mean over draws, the half width of its 95 % interval (normal), the least and the greatest."""
    found = np.array(values)
    half = 1.96 * found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    low, high = float(found.min()), float(found.max())
    return {"mean": float(found.mean()), "half": float(half), "min": low, "max": high}


def shown(cell: dict[str, float]) -> str:
    return f"{cell['mean']:.4f} ± {cell['half']:.4f}"


if __name__ == "__main__":
    main()
