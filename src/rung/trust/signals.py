"""Signals: what one attempt tells about its own correctness, as columns of numbers.

A signal that could not be measured is NaN, and NaN never becomes confidence: the calibrator answers
NaN for such a row and certification never accepts it. Columns named `query_*` describe the question
and are secondary: they only refine what the answer's own columns say. How columns become a
confidence is `calibrator`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SIGNALS_VERSION = 2
"""Part of a certificate's fingerprint: raise it whenever a column changes its meaning."""

SCORE = "score"
"""The primary column: -log(1 - p) of the answer given; the one that class-conditional terms use."""

SUPPORT = "support"
"""What the rung below says of this answer: its own -log(1 - p), negative where it gave another answer."""

RISING = frozenset({SCORE, "margin", "in_source", SUPPORT})
"""Columns in which more can only mean more trust."""

FALLING = frozenset({"entropy"})
"""Columns in which more can only mean less trust."""

_SMALLEST_DOUBT = 1e-9
_DIGITS = {ord(digit): None for digit in "0123456789"}


@dataclass(frozen=True, slots=True)
class SignalColumns:
    """The signals of many rows.

    Attributes:
        names: one a column, in order.
        values: shape (rows, columns), float64; NaN is missing evidence.
        predicted: index of the label answered, shape (rows,); -1 where there is none.
        classes: how many labels the task has; 0 when answers are not labels.
    """

    names: tuple[str, ...]
    values: Floats
    predicted: NDArray[np.intp]
    classes: int

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: ArrayLike) -> SignalColumns:
        """The given rows (a mask or indices)."""
        chosen = np.asarray(rows)
        return SignalColumns(self.names, self.values[chosen], self.predicted[chosen], self.classes)

    def without(self, rows: NDArray[np.bool_]) -> SignalColumns:
        """The same with the evidence of these rows missing."""
        values = np.where(rows[:, None], np.nan, self.values)
        return SignalColumns(self.names, values, self.predicted, self.classes)


def classification_signals(
    probabilities: ArrayLike, texts: Sequence[str] | None = None
) -> SignalColumns:
    """Signals of label answers from the probability of every label.

    Columns: `score` -log(1 - p) of the likeliest label after normalising over the labels, `margin`
    log of its odds over the runner-up, `entropy` over the labels as a share of the largest
    possible, and the `query_*` columns of `texts`. A row whose probabilities are negative, not
    finite or all zero is all missing and has no predicted label.

    Args:
        probabilities: shape (rows, labels), at least two labels; rows need not sum to 1.
        texts: the questions, one a row.

    Raises:
        ValueError: there are fewer than two labels, or not one text a row.
    """
    given = np.ascontiguousarray(probabilities, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] < 2:
        raise ValueError(f"probabilities must be (rows, labels >= 2), not {given.shape}")
    with np.errstate(invalid="ignore"):
        total = given.sum(axis=1)
        usable = np.isfinite(total) & (total > 0.0) & (given >= 0.0).all(axis=1)
    share = given / np.where(usable, total, 1.0)[:, None]
    share[~usable] = 0.0
    top_two = np.partition(share, share.shape[1] - 2, axis=1)[:, -2:]
    best, second = np.ascontiguousarray(top_two[:, 1]), np.ascontiguousarray(top_two[:, 0])
    surprise = share * np.log(np.maximum(share, 1e-300))
    columns = {
        SCORE: doubt_score(best),
        "margin": np.log(np.maximum(best, _SMALLEST_DOUBT) / np.maximum(second, _SMALLEST_DOUBT)),
        "entropy": -surprise.sum(axis=1) / np.log(share.shape[1]),
    }
    values = np.where(usable[:, None], np.column_stack(list(columns.values())), np.nan)
    predicted = np.where(usable, share.argmax(axis=1), -1).astype(np.intp)
    signals = SignalColumns(tuple(columns), values, predicted, share.shape[1])
    return signals if texts is None else _with_query(signals, texts)


def answer_signals(
    confidence: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    texts: Sequence[str] | None = None,
) -> SignalColumns:
    """Signals of label answers from a service that tells only its answer and one confidence.

    Args:
        confidence: shape (rows,), in [0, 1]; anything else is missing.
        predicted: index of the label answered, -1 for none.
        classes: how many labels there are.
        texts: the questions, one a row.

    Raises:
        ValueError: the lengths differ, or a label index is `classes` or more.
    """
    p = np.ascontiguousarray(confidence, dtype=np.float64)
    label = np.ascontiguousarray(predicted, dtype=np.intp)
    if p.ndim != 1 or p.shape != label.shape:
        raise ValueError(f"confidence {p.shape} and predicted {label.shape} must be one a row")
    if len(label) and int(label.max()) >= classes:
        raise ValueError(f"predicted label {int(label.max())} of only {classes}")
    usable = (p >= 0.0) & (p <= 1.0) & (label >= 0)
    score = np.where(usable, doubt_score(np.where(usable, p, 0.0)), np.nan)
    signals = SignalColumns((SCORE,), score[:, None], np.where(usable, label, -1), classes)
    return signals if texts is None else _with_query(signals, texts)


def extraction_signals(
    valid: ArrayLike,
    in_source: ArrayLike,
    claims: ArrayLike,
    least_field: ArrayLike | None = None,
    texts: Sequence[str] | None = None,
) -> SignalColumns:
    """Signals of extracted records; a record that breaks its schema has none at all.

    Columns: `in_source` the share of values found in the source text, `claims` log(1 + how many
    values there are), `score` -log(1 - p) of the least certain field where the engine gives
    probabilities, and the `query_*` columns. Validity is a gate and not a column: nearly all
    output is valid, so it tells nothing about the rest (reference: routing, section 5).

    Args:
        valid: whether the record keeps its schema, shape (rows,).
        in_source: see `share_in_source`.
        claims: how many values each record holds, shape (rows,).
        least_field: smallest field probability, shape (rows,); None when the engine gives none.
        texts: the sources, one a row.

    Raises:
        ValueError: the lengths differ.
    """
    keeps = np.asarray(valid, dtype=np.bool_)
    columns = {
        "in_source": np.asarray(in_source, dtype=np.float64),
        "claims": np.log1p(np.asarray(claims, dtype=np.float64)),
    }
    if least_field is not None:
        p = np.asarray(least_field, dtype=np.float64)
        known = (p >= 0.0) & (p <= 1.0)
        columns[SCORE] = np.where(known, doubt_score(np.where(known, p, 0.0)), np.nan)
    if any(column.shape != keeps.shape for column in columns.values()):
        raise ValueError("valid, in_source, claims and least_field must be one a row")
    values = np.where(keeps[:, None], np.column_stack(list(columns.values())), np.nan)
    none = np.full(len(keeps), -1, dtype=np.intp)
    signals = SignalColumns(tuple(columns), values, none, 0)
    return signals if texts is None else _with_query(signals, texts)


def with_support(signals: SignalColumns, agrees: ArrayLike, confidence: ArrayLike) -> SignalColumns:
    """The signals with the column `support`: what a lower rung's answer to the same question tells of this one.

    Two models that err differently and still agree are seldom both wrong (reference: routing, section 5), and the
    surer the lower one was, the more its word counts, for or against. A column of that name that they had is replaced.

    Args:
        signals: of the upper rung.
        agrees: whether the lower rung gave the same answer, shape (rows,).
        confidence: the lower rung's own, shape (rows,); NaN where it had none or was not asked.

    Raises:
        ValueError: the lengths differ.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    same = np.asarray(agrees, dtype=np.bool_)
    if sure.shape != (len(signals),) or same.shape != sure.shape:
        raise ValueError("agrees and confidence must be one a row")
    support = np.where(same, 1.0, -1.0) * doubt_score(sure)
    kept = [name != SUPPORT for name in signals.names]
    names = (*(name for name in signals.names if name != SUPPORT), SUPPORT)
    values = np.column_stack([signals.values[:, kept], support])
    return SignalColumns(names, values, signals.predicted, signals.classes)


def share_in_source(values: Sequence[str], source: str) -> float:
    """Share of extracted values that stand in the source, ignoring case and spacing.

    Empty values claim nothing and are left out; what claims nothing is not contradicted: 1.
    """
    said = [folded for value in values if (folded := _folded(value))]
    if not said:
        return 1.0
    within = _folded(source)
    return sum(value in within for value in said) / len(said)


def doubt_score(probability: Floats) -> Floats:
    """-log(1 - p), clipped at a doubt of 1e-9: equal steps are equal factors of doubt left."""
    return -np.log(np.maximum(1.0 - probability, _SMALLEST_DOUBT))


def _with_query(signals: SignalColumns, texts: Sequence[str]) -> SignalColumns:
    if len(texts) != len(signals):
        raise ValueError(f"{len(texts)} texts for {len(signals)} rows")
    query = np.array([_query(text) for text in texts], dtype=np.float64).reshape(len(texts), 4)
    names = (*signals.names, "query_chars", "query_words", "query_digits", "query_non_ascii")
    values = np.column_stack([signals.values, query])
    return SignalColumns(names, values, signals.predicted, signals.classes)


def _query(text: str) -> tuple[float, float, float, float]:
    """Log length in characters and words, share of digits, share of characters beyond ASCII."""
    length = len(text)
    size = max(length, 1)
    digits = length - len(text.translate(_DIGITS))
    ascii_only = len(text.encode("ascii", "ignore"))
    words = len(text.split())
    return math.log1p(length), math.log1p(words), digits / size, (length - ascii_only) / size


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
