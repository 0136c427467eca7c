"""The calibrator: signals in, P(this answer is right) out.

A `Calibrator` is plain numbers in one frozen struct, written and read as JSON, and evaluated by
numpy alone: a row's confidence is the same to the last bit whatever rows stand beside it. How the
numbers are found is `fitting`'s; what confidence suffices is `certification`'s. A calibrator need
not be right for a certificate to hold, only fixed before the certifying labels are read; a better
one accepts more.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from rung.errors import InputError, ModelError
from rung.trust.signals import SCORE, SIGNALS_VERSION, SignalColumns
from rung.trust.trees import Tree, sum_of_trees

Floats = NDArray[np.float64]

FORMAT = 1

REACH = 6.0
"""Standard deviations beyond which a column says no more; far extrapolation is not evidence."""


class ClassTerms(msgspec.Struct, frozen=True):
    """What the label answered adds to the log odds: an intercept, and a slope on the score.

    Attributes:
        intercepts, slopes: one a label of the task, shrunk towards 0.
    """

    intercepts: tuple[float, ...]
    slopes: tuple[float, ...]


class Calibrator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fitted map from signals to confidence.

    Attributes:
        format: of this struct.
        signals: `SIGNALS_VERSION` it was fitted on.
        kind: `raw` takes the score's probability as it is; `logistic` is linear in the log odds;
            `boosted` adds monotone trees over the columns and the logistic's log odds.
        source: what "right" meant and on which rows: `out-of-fold`, `held-out`, or
            `agreement:RUNG`.
        classes: labels of the task, 0 when answers are not labels.
        columns: the signals used, in order.
        centers, scales: each column is used as (value - center) / scale, kept within `REACH`.
        intercept, weights: of the logistic part.
        class_terms: absent when they do not help or answers are not labels.
        offset, trees: of the boosted part, which replaces the logistic's log odds; empty for other
            kinds.
        fitted_on: rows used.
        log_loss: cross-fitted mean log loss of each candidate that was compared, on the fitting
            rows.
        quantiles: 401 equally spaced quantiles, ascending, of its cross-fitted confidences: the
            unlabelled reference from which candidate thresholds are taken.
    """

    format: int = FORMAT
    signals: int = SIGNALS_VERSION
    kind: Literal["raw", "logistic", "boosted"]
    source: str
    classes: int
    columns: tuple[str, ...]
    centers: tuple[float, ...]
    scales: tuple[float, ...]
    intercept: float
    weights: tuple[float, ...]
    class_terms: ClassTerms | None = None
    offset: float = 0.0
    trees: tuple[Tree, ...] = ()
    fitted_on: int
    log_loss: dict[str, float]
    quantiles: tuple[float, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the struct's JSON, part of a certificate's fingerprint."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """The struct as JSON; equal structs give equal bytes."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes) -> Calibrator:
        """Read what `to_json` wrote.

        Raises:
            ModelError: it is damaged, of another format, or fitted on another definition of the
            signals.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ModelError(f"the calibrator is damaged: {error}", hint=_REFIT) from error
        if (found.format, found.signals) != (FORMAT, SIGNALS_VERSION):
            raise ModelError(
                f"the calibrator has format {found.format!r} on signals {found.signals!r}; this"
                f" Rung reads format {FORMAT} on signals {SIGNALS_VERSION}",
                hint=_REFIT,
            )
        return found

    def confidence(self, signals: SignalColumns) -> Floats:
        """P(right) of every row, shape (rows,), in [0, 1]; NaN where a signal it uses is missing.

        Raises:
            InputError: the signals lack a column it uses, or are of another number of labels.
        """
        if signals.classes != self.classes:
            raise InputError(
                f"the calibrator was fitted for {self.classes} labels, the signals have"
                f" {signals.classes}",
                hint=_REFIT,
            )
        if self.kind == "raw":
            return np.asarray(-np.expm1(-selected(signals, self.columns)[0]))
        columns = standardised(signals, self.columns, self.centers, self.scales)
        log_odds = self.log_odds(signals, columns)
        missing = np.isnan(log_odds)
        if self.trees:
            known = np.nan_to_num(np.vstack([columns, log_odds]))
            log_odds = self.offset + sum_of_trees(self.trees, known)
        confidence = 1.0 / (1.0 + np.exp(-log_odds))
        confidence[missing] = np.nan
        return confidence

    def log_odds(self, signals: SignalColumns, columns: Floats) -> Floats:
        """The logistic part, from the signals and their `standardised` columns; NaN if missing."""
        total = np.full(len(signals), self.intercept)
        for weight, column in zip(self.weights, columns, strict=True):
            total += weight * column
        if self.class_terms is not None:
            label = signals.predicted
            total += np.array(self.class_terms.intercepts)[label]
            if SCORE in self.columns:
                slopes = np.array(self.class_terms.slopes)
                total += slopes[label] * columns[self.columns.index(SCORE)]
        if self.classes:
            total[signals.predicted < 0] = np.nan
        return total


_REFIT = "fit it again: rung train TASK --on SUITE"


def raw_calibrator(signals: SignalColumns, *, source: str) -> Calibrator:
    """A calibrator that takes the answer's own probability at its word.

    For rungs with too few rows to fit one; it orders answers by their probability, which is all
    that a certificate needs.

    Args:
        signals: unlabelled rows, for the quantiles.
        source: where they come from.

    Raises:
        InputError: there is no `score` column, or no row has a score.
    """
    column = selected(signals, (SCORE,))[0]
    score = column[np.isfinite(column)]
    if not len(score):
        raise InputError("no row has a score to take a confidence from")
    return Calibrator(
        kind="raw",
        source=source,
        classes=signals.classes,
        columns=(SCORE,),
        centers=(0.0,),
        scales=(1.0,),
        intercept=0.0,
        weights=(0.0,),
        fitted_on=len(score),
        log_loss={},
        quantiles=spread(-np.expm1(-score)),
    )


def spread(confidence: Floats) -> tuple[float, ...]:
    """401 equally spaced quantiles, each one of the values given, ascending."""
    return tuple(np.quantile(confidence, np.linspace(0.0, 1.0, 401), method="nearest").tolist())


def selected(signals: SignalColumns, names: tuple[str, ...]) -> Floats:
    """The named columns, shape (names, rows), C-contiguous.

    Raises:
        InputError: one is not there.
    """
    absent = [name for name in names if name not in signals.names]
    if absent:
        raise InputError(
            f"the calibrator needs the signals {absent!r}, which this rung does not give; it gives"
            f" {list(signals.names)!r}",
            hint=_REFIT,
        )
    order = [signals.names.index(name) for name in names]
    return np.ascontiguousarray(signals.values.T[order])


def standardised(
    signals: SignalColumns,
    names: tuple[str, ...],
    centers: tuple[float, ...],
    scales: tuple[float, ...],
) -> Floats:
    """The named columns in units of their scale from their center, within `REACH`; NaN stays."""
    columns = selected(signals, names)
    columns -= np.array(centers)[:, None]
    columns /= np.array(scales)[:, None]
    return np.clip(columns, -REACH, REACH, out=columns)
