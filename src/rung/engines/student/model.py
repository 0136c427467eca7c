"""A trained student: weights of the n-grams seen in training, and the probabilities they give.
Numpy alone.

A text's probabilities are the same bits whatever texts are classified beside it: each text is one
product of its own n-gram values with its own rows of weights. How the weights came about is the
business of `training`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rung.engines.student.features import FeatureSettings, Ngrams, blocks, count_ngrams


class Weights(msgspec.Struct, frozen=True):
    """What training learnt.

    Attributes:
        buckets: (rows,) int32, the hash bucket of each row, ascending.
        rows: (rows, labels) float16, the weight of a bucket for each label.
    """

    buckets: npt.NDArray[np.int32]
    rows: npt.NDArray[np.float16]


class StudentModel:
    """Label probabilities of texts.

    Args:
        features: how texts become n-grams; as in training.
        weights: what training learnt.
    """

    def __init__(self, features: FeatureSettings, weights: Weights) -> None:
        self.features = features
        labels = weights.rows.shape[1]
        # Row 0 is all zeros: where n-grams never seen in training point to.
        self._rows = np.zeros((len(weights.buckets) + 1, labels), np.float32)
        self._rows[1:] = weights.rows
        self._row_of = np.zeros(1 << features.bits, np.int32)
        self._row_of[weights.buckets] = np.arange(1, len(weights.buckets) + 1, dtype=np.int32)

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """(texts, labels) float64, rows sum to 1; all equal for a text with no known n-gram."""
        parts = [self.score(count_ngrams(block, self.features)) for block in blocks(texts)]
        if not parts:
            return np.zeros((0, self._rows.shape[1]))
        return _softmax(np.concatenate(parts))

    def probabilities_of(self, ngrams: Ngrams) -> npt.NDArray[np.float64]:
        """The same for texts whose n-grams are already counted."""
        return _softmax(self.score(ngrams))

    def score(self, ngrams: Ngrams) -> npt.NDArray[np.float32]:
        """(texts, labels) float32: the logits."""
        scores = np.empty((len(ngrams.starts) - 1, self._rows.shape[1]), np.float32)
        places = self._row_of[ngrams.buckets].astype(np.int64)
        bounds = ngrams.starts.tolist()
        rows, values = self._rows, ngrams.values
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            scores[number] = values[start:end] @ rows.take(places[start:end], 0)
        return scores


def _softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """exp(s) / Σ exp(s) by row, in float64, safe from overflow."""
    exponentials = scores.astype(np.float64)
    exponentials -= exponentials.max(axis=1, keepdims=True)
    np.exp(exponentials, out=exponentials)
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials
