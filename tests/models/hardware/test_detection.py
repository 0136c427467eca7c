"""This machine is looked at: memory, cards, shared memory, and how fast its processors read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from rung.errors import InputError
from rung.models.hardware.amd import amd_devices
from rung.models.hardware.apple import working_set
from rung.models.hardware.bandwidth import measured_bandwidth, stored_bandwidth
from rung.models.hardware.detection import this_machine, with_graphics
from rung.models.hardware.machine import Device, DeviceKind, Machine
from rung.models.hardware.memory import Memory, read_memory
from rung.models.hardware.nvidia import Cards, bus_bandwidth, nvidia_cards

GIB = 1024**3


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))


def test_this_machine_has_the_memory_that_the_system_tells_of() -> None:
    """A container's limit included; nothing is measured unless asked for."""
    machine = this_machine()
    assert machine.detected
    assert machine.host.total == read_memory().total
    assert 0 < machine.host.available <= machine.host.total
    assert machine.host.bandwidth is None or machine.host.kind is DeviceKind.UNIFIED


def test_bandwidth_is_measured_and_kept() -> None:
    """With little memory the second asking reads what the first one wrote, and so does detection."""
    assert stored_bandwidth() is None
    first = measured_bandwidth(GIB)
    assert 1e8 < first.rate < 1e13
    assert measured_bandwidth(GIB) == first
    machine = this_machine()
    if machine.host.kind is DeviceKind.HOST:
        assert machine.host.bandwidth == first.rate
        assert any("measured here" in note for note in machine.notes)


@pytest.mark.parametrize(
    ("age", "rate", "kept"),
    [(1, 1e15, True), (1, 1.0, False), (8, 1e15, False), (-8, 1e15, False)],
)
def test_the_best_bandwidth_of_a_week_counts(
    tmp_path: Path, age: float, rate: float, *, kept: bool
) -> None:
    """What a busy moment measured is mended an hour later, what is old is measured again."""
    measured = measured_bandwidth(GIB)
    place = tmp_path / "home" / "bandwidth.json"
    at = (datetime.now(UTC) - timedelta(days=age)).isoformat(timespec="seconds")
    place.write_text(json.dumps({"rate": rate, "at": at, "machine": measured.machine}))
    again = measured_bandwidth(2 * GIB)
    assert (again.rate == rate) is kept
    assert stored_bandwidth() == again
    assert measured_bandwidth(2 * GIB) == again


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"rate": -1, "at": "", "machine": ""}', b'{"rate": "fast"}', b"[" * 9999],
)
def test_a_damaged_record_of_bandwidth_is_measured_again(tmp_path: Path, content: bytes) -> None:
    """It is a convenience, so it never costs an error."""
    place = tmp_path / "home" / "bandwidth.json"
    place.parent.mkdir()
    place.write_bytes(content)
    assert stored_bandwidth() is None
    assert measured_bandwidth(GIB).rate > 0


def test_bandwidth_of_another_machine_is_not_believed(tmp_path: Path) -> None:
    """A home may lie on a disk that several machines share."""
    kept = measured_bandwidth(GIB)
    place = tmp_path / "home" / "bandwidth.json"
    facts = json.loads(place.read_bytes())
    place.write_text(json.dumps(facts | {"machine": f"another than {kept.machine}"}))
    assert stored_bandwidth() is None


def test_a_home_that_cannot_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement is used and not kept."""
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("RUNG_HOME", str(file / "below"))
    assert measured_bandwidth(GIB).rate > 0
    assert stored_bandwidth() is None


def test_without_a_driver_there_are_no_cards() -> None:
    """Asking never raises, with a card or without."""
    for card in nvidia_cards().devices:
        assert card.kind is DeviceKind.GPU
        assert 0 <= card.available <= card.total


class Nvml:
    """NVIDIA's library with these cards: name, bytes in all, bytes free, bits of the bus; None for what is not told."""

    NVML_CLOCK_MEM = 2

    class NVMLError(Exception):
        """What the library raises."""

    def __init__(self, *cards: tuple[str | bytes, int | None, int, int | None]) -> None:
        self.cards = cards
        self.open = False

    def nvmlInit(self) -> None:  # noqa: N802 - the library's names
        """Start using the library."""
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Stop using it."""
        self.open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """How many cards there are."""
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, place: int) -> int:  # noqa: N802
        """What stands for a card."""
        return place

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        """Its memory in bytes."""
        total, free = self.cards[handle][1:3]
        if total is None:
            raise self.NVMLError
        return SimpleNamespace(total=total, free=free)

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        """Its name, as bytes in older versions."""
        return self.cards[handle][0]

    def nvmlDeviceGetMaxClockInfo(self, handle: int, kind: int) -> int:  # noqa: N802
        """A clock in MHz."""
        assert kind == self.NVML_CLOCK_MEM
        return 10_501

    def nvmlDeviceGetMemoryBusWidth(self, handle: int) -> int:  # noqa: N802
        """Bits of its bus."""
        width = self.cards[handle][3]
        if width is None:
            raise self.NVMLError
        return width


def test_cards_have_what_their_library_tells() -> None:
    """Memory that is free now, bandwidth where the bus is told; a card without memory of its own is none."""
    library = Nvml(
        (b"NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, 384),
        ("NVIDIA GB10", None, 0, None),
        ("NVIDIA H200", 141 * GIB, 140 * GIB, None),
    )
    (first, second), shared = nvidia_cards(library)
    assert shared == ("NVIDIA GB10",)
    assert (first.name, first.total, first.available) == (
        "NVIDIA GeForce RTX 4090",
        24 * GIB,
        23 * GIB,
    )
    assert first.bandwidth == pytest.approx(1008e9, rel=0.001)
    assert (second.name, second.bandwidth) == ("NVIDIA H200", None)
    assert not library.open


def test_a_library_without_a_driver_tells_of_no_cards() -> None:
    """Its first call raises."""

    class Bare(Nvml):
        def nvmlInit(self) -> None:  # noqa: N802
            raise self.NVMLError

    assert nvidia_cards(Bare(("card", GIB, GIB, 64))) == Cards()


def test_peak_bandwidth_is_clock_times_width_at_double_data_rate() -> None:
    """An RTX 4090 states 10,501 MHz and 384 bit: 1,008 GB/s."""
    assert bus_bandwidth(10_501, 384) == pytest.approx(1008e9, rel=0.001)
    assert bus_bandwidth(0, 384) is None
    assert bus_bandwidth(10_501, 0) is None


@pytest.mark.parametrize(
    ("total", "limit", "expected"),
    [
        (8 * GIB, 0, 8 * GIB * 2 // 3),
        (32 * GIB, 0, 32 * GIB * 2 // 3),
        (96 * GIB, 0, 72 * GIB),
        (32 * GIB, 28 * 1024, 28 * GIB),
        (32 * GIB, 99 * 1024, 32 * GIB),
    ],
)
def test_a_working_set_is_a_share_of_memory_or_what_was_set(
    total: int, limit: int, expected: int
) -> None:
    """Two thirds of smaller machines were observed (21,845 MiB of 32 GB), three quarters of larger ones."""
    assert working_set(total, limit) == expected


def driver(folder: Path, **figures: int) -> None:
    """One graphics processor as the AMD driver shows it."""
    folder.mkdir(parents=True)
    for name, value in figures.items():
        (folder / f"mem_info_{name}").write_text(f"{value}\n")


def test_an_amd_card_has_its_own_memory(tmp_path: Path) -> None:
    """What others use of it is not available; connectors beside it are no cards."""
    driver(
        tmp_path / "card0" / "device",
        vram_total=20 * GIB,
        vram_used=GIB,
        gtt_total=32 * GIB,
        gtt_used=0,
    )
    (tmp_path / "card0-DP-1" / "device").mkdir(parents=True)
    (device,) = amd_devices(tmp_path, Memory(64 * GIB, 60 * GIB))
    assert (device.kind, device.total, device.available) == (DeviceKind.GPU, 20 * GIB, 19 * GIB)


def test_an_amd_processor_shares_the_machines_memory_as_far_as_the_driver_lets_it(
    tmp_path: Path,
) -> None:
    """The limit is what the driver may map, and never more than is free."""
    own = {"vram_total": GIB // 2, "vram_used": 0, "gtt_total": 62 * GIB, "gtt_used": 2 * GIB}
    driver(tmp_path / "card1" / "device", **own)
    (device,) = amd_devices(tmp_path, Memory(124 * GIB, 120 * GIB))
    assert (device.kind, device.available) == (DeviceKind.UNIFIED, 60 * GIB + GIB // 2)
    (device,) = amd_devices(tmp_path, Memory(124 * GIB, 8 * GIB))
    assert device.available == 8 * GIB


def test_a_driver_that_tells_nonsense_is_passed_over(tmp_path: Path) -> None:
    """As is a system without such a driver."""
    driver(tmp_path / "card0" / "device", vram_total=GIB)
    (tmp_path / "card0" / "device" / "mem_info_vram_used").write_text("many\n")
    assert amd_devices(tmp_path, Memory(GIB, GIB)) == ()
    assert amd_devices(tmp_path / "none", Memory(GIB, GIB)) == ()


HOST = Device(name="CPU", kind=DeviceKind.HOST, backend="cpu", total=64 * GIB, available=60 * GIB)


def test_graphics_that_share_the_memory_leave_the_processor_what_it_has(tmp_path: Path) -> None:
    """The engine within Rung computes there, so all of the memory counts, and the graphics are mentioned."""
    own = {"vram_total": GIB // 2, "vram_used": 0, "gtt_total": 8 * GIB, "gtt_used": 0}
    driver(tmp_path / "card1" / "device", **own)
    amd = amd_devices(tmp_path, Memory(64 * GIB, 60 * GIB))
    machine = with_graphics(HOST, ("measured",), Cards(shared=("NVIDIA GB10",)), amd)
    assert machine.devices == (HOST,)
    assert machine.notes[0] == "measured"
    assert "NVIDIA GB10 tells of no memory of its own and is left out" in machine.notes[1]
    assert "8.5 GiB of the machine's memory and is left out" in machine.notes[2]


def test_cards_of_one_name_are_numbered(tmp_path: Path) -> None:
    """Two NVIDIA cards of a kind, and two of AMD, which all have one name."""
    library = Nvml(*[("NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB, 192)] * 2)
    for number in range(2):
        figures = {"vram_total": 24 * GIB, "vram_used": 0, "gtt_total": 0, "gtt_used": 0}
        driver(tmp_path / f"card{number}" / "device", **figures)
    amd = amd_devices(tmp_path, Memory(64 * GIB, 60 * GIB))
    machine = with_graphics(HOST, (), nvidia_cards(library), amd)
    assert [device.name for device in machine.devices] == [
        "CPU",
        "NVIDIA GeForce RTX 3060 (1)",
        "NVIDIA GeForce RTX 3060 (2)",
        "AMD graphics (1)",
        "AMD graphics (2)",
    ]


def test_two_devices_of_one_name_are_no_machine() -> None:
    """What lies where is told by it."""
    with pytest.raises(InputError, match="two devices of the machine 'pair' are named 'CPU'"):
        Machine(name="pair", devices=(HOST, HOST), detected=False)
