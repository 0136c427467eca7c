"""How well decode speeds are foretold, on published measurements that were not used to do so.

Each series (one device, one backend) of four rows or more gives its even rows to the two-factor fit of
`rung.models.fit.speed`; its odd rows are foretold, beside the single factor of 0.6 on the same rows. Rows of devices
for which Rung ships no figures of their own test the usual figures of their backend, with nothing fitted at all.
Rows of mixtures of experts that do not say what a token reads are looked up in --catalog; they test what Rung says of
such models, whose share for experts three of them gave. Two gates: foretold odd rows and rows of other devices lie in
the stated band in nine of ten cases.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fit_rows import hyperparameters_of
from rung.models.fit.catalogued import shape_from, weights_from
from rung.models.fit.speed import BAND, UNFITTED_BAND, Reading, fitted_pace, has_series, speed_of
from rung.models.hardware.machine import Device, DeviceKind

SINGLE_FACTOR = 0.6
EXPERTS = "bytes read per token unknown (experts)"
IN_BAND = 0.9
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
    experts: bool = False


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


def read(path: Path, catalog: Path) -> tuple[list[Row], dict[str, int]]:
    """The rows that tell what a token reads, or whose model a catalogue has, and why others do not."""
    known = catalogue(catalog)
    rows, skipped = [], collections.Counter[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        facts = json.loads(line)
        reason = unusable(facts)
        experts = read_by_experts(facts, known) if reason == EXPERTS else None
        if reason and experts is None:
            skipped[reason] += 1
            continue
        size = experts or (facts.get("active_gb") or facts["weights_gb"]) * 1e9
        bandwidth, speed = facts["bandwidth_gb_s"] * 1e9, facts["tg_tps"]
        rows.append(
            Row(facts["device"], facts["backend"], bandwidth, size, speed, experts is not None)
        )
    return rows, dict(skipped)


def catalogue(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of a catalogue by their model; none where there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["model"].lower(): row for row in map(json.loads, lines)}


def read_by_experts(facts: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> float | None:
    """Bytes that a token reads of a mixture of experts, by the size of its file; None where no catalogue has it."""
    model = str(facts["model"]).lower()
    row = next((row for name, row in known.items() if model.startswith(name)), None)
    if row is None:
        return None
    shape = shape_from(hyperparameters_of({**row, "arch": row["gguf_arch"]}), model)
    size = int(facts["weights_gb"] * 1e9)
    weights = weights_from(
        shape, file_bytes=size, parameters=row["n_params"], file_type=str(facts["quant"])
    )
    return float(weights.active_bytes) if shape.experts else None


def unusable(facts: Mapping[str, object]) -> str:
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
    return "" if facts.get("bandwidth_efficiency") else EXPERTS


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
    """What Rung says."""
    speed = speed_of([Reading(device_of(row), int(row.size), 0, row.experts)])
    if speed is None:
        raise SystemExit(f"no speed for {row.device!r}")
    return speed.tokens_per_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speeds", type=Path, default=Path("../shared/data/fit/speeds.jsonl"))
    parser.add_argument("--catalog", type=Path, help="default: catalog.jsonl beside --speeds")
    options = parser.parse_args()
    catalog = options.catalog or options.speeds.with_name("catalog.jsonl")
    every, skipped = read(options.speeds, catalog)
    rows, experts = [row for row in every if not row.experts], [row for row in every if row.experts]
    told: dict[Row, float] = {}
    for name, of_series in fitted(rows):
        told |= of_series
        show(name, compared(list(of_series), of_series.__getitem__, BAND))
    together = compared(list(told), told.__getitem__, BAND)
    show("all odd rows", together)
    others = [row for row in rows if not has_series(row.device)]
    unknown = compared(others, shipped, UNFITTED_BAND)
    show("devices without figures of their own", unknown)
    of_experts = compared(experts, shipped, BAND)
    show("mixtures of experts, by the catalogue", of_experts)
    gates = {
        "odd rows in the band": together is not None and together.in_band >= IN_BAND,
        "other devices in the band": unknown is not None and unknown.in_band >= IN_BAND,
    }
    for reason, count in skipped.items():
        print(f"left out: {count} rows, {reason}")
    result = {
        "format": 1,
        "usable": len(every),
        "skipped": skipped,
        "fitted_even_tested_odd": together,
        "usual_figures": unknown,
        "experts": of_experts,
        "gates": gates,
        "gate": "pass" if all(gates.values()) else "fail",
    }
    for name, passed in gates.items():
        print(f"{'pass' if passed else 'FAIL'}  {name}: nine of ten")
    print(msgspec.json.encode(result).decode())
    if not all(gates.values()):
        raise SystemExit(1)


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
