"""How well decode speeds are foretold, on published measurements that were not used to do so.

Each series (one device, one backend) of four rows or more gives its even rows to the two-factor fit of
`rung.models.fit.speed`; its odd rows are foretold, beside the single factor of 0.6 on the same rows. Rows of devices
for which Rung ships no figures of their own test the usual figures of their backend, with nothing fitted at all.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from rung.models.fit.speed import BAND, UNFITTED_BAND, Reading, fitted_pace, has_series, speed_of
from rung.models.hardware.machine import Device, DeviceKind

SINGLE_FACTOR = 0.6
FEWEST = 4
BACKENDS = {
    "cuda": "cuda",
    "metal": "metal",
    "mlx": "metal",
    "vulkan": "vulkan",
    "rocm": "rocm",
    "hip": "rocm",
    "cpu": "cpu",
}
VENDORS = {"apple": "metal", "rtx": "cuda", "nvidia": "cuda", "rx": "rocm", "ryzen": "vulkan"}


class Row(NamedTuple):
    """One measured speed."""

    device: str
    backend: str
    bandwidth: float
    size: float
    tokens_s: float


class Errors(msgspec.Struct):
    """Sizes of relative errors; `bias` is the median error with its sign."""

    median: float
    p90: float
    max: float
    bias: float


class Compared(msgspec.Struct):
    """Two ways to foretell on the same rows."""

    rows: int
    two_factor: Errors
    single_factor: Errors
    in_band: float
    single_in_band: float
    band: float


def read(path: Path) -> tuple[list[Row], dict[str, int]]:
    """The rows that tell what a token reads, and why others do not."""
    rows, skipped = [], collections.Counter[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        facts = json.loads(line)
        reason = unusable(facts)
        if reason:
            skipped[reason] += 1
            continue
        size = facts.get("active_gb") or facts["weights_gb"]
        bandwidth, speed = facts["bandwidth_gb_s"] * 1e9, facts["tg_tps"]
        rows.append(Row(facts["device"], facts["backend"], bandwidth, size * 1e9, speed))
    return rows, dict(skipped)


def unusable(facts: dict[str, object]) -> str:
    """Why a row cannot be used; empty when it can."""
    if not facts.get("bandwidth_gb_s"):
        return "bandwidth unknown"
    if not facts.get("tg_tps"):
        return "no decode speed"
    if "partial offload" in str(facts.get("backend")):
        return "partial offload"
    if facts.get("active_gb"):
        return ""
    if not facts.get("weights_gb"):
        return "bytes unknown"
    return "" if facts.get("bandwidth_efficiency") else "bytes read per token unknown (experts)"


def device_of(row: Row) -> Device:
    """The row's device as Rung would describe it, without figures of its own."""
    words = row.backend.casefold().split() + row.device.casefold().split()
    known = BACKENDS | VENDORS
    backend = next((known[word] for word in words if word in known), "cuda")
    return Device(
        name=row.device,
        kind=DeviceKind.GPU,
        backend=backend,
        total=0,
        available=0,
        bandwidth=row.bandwidth,
    )


def halves(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """Each long enough series, its even rows and its odd ones."""
    series: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        series.setdefault((row.device, row.backend), []).append(row)
    for (device, backend), own in series.items():
        if len(own) >= FEWEST:
            yield f"{device} · {backend}", own[0::2], own[1::2]


def single_factor(row: Row) -> float:
    """The rule of thumb: 0.6 of the bandwidth."""
    return SINGLE_FACTOR * row.bandwidth / row.size


def errors(rows: Sequence[Row], foretold: Callable[[Row], float]) -> list[float]:
    """Relative errors: positive where too fast a speed was foretold."""
    return [foretold(row) / row.tokens_s - 1 for row in rows]


def in_band(rows: Sequence[Row], foretold: Callable[[Row], float], band: float) -> int:
    """Rows whose measured speed lies within the band around the foretold one."""
    return sum(abs(row.tokens_s / foretold(row) - 1) <= band for row in rows)


def summary(found: Sequence[float]) -> Errors:
    """Median and largest size of errors, and the median error."""
    sizes = sorted(abs(error) for error in found)
    p90 = sizes[min(len(sizes) - 1, int(0.9 * len(sizes)))]
    return Errors(statistics.median(sizes), p90, sizes[-1], statistics.median(found))


def compared(rows: Sequence[Row], foretold: Callable[[Row], float], band: float) -> Compared | None:
    """One way to foretell beside the single factor, on the same rows; None without any."""
    if not rows:
        return None
    return Compared(
        len(rows),
        summary(errors(rows, foretold)),
        summary(errors(rows, single_factor)),
        in_band(rows, foretold, band) / len(rows),
        in_band(rows, single_factor, band) / len(rows),
        band,
    )


def fitted(rows: Sequence[Row]) -> Iterator[tuple[str, dict[Row, float]]]:
    """Of each series, what is foretold of the odd rows after the even ones."""
    for name, known, unseen in halves(rows):
        pace = fitted_pace([(row.size, 1 / row.tokens_s) for row in known])
        if pace is not None:
            yield name, {row: 1 / pace.seconds(row.size) for row in unseen}


def shipped(row: Row) -> float:
    """What Rung says of a device it has no figures of."""
    speed = speed_of([Reading(device_of(row), int(row.size), 0)])
    if speed is None:
        raise SystemExit(f"no speed for {row.device!r}")
    return speed.tokens_per_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speeds", type=Path, default=Path("../shared/data/fit/speeds.jsonl"))
    rows, skipped = read(parser.parse_args().speeds)
    told: dict[Row, float] = {}
    for name, of_series in fitted(rows):
        told |= of_series
        show(name, compared(list(of_series), of_series.__getitem__, BAND))
    together = compared(list(told), told.__getitem__, BAND)
    show("all odd rows", together)
    others = [row for row in rows if not has_series(row.device)]
    unknown = compared(others, shipped, UNFITTED_BAND)
    show("devices without figures of their own", unknown)
    for reason, count in skipped.items():
        print(f"left out: {count} rows, {reason}")
    result = {
        "format": 1,
        "usable": len(rows),
        "skipped": skipped,
        "fitted_even_tested_odd": together,
        "usual_figures": unknown,
    }
    print(msgspec.json.encode(result).decode())


def show(name: str, facts: Compared | None) -> None:
    """One line of the table."""
    if facts is None:
        return
    two, single = facts.two_factor, facts.single_factor
    print(
        f"{name[:58]:<60}{facts.rows:>3} rows   two factors: median {two.median:6.1%} max {two.max:6.1%}"
        f"   one factor: median {single.median:6.1%} max {single.max:6.1%}   in band {facts.in_band:.0%}"
    )


if __name__ == "__main__":
    main()
