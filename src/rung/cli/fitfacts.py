"""What `rung fit --json` prints: the facts of the text, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rung.cli.fitmodel import Opened
from rung.models.fit.estimate import Estimate
from rung.models.fit.remedies import Remedy
from rung.models.fit.sweep import Row
from rung.models.hardware.machine import Machine
from rung.models.reference import names_source, parse_reference


def facts(
    asked: str,
    answer: Estimate,
    machine: Machine,
    remedies: Sequence[Remedy],
    rows: Sequence[Row],
    opened: Opened,
    plot: Path | None = None,
) -> dict[str, object]:
    """The object.

    Args:
        asked: the model, as it was named.
        answer: the estimate.
        machine: that it is for.
        remedies: what would help.
        rows: contexts and slots that were tried.
        opened: the model, and what its figures were read from.
        plot: the file that was drawn into, if any.
    """
    sweep = [
        {
            "tokens_per_slot": row.per_slot,
            "slots": one.run.slots,
            "needed": one.needed,
            "headroom": one.headroom,
            "verdict": one.verdict,
            "layers_on_card": one.layers_on_card,
        }
        for row in rows
        for one in row.estimates
    ]
    return {
        "format": 1,
        "asked": str(parse_reference(asked)) if names_source(asked) else asked,
        "verdict": answer.verdict,
        "needed": answer.needed,
        "headroom": answer.headroom,
        "estimate": answer,
        "machine": machine,
        "remedies": remedies,
        "sweep": sweep,
        "evidence": opened.evidence,
        "beside": opened.beside,
        "plot": None if plot is None else str(plot),
    }
