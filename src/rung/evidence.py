"""What a rung made of rows, and how sure one may be of it: outcomes, their signals, and the rung below as a witness.

Running the engine is `outcome`'s. Here its outcomes get their confidence, which depends on what the rung below said
of the same rows; so a calibration can weigh the same outcomes anew without asking an engine twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rung.receipt import JsonValue, Usage, Verdict
from rung.trust.calibrator import Calibrator
from rung.trust.confidence import confidence_of
from rung.trust.signals import SUPPORT, SignalColumns, with_support


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What came of one row on one rung.

    Attributes:
        value: the output, None when there is none.
        verdict: why there is nothing to judge, None when `value` keeps the contract.
        reason: one sentence for people, without the row's text.
        confidence: calibrated P(correct), None without evidence.
        relaxed, repaired: as in `receipt.Attempt`.
    """

    value: JsonValue = None
    verdict: Verdict | None = None
    reason: str = ""
    confidence: float | None = None
    usage: Usage = Usage()
    latency_ms: float = 0.0
    first_token_ms: float | None = None
    relaxed: tuple[str, ...] = ()
    repaired: bool = False


class Below(msgspec.Struct, frozen=True, gc=False):
    """What a certified lower rung made of the same row without being sure of it.

    Attributes:
        value: its output.
        confidence: calibrated P(correct) of that.
    """

    value: JsonValue
    confidence: float


def below_of(outcome: Outcome) -> Below | None:
    """What a rung above may know of this outcome; None when there is no answer or no evidence for it."""
    if outcome.verdict is not None or outcome.confidence is None:
        return None
    return Below(outcome.value, outcome.confidence)


class Performed(msgspec.Struct, frozen=True):
    """Outcomes of a micro-batch in order, and the signals behind them; None where nothing has signals."""

    outcomes: list[Outcome]
    signals: SignalColumns | None


def weigh(
    performed: Performed, calibrator: Calibrator | None, below: Sequence[Below | None] = ()
) -> Performed:
    """The outcomes with their confidences, and the signals with what the rung below says where there is one.

    Args:
        performed: outcomes and signals as the engine's answers gave them.
        calibrator: the rung's, None for the engine's own probability.
        below: what the rung below made of each row; empty for the lowest rung.
    """
    if performed.signals is None:
        return performed
    signals = _supported(performed.signals, calibrator, performed.outcomes, below)
    confidences = confidence_of(calibrator, signals)
    return Performed(_with_confidence(performed.outcomes, confidences), signals)


def _supported(
    signals: SignalColumns,
    calibrator: Calibrator | None,
    outcomes: Sequence[Outcome],
    below: Sequence[Below | None],
) -> SignalColumns:
    """The signals with what the rung below says, where there is one or the calibrator asks for it."""
    asked = calibrator is not None and SUPPORT in calibrator.columns
    if not asked and not below:
        return signals
    lower = below or [None] * len(outcomes)
    pairs = list(zip(lower, outcomes, strict=True))
    return with_support(
        signals,
        [low is not None and low.value == outcome.value for low, outcome in pairs],
        [np.nan if low is None else low.confidence for low, _ in pairs],
    )


def _with_confidence(
    outcomes: Sequence[Outcome], confidences: NDArray[np.float64]
) -> list[Outcome]:
    """The outcomes with their confidence; NaN is missing evidence, and a failure has none."""
    return [
        outcome
        if outcome.verdict is not None or confidence != confidence  # noqa: PLR0124 - NaN
        else msgspec.structs.replace(outcome, confidence=confidence)
        for outcome, confidence in zip(outcomes, confidences.tolist(), strict=True)
    ]
