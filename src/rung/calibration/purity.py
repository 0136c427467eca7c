"""No row serves twice: what certifies was seen by no model in training and by no calibrator.

A certificate from rows that a model knows by heart certifies its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from rung.calibration.run import Run
from rung.engines.protocol import KnowsTraining
from rung.errors import SuiteError
from rung.project import OpenRung
from rung.suite import Example
from rung.text import text_digest


def refuse_fitting_rows(run: Run, rung: OpenRung, examples: Sequence[Example]) -> None:
    """Refuse rows that the rung's model or its calibrator was fitted on: they would certify its memory."""
    refuse_training_rows(rung, examples)
    name = rung.settings.name
    if name in run.fitted:  # its rows were compared with the certifying ones before it was fitted
        return
    fitted = run.project.fitting_rows(run.plan.task, name)
    refuse_rows(examples, fitted, f"among the rows that fitted the calibrator of rung {name!r}")


def refuse_training_rows(rung: OpenRung, examples: Sequence[Example]) -> None:
    """Refuse rows that the rung's model was trained on: it knows their answers by heart."""
    if isinstance(rung.engine, KnowsTraining):
        known = rung.engine.trained_on([example.text for example in examples])
        learnt = [text_digest(e.text) for e, seen in zip(examples, known, strict=True) if seen]
        where = f"in the training set of rung {rung.settings.name!r}"
        refuse_rows(examples, frozenset(learnt), where)


def refuse_rows(examples: Sequence[Example], used: frozenset[int], where: str) -> None:
    """Refuse certifying rows whose text was used for something else.

    Raises:
        SuiteError: naming the first rows.
    """
    rows = [example.row for example in examples if text_digest(example.text) in used]
    if rows:
        shown = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        raise SuiteError(
            f"{len(rows)} calibration rows are {where}: row {shown}",
            hint="calibrate on rows that were used for nothing else",
        )
