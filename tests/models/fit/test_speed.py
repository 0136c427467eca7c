"""Decode speed: bytes over bandwidth and a moment, with a band that is stated."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fit_parts import card, host, unified
from rung.models.fit.speed import (
    BAND,
    UNFITTED_BAND,
    Pace,
    Reading,
    fitted_pace,
    has_series,
    pace_of,
    speed_of,
)
from rung.models.fit.tags import Tag

GB = 1_000_000_000


def test_a_token_takes_the_time_to_read_the_weights_and_a_moment() -> None:
    """Usual figures of a card: three quarters of the bandwidth and 1.2 ms."""
    speed = speed_of([Reading(card(24 * GB), 7_500_000_000, 0)])
    assert speed is not None
    assert speed.tokens_per_s == pytest.approx(1 / (0.010 + 0.0012))
    assert speed.tag is Tag.RULE
    assert "1,000 GB/s on Card" in speed.basis


def test_a_full_context_is_read_too() -> None:
    """The more keys and values, the slower; with none, both speeds are one."""
    empty = speed_of([Reading(card(24 * GB), 5 * GB, 0)])
    full = speed_of([Reading(card(24 * GB), 5 * GB, 5 * GB)])
    assert empty is not None
    assert full is not None
    assert empty.full_tokens_per_s == empty.tokens_per_s == full.tokens_per_s
    assert full.full_tokens_per_s < 0.6 * full.tokens_per_s


def test_layers_on_the_host_slow_everything_down() -> None:
    """Times of both devices add up."""
    whole = speed_of([Reading(card(24 * GB), 10 * GB, 0)])
    spilled = speed_of([Reading(host(32 * GB), 5 * GB, 0), Reading(card(24 * GB), 5 * GB, 0)])
    assert whole is not None
    assert spilled is not None
    assert spilled.tokens_per_s < 0.2 * whole.tokens_per_s
    assert spilled.basis.count("GB/s") == 2


def test_without_a_bandwidth_there_is_no_speed() -> None:
    """Nothing is guessed."""
    assert speed_of([Reading(host(32 * GB, bandwidth=None), 5 * GB, 0)]) is None
    assert speed_of([]) is None
    assert pace_of(host(32 * GB, bandwidth=None)) is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA GeForce RTX 4090", True),
        ("NVIDIA GB10", True),
        ("AMD Radeon RX 7900 XT", True),
        ("RTX 40900", False),
        ("Apple M4", False),
        ("Apple M4 Pro", True),
        ("CPU", False),
    ],
)
def test_devices_are_known_by_whole_words_of_their_names(name: str, known: bool) -> None:
    """A similar name is not the same device."""
    assert has_series(name) is known


def test_the_band_is_wider_where_nothing_is_known_of_the_device() -> None:
    """And as wide as its series missed by where that is more."""
    bands = {}
    for name in ("NVIDIA GeForce RTX 4090", "Radeon 8060S", "Another"):
        speed = speed_of([Reading(card(24 * GB, name=name), 5 * GB, 0)])
        assert speed is not None
        assert speed.low < speed.tokens_per_s < speed.high
        bands[name] = speed.band
    assert list(bands.values()) == [BAND, 0.49, UNFITTED_BAND]


def test_unified_memory_has_a_speed() -> None:
    """Metal reaches about two thirds of the peak."""
    pace = pace_of(unified(24 * GB))
    assert pace == Pace(0.65 * 200e9, 0.0012)


@given(
    rate=st.floats(1e9, 3e12),
    overhead=st.floats(0, 0.01),
    sizes=st.lists(st.floats(1e8, 1e11), min_size=2, max_size=8, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_a_fit_finds_the_pace_that_made_the_points(
    rate: float, overhead: float, sizes: list[float]
) -> None:
    """Within what floats hold: foretold times are those of the points."""
    if max(sizes) / min(sizes) < 1.01:
        return
    true = Pace(rate, overhead)
    found = fitted_pace([(size, true.seconds(size)) for size in sizes])
    assert found is not None
    for size in sizes:
        assert found.seconds(size) == pytest.approx(true.seconds(size), rel=1e-4)


def test_too_few_points_give_no_pace() -> None:
    """One size tells nothing of two factors; times that fall with size are no pace."""
    assert fitted_pace([]) is None
    assert fitted_pace([(1e9, 0.1), (1e9, 0.2)]) is None


def test_a_fit_never_gives_a_negative_moment() -> None:
    """Faster than reading alone is an artefact of noise."""
    found = fitted_pace([(1e9, 0.001), (2e9, 0.004)])
    assert found is not None
    assert found.overhead_s == 0
    assert found.rate > 0
    assert math.isfinite(found.rate)


def test_experts_are_read_more_slowly_than_dense_weights() -> None:
    """By a share that is data, and that is said."""
    device = card(24 * GB)
    dense, experts = (speed_of([Reading(device, 2 * GB, 0, experts=one)]) for one in (False, True))
    assert dense is not None
    assert experts is not None
    overhead = pace_of(device).overhead_s  # type: ignore[union-attr]  # its bandwidth is known
    read = [1 / one.tokens_per_s - overhead for one in (dense, experts)]
    assert read[0] / read[1] == pytest.approx(0.7)
    assert "70% of it for experts (by 3 measurements)" in experts.basis
    assert "experts" not in dense.basis
