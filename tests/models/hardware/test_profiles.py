"""Described machines are complete, sourced, and found by the names people use."""

from __future__ import annotations

import pytest

from rung.errors import InputError
from rung.models.hardware.machine import DeviceKind
from rung.models.hardware.profiles import machine_named, profile_names

GIB = 1024**3
ASKED_FOR = (
    "laptop-8gb",
    "laptop-16gb",
    "laptop-32gb",
    "rtx-4090",
    "apple-m5",
    "m3-ultra",
    "dgx-spark",
    "framework-desktop",
    "snapdragon-8-elite-gen-5",
)


def test_every_machine_that_is_spoken_of_is_described() -> None:
    """Names do not go away: scripts use them."""
    assert set(ASKED_FOR) <= set(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_a_described_machine_has_more_memory_than_it_lets_models_have(name: str) -> None:
    """A system takes its share everywhere, and each bandwidth is known."""
    machine = machine_named(name)
    assert machine.name == name
    assert not machine.detected
    for device in machine.devices:
        assert 0 < device.available < device.total
        assert device.bandwidth is not None
        assert 40e9 < device.bandwidth < 2000e9


@pytest.mark.parametrize("name", profile_names())
def test_each_machine_says_where_its_figures_are_from(name: str) -> None:
    """What is left for models is never a vendor's figure; its source is said."""
    machine = machine_named(name)
    for device in machine.devices:
        for figure in ("available", "bandwidth"):
            assert any(note.startswith(f"{device.name}, {figure}: ") for note in machine.notes)


def test_names_are_found_however_they_are_written() -> None:
    """Case, spaces and underscores do not matter, and there are shorter names."""
    for written in ("RTX-4090", "rtx 4090", "rtx_4090", "4090"):
        assert machine_named(written).name == "rtx-4090"
    assert machine_named("GB10").name == "dgx-spark"


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    """The others are listed, too."""
    with pytest.raises(InputError) as caught:
        machine_named("rtx-409")
    assert "'rtx-409'" in caught.value.message
    assert caught.value.hint is not None
    assert "did you mean 'rtx-4090'?" in caught.value.hint
    assert "dgx-spark" in caught.value.hint


def test_a_phone_gives_an_app_less_than_half_of_its_memory() -> None:
    """40 to 50 % are planned with."""
    phone = machine_named("phone").host
    assert phone.available <= phone.total // 2


def test_unified_memory_is_one_device_and_a_card_is_a_second_one() -> None:
    """Placement rests on it."""
    assert [device.kind for device in machine_named("apple-m5").devices] == [DeviceKind.UNIFIED]
    kinds = [device.kind for device in machine_named("rtx-4090").devices]
    assert kinds == [DeviceKind.HOST, DeviceKind.GPU]
    assert machine_named("m3-ultra").host.available == 72 * GIB
