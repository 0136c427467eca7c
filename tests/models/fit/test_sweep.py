"""Contexts and slots that are tried: from 2,048 tokens to what the model was trained for."""

from __future__ import annotations

import pytest

from fit_parts import GIB, a_model, host, machine
from rung.models.fit.estimate import Verdict, estimate
from rung.models.fit.run import Run
from rung.models.fit.sweep import contexts_of, sweep

RUN = Run(context=4096)


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (8192, (2048, 4096, 8192)),
        (40_960, (2048, 4096, 8192, 16_384, 32_768, 40_960)),
        (2048, (2048,)),
        (512, (512,)),
    ],
)
def test_contexts_double_up_to_what_the_model_was_trained_for(
    trained: int, expected: tuple[int, ...]
) -> None:
    """That one included, however odd it is."""
    assert contexts_of(trained) == expected


def test_a_model_that_does_not_say_is_tried_up_to_the_usual_ones() -> None:
    """131,072 tokens."""
    assert contexts_of(None)[-1] == 131_072


def test_each_row_is_a_context_of_one_slot_and_each_column_a_number_of_slots() -> None:
    """All slots together have so many times the context; each cell is an estimate."""
    where = machine(host(16 * GIB))
    rows = sweep(a_model(), RUN, where, contexts=(4096, 32_768), slots=(1, 4))
    assert [row.per_slot for row in rows] == [4096, 32_768]
    for row in rows:
        assert [one.run.slots for one in row.estimates] == [1, 4]
        assert [one.run.context for one in row.estimates] == [row.per_slot, 4 * row.per_slot]
    assert rows[0].estimates[0] == estimate(a_model(), Run(context=4096), where)
    assert rows[0].estimates[0].verdict is Verdict.FITS
    assert rows[1].estimates[1].verdict is Verdict.NO


def test_needs_grow_along_rows_and_columns() -> None:
    """Nothing gets cheaper with more."""
    rows = sweep(a_model(window=1024), RUN, machine(host(99 * GIB)))
    needs = [[one.needed for one in row.estimates] for row in rows]
    assert all(row == sorted(row) for row in needs)
    assert all(list(column) == sorted(column) for column in zip(*needs, strict=True))
