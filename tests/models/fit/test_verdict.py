"""One word for whether it fits, never a better one than the figures bear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fit_parts import GIB, MIB
from rung.models.fit.verdict import Budget, Verdict, better, verdict_of
from rung.models.hardware.machine import DeviceKind


def budget(
    needed: int, available: int, *, doubtful: int = 0, kind: DeviceKind = DeviceKind.HOST
) -> Budget:
    """A device with so many MiB needed and free."""
    return Budget(
        device="CPU",
        kind=kind,
        needed=needed * MIB,
        available=available * MIB,
        doubtful=doubtful * MIB,
    )


@pytest.mark.parametrize(
    ("needed", "available", "expected"),
    [
        (1000, 4000, Verdict.FITS),
        (3488, 4000, Verdict.FITS),
        (3489, 4000, Verdict.TIGHT),
        (4000, 4000, Verdict.TIGHT),
        (4001, 4000, Verdict.NO),
        (95_000, 100_000, Verdict.FITS),
        (95_001, 100_000, Verdict.TIGHT),
    ],
)
def test_less_than_512_mib_or_5_percent_left_is_tight(
    needed: int, available: int, expected: Verdict
) -> None:
    """Whichever is more has to be left."""
    assert budget(needed, available).verdict is expected


def test_a_doubtful_figure_counts_twice_before_it_fits() -> None:
    """On a card a gigabyte at least: rules missed by gigabytes there."""
    assert budget(3000, 4000).verdict is Verdict.FITS
    assert budget(3000, 4000, doubtful=600).verdict is Verdict.TIGHT
    assert budget(3000, 4000, doubtful=10, kind=DeviceKind.GPU).verdict is Verdict.TIGHT
    assert budget(2000, 4000, doubtful=10, kind=DeviceKind.GPU).verdict is Verdict.FITS


def test_the_worst_device_decides() -> None:
    """A card with room is no help where the host has none."""
    fine, full = budget(1000, 8000, kind=DeviceKind.GPU), budget(9000, 8000)
    assert verdict_of([full, fine], spilled=False) is Verdict.NO
    assert verdict_of([full, fine], spilled=True) is Verdict.NO
    assert verdict_of([fine, fine], spilled=True) is Verdict.SPILLS
    assert verdict_of([fine, fine], spilled=False) is Verdict.FITS


def test_verdicts_have_an_order() -> None:
    """Tight is better than spilling: everything lies where it is fast."""
    assert better(Verdict.FITS, Verdict.TIGHT)
    assert better(Verdict.TIGHT, Verdict.SPILLS)
    assert better(Verdict.SPILLS, Verdict.NO)
    assert not better(Verdict.NO, Verdict.NO)


@given(
    needed=st.integers(0, 100 * GIB),
    available=st.integers(0, 100 * GIB),
    doubtful=st.integers(0, 100 * GIB),
)
def test_nothing_fits_that_needs_more_than_there_is(
    needed: int, available: int, doubtful: int
) -> None:
    """Whatever is doubted."""
    one = Budget(
        device="CPU",
        kind=DeviceKind.HOST,
        needed=needed,
        available=available,
        doubtful=min(needed, doubtful),
    )
    assert (one.verdict is Verdict.NO) == (needed > available)
    if one.verdict is Verdict.FITS:
        assert one.headroom >= 512 * MIB
