"""Learning a student: softmax regression on hashed n-grams, minibatch AdaGrad with heavy n-gram
dropout.

Dropout is what makes the probabilities rank well: with nine tenths of a text's n-grams hidden at
random, no n-gram can be relied on alone, and a text is only given a sure label when many n-grams
agree. It also makes a step cheap, because hidden n-grams cost nothing. One step size a row (Duchi
et al. 2011, with the row in the place of the coordinate) halves the memory that AdaGrad usually
needs.

Everything is a function of the examples, their order, the settings and the seed. Memory holds a
minibatch, the weights (at most 2^bits rows) and 20 bytes an example. How n-grams are made belongs
to `features`, where they are kept to `spool`, what is done with the weights to `model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec
import numpy as np
import numpy.typing as npt
import scipy
from scipy import sparse

from rung.engines.student.artifact import StudentArtifact, TrainingRecord, assemble
from rung.engines.student.features import Ngrams
from rung.engines.student.model import StudentModel, Weights
from rung.engines.student.spool import Spool, SpoolIndex
from rung.errors import SuiteError, UserError
from rung.version import __version__

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_FIRST_SUM = np.float32(1e-3)  # AdaGrad's start: keeps the first step of a rare n-gram finite
_SCORED_AT_ONCE = 1024


class TrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a student is trained.

    Attributes:
        epochs: passes over the examples, fewer for suites so large that `most_visits` is reached
            first.
        most_visits: the most example visits in all; never less than two passes.
        batch: examples a step.
        rate: step size at the start; falls to zero in a straight line.
        dropout: share of a text's n-grams hidden at each visit.
        seed: of the order of visits and of what is hidden.
    """

    epochs: int = 60
    most_visits: int = 4_000_000
    batch: int = 512
    rate: float = 0.4
    dropout: float = 0.9
    seed: int = 20_240_229

    def __post_init__(self) -> None:
        if not (
            self.epochs >= 1
            and self.most_visits >= 1
            and self.batch >= 1
            and self.rate > 0
            and 0 <= self.dropout < 1
            and self.seed >= 0
        ):
            raise ValueError(f"training settings out of range: {self!r}")

    def passes(self, examples: int) -> int:
        """Passes over this many examples."""
        return max(min(self.epochs, 2), min(self.epochs, self.most_visits // max(examples, 1)))


def train(spool: Spool, settings: TrainingSettings | None = None) -> StudentArtifact:
    """Learn from every example of `spool`.

    Returns:
        The artefact, not yet saved; the same to the byte for the same examples in the same order,
        settings and seed, with the same package versions on the same family of processors.
    """
    settings = settings or TrainingSettings()
    index = spool.index
    weights = _fit(spool, np.arange(len(index), dtype=np.int64), settings)
    counts = np.bincount(index.targets, minlength=len(index.labels)).tolist()
    record = TrainingRecord(
        settings=msgspec.structs.asdict(settings),
        suite_digest=index.suite_digest,
        examples=len(index),
        label_counts=tuple(counts),
        versions={"rung": __version__, "numpy": np.__version__, "scipy": scipy.__version__},
    )
    return assemble(index.labels, index.features, record, weights, index.digests)


def out_of_fold(
    spool: Spool,
    settings: TrainingSettings | None = None,
    *,
    folds: int = 5,
    processes: int = 1,
) -> npt.NDArray[np.float64]:
    """Score every example by a student that was not trained on it, nor on any text equal to it.

    Folds are stratified by label and keep equal (normalised) texts together. More processes change
    the time, never the result; they are started by `spawn`, so a script that asks for more than one
    needs the usual `if __name__ == "__main__":`.

    Returns:
        (examples, labels) float64 probabilities, in the order of the suite.

    Raises:
        UserError: fewer than two folds.
        SuiteError: a label has a single distinct text, so no student could be trained on another of
            its texts.
    """
    settings = settings or TrainingSettings()
    fold_of = assign_folds(spool.index, folds=folds, seed=settings.seed)
    probabilities = np.empty((len(spool.index), len(spool.index.labels)))
    jobs = [
        (np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(folds)
    ]
    jobs = [(rest, scored) for rest, scored in jobs if len(scored)]
    if processes <= 1:
        results = [_fit_and_score(spool, rest, scored, settings) for rest, scored in jobs]
    else:
        with ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn")) as pool:
            waiting = [
                pool.submit(_fit_and_score_elsewhere, spool.index, rest, scored, settings)
                for rest, scored in jobs
            ]
            results = [future.result() for future in waiting]
    for (_, fold), part in zip(jobs, results, strict=True):
        probabilities[fold] = part
    return probabilities


def held_out(
    spool: Spool, rows: int, settings: TrainingSettings | None = None
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Score a sample by a student trained on all other examples: for suites too large for folds.

    Texts equal to a sampled one are left out of the training, so the sample may hold a few more
    rows than asked.

    Returns:
        (sampled,) numbers of the examples, ascending, and their (sampled, labels) probabilities.
    """
    settings = settings or TrainingSettings()
    index = spool.index
    chosen = np.random.default_rng(settings.seed).choice(len(index), rows, replace=False)
    out = np.isin(index.digests, index.digests[chosen])
    sample, rest = np.flatnonzero(out), np.flatnonzero(~out)
    return sample, _fit_and_score(spool, rest, sample, settings)


def assign_folds(index: SpoolIndex, *, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(examples,) the fold of each example: labels spread evenly, equal texts never apart.

    Raises:
        UserError, SuiteError: as in `out_of_fold`.
    """
    if folds < 2:
        raise UserError(f"out-of-fold scoring needs two or more folds, not {folds}")
    _, first, group = np.unique(index.digests, return_index=True, return_inverse=True)
    # A text under two labels (label noise) is stratified by its first.
    label_of_group = index.targets[first]
    counts = np.bincount(label_of_group, minlength=len(index.labels))
    _refuse_single_texts(index.labels, counts)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    order = shuffled[np.argsort(label_of_group[shuffled], kind="stable")]
    fold_of_group = np.empty(len(first), np.int64)
    # Dealing label after label like cards spreads each label, and all of them together, evenly.
    fold_of_group[order] = np.arange(len(first)) % folds
    return fold_of_group[group]


def _refuse_single_texts(labels: Sequence[str], counts: Ints) -> None:
    single = [label for label, count in zip(labels, counts, strict=True) if count < 2]
    if single:
        named = ", ".join(repr(label) for label in single[:5])
        more = f" and {len(single) - 5} more" if len(single) > 5 else ""
        raise SuiteError(
            f"only one distinct text has the label {named}{more}, so no student trained without it "
            "could score it",
            hint="add a second, different example of each label",
        )


def _fit_and_score_elsewhere(
    index: SpoolIndex, rest: Ints, held_out: Ints, settings: TrainingSettings
) -> npt.NDArray[np.float64]:
    """`_fit_and_score` in a process of its own, which opens the file itself."""
    spool = Spool(index)
    try:
        return _fit_and_score(spool, rest, held_out, settings)
    finally:
        spool.close()


def _fit_and_score(
    spool: Spool, rest: Ints, held_out: Ints, settings: TrainingSettings
) -> npt.NDArray[np.float64]:
    model = StudentModel(spool.index.features, _fit(spool, rest, settings))
    parts = [
        model.probabilities_of(spool.read(held_out[start : start + _SCORED_AT_ONCE]))
        for start in range(0, len(held_out), _SCORED_AT_ONCE)
    ]
    return np.concatenate(parts)


def _fit(spool: Spool, examples: Ints, settings: TrainingSettings) -> Weights:
    """Train on these examples, given by number."""
    _keep_freed_memory()
    learner = _Learner(spool.index, settings)
    random = np.random.default_rng(settings.seed)
    passes = settings.passes(len(examples))
    steps = passes * -(-len(examples) // settings.batch)
    step = 0
    for _ in range(passes):
        order = examples[random.permutation(len(examples))]
        for start in range(0, len(order), settings.batch):
            batch = order[start : start + settings.batch]
            rate = settings.rate * (1 - step / steps)
            learner.step(spool.read(batch), spool.index.targets[batch], rate, random)
            step += 1
    return learner.weights()


def _keep_freed_memory() -> None:
    """Let the allocator keep what a step frees for the next one, instead of giving it back.

    glibc returns freed blocks to the system above a threshold that follows the largest block freed
    so far; a step's arrays lie just above it, and paging them in anew doubles the time of training.
    Other allocators lose nothing by it: the block is never touched.
    """
    np.empty(24 << 20, np.uint8)


class _Learner:
    """Weights under training: one row for each bucket that occurs, one running sum of squares each."""

    def __init__(self, index: SpoolIndex, settings: TrainingSettings) -> None:
        self._buckets = index.buckets
        self._dropout = np.float32(settings.dropout)
        self._row_of = np.zeros(1 << index.features.bits, np.int32)
        self._row_of[index.buckets] = np.arange(len(index.buckets), dtype=np.int32)
        self._rows = np.zeros((len(index.buckets), len(index.labels)), np.float32)
        self._sums = np.full(len(index.buckets), _FIRST_SUM, np.float32)
        self._occurs = np.zeros(len(index.buckets), bool)
        self._local = np.zeros(len(index.buckets), np.int32)

    def step(
        self,
        ngrams: Ngrams,
        targets: npt.NDArray[np.int32],
        rate: float,
        random: np.random.Generator,
    ) -> None:
        """One minibatch: W ← W − rate · Xᵀ(softmax(XW) − Y) / √(the row's squared gradients)."""
        starts, rows, values = self._thinned(ngrams, random)
        self._occurs[rows] = True
        touched = np.flatnonzero(self._occurs)
        self._occurs[touched] = False
        self._local[touched] = np.arange(len(touched), dtype=np.int32)
        columns = self._local[rows]
        inputs = sparse.csr_array((values, columns, starts), shape=(len(targets), len(touched)))
        weights = self._rows[touched]
        residuals = _probabilities(np.asarray(inputs @ weights))
        residuals[np.arange(len(targets)), targets] -= 1
        # The squared gradient of a row is summed example by example, which needs no pass over
        # (rows, labels).
        squared = np.repeat((residuals * residuals).mean(axis=1), np.diff(starts)) * values * values
        sums = self._sums[touched] + np.bincount(columns, squared, len(touched)).astype(np.float32)
        # By rows, so that the product is written in order.
        gradient = np.asarray(inputs.T.tocsr() @ residuals)
        gradient *= (np.float32(rate) / np.sqrt(sums))[:, None]
        weights -= gradient
        self._sums[touched] = sums
        self._rows[touched] = weights

    def weights(self) -> Weights:
        """What was learnt, without rows that stayed zero; three digits (float16) are enough."""
        used = np.flatnonzero(self._rows.any(axis=1))
        return Weights(self._buckets[used].astype(np.int32), self._rows[used].astype(np.float16))

    def _thinned(
        self, ngrams: Ngrams, random: np.random.Generator
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Floats]:
        """(starts, rows, values) with a random share hidden, the rest scaled to keep the mean."""
        keep = random.random(len(ngrams.buckets), np.float32) >= self._dropout
        kept_before = np.zeros(len(keep) + 1, np.int64)
        np.cumsum(keep, out=kept_before[1:])
        starts = kept_before[ngrams.starts].astype(np.int32)
        rows = self._row_of[ngrams.buckets[keep]]
        return starts, rows, ngrams.values[keep] / (np.float32(1) - self._dropout)


def _probabilities(scores: Floats) -> Floats:
    """Softmax by row, in place."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
