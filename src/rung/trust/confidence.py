"""From signals to one number a row: calibrated where there is a calibrator, else the engine's own probability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rung.trust.calibrator import Calibrator
from rung.trust.signals import SCORE, SignalColumns


def confidence_of(calibrator: Calibrator | None, signals: SignalColumns) -> NDArray[np.float64]:
    """Confidence of each row, shape (rows,), NaN without evidence.

    Without a calibrator it is the probability that the engine itself gave; a signal that only supports one, such as
    finding a value in its source, is not a probability and gives NaN. Certification needs an order, not truth, so an
    uncalibrated confidence may be certified like any other.
    """
    if calibrator is not None:
        return calibrator.confidence(signals)
    if SCORE not in signals.names:
        return np.full(len(signals), np.nan)
    doubt = np.exp(-signals.values[:, signals.names.index(SCORE)])
    return 1.0 - doubt  # 0 and never -0 where the probability is 0
