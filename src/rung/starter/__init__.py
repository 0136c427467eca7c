"""The small language model that comes with Rung: where its file is, and what it has read.

It serves first steps and demos on a machine with nothing else; `MODEL_CARD.md` beside this file says what it can do.
How it was made is in `training/starter/` of the repository; loading it is an engine's work.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

NAME = "rung-starter"
"""`general.name` in the model's file, which its quantised copies keep."""

_FOLDER = Path(__file__).parent


def model_path() -> Path:
    """The starter model's GGUF file."""
    return _FOLDER / "starter-f16.gguf"


def training_digests() -> npt.NDArray[np.uint64]:
    """`rung.text.text_digest` of every input the starter model was trained on, ascending, shape (rows,).

    Whoever certifies the model looks here: a certificate on rows that the model has read would promise too much.
    """
    digests: npt.NDArray[np.uint64] = np.load(_FOLDER / "rows.npy", allow_pickle=False)
    return digests
