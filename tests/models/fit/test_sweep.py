"""Contexts and slots that are tried: from 2,048 tokens to what the model was trained for."""

from __future__ import annotations

import msgspec
import pytest

from fit_parts import GIB, MIB, a_model, host, machine
from rung.models.fit.estimate import Verdict, estimate
from rung.models.fit.measured import Measured
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


def test_what_was_asked_for_is_in_the_table() -> None:
    """Its context and its slots, however odd they are, with the figures that were measured of it."""
    run, where = Run(context=15_000, slots=3), machine(host(99 * GIB))
    measured = Measured(
        engine="e", backend="cpu", compute={"CPU": 999 * MIB}, at="2026-11-02T10:00:00Z"
    )
    rows = sweep(a_model(), run, where, measured=measured)
    row = next(row for row in rows if row.per_slot == 5000)
    assert [one.run.slots for one in row.estimates] == [1, 2, 3, 4]
    asked = estimate(a_model(), run, where, measured=measured)
    assert row.estimates[2].needed == asked.needed
    assert row.estimates[2].part("compute") == 999 * MIB


def test_slots_that_share_a_cache_have_all_of_each_context() -> None:
    """So that more of them need no more cells."""
    shared = msgspec.structs.replace(RUN, unified=True)
    rows = sweep(a_model(), shared, machine(host(99 * GIB)))
    for row in rows:
        assert {one.run.context for one in row.estimates} == {row.per_slot}
        assert len({one.part("KV cache") for one in row.estimates}) == 1
