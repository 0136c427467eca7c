"""Memory that the estimate predicts beside the peak memory of the embedded engine's process, over a grid of models.

Random models of three families (`grid_models`) of at least --size bytes are loaded by the product's own engine, as
every combination of --families, --kinds, --contexts (tokens of each slot), --slots and --kv-types, shuffled by --seed
and cut to --cells. What is predicted is computed before the start, from rules alone but for the process: that is
measured once before, with the starter model, as `rung` does (--no-reserve leaves that out). Then the model is asked as
the product asks, and every slot's context is filled with its own prompt (of at most --fill tokens, and at least a
batch and a half), and the peak (VmHWM) of the process is read.

A false "fits" is a machine with exactly as much memory as lets the verdict be `fits` on which the process takes more
than there is. As the margin of that verdict is large beside such models, predictions that are short of the peak by
more than 5 % are counted too. Prints one line a cell, the medians, and one JSON line last, with how far the parts are
from what the engine's own log says of them.

    python bench/fit_rss.py --cells 8 --contexts 1024
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from grid_models import FAMILIES, write_family_model
from rung.config import KvType
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.fleet import Fleet
from rung.engines.llama_cpp.footprint import run_of
from rung.engines.llama_cpp.lease import Lease
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.tiny_start import process_reserve
from rung.engines.protocol import GenerateRequest
from rung.models.fit.estimate import Estimate, estimate
from rung.models.fit.measured import Measurements
from rung.models.fit.model import model_of
from rung.models.fit.verdict import Verdict
from rung.models.hardware.machine import Device, DeviceKind, Machine
from rung.models.shards import read_model
from rung.task import Message

MIB = 2**20
GOAL = 0.03
SHORT = 0.05
WRITTEN = 4


class Cell(NamedTuple):
    """One combination."""

    family: str
    kind: str
    context: int
    slots: int
    kv_type: str


class Row(NamedTuple):
    """What came of it; bytes."""

    cell: Cell
    file: int
    predicted: int
    least: int
    peak: int
    buffers: dict[str, tuple[int, int]]

    @property
    def error(self) -> float:
        """Share by which the prediction is above (or below) the peak."""
        return self.predicted / self.peak - 1


def machine_of(size: int) -> Machine:
    """A machine without a card that has so many bytes for models."""
    memory = Device(name="RAM", kind=DeviceKind.HOST, backend="cpu", total=size, available=size)
    return Machine(name="bench", devices=(memory,), detected=False)


def parameters_of(cell: Cell, path: Path, options: argparse.Namespace) -> ModelParameters:
    return ModelParameters(
        path=str(path),
        context=cell.context,
        slots=cell.slots,
        threads=options.threads,
        kv_type=KvType(cell.kv_type),
        start_s=300,
    )


def predicted(path: Path, parameters: ModelParameters, reserve: int | None) -> tuple[Estimate, int]:
    """The estimate, and the least memory in MiB steps on which its verdict is `fits`."""
    model, run = model_of(read_model(path), path.name), run_of(parameters, Role.SERVER)

    def on(size: int) -> Estimate:
        return estimate(model, run, machine_of(size), reserve=reserve)

    low, high = 1, 64 * 1024
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if on(middle * MIB).verdict is Verdict.FITS else (middle, high)
    return on(high * MIB), high * MIB


async def fill(lease: Lease, slot: int, tokens: list[int]) -> None:
    """One long prompt in one slot."""
    body = {"prompt": tokens, "n_predict": WRITTEN, "id_slot": slot, "ignore_eos": True}
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_unix_connection(lease.socket)
    try:
        writer.write(
            f"POST /completion HTTP/1.0\r\nAuthorization: Bearer {lease.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        answer = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    finally:
        writer.close()
    if answer.get("tokens_evaluated") != len(tokens):
        raise SystemExit(f"the engine did not take the prompt: {str(answer)[:300]}")


async def measure(
    cell: Cell, path: Path, reserve: int | None, options: argparse.Namespace, folder: Path
) -> Row:
    """Predict, then start, fill and look."""
    parameters = parameters_of(cell, path, options)
    thought, least = predicted(path, parameters, reserve)
    size = os.stat(path).st_size  # noqa: PTH116
    fleet = Fleet(measurements=Measurements(folder))
    engine, supervisor = (
        LlamaCppEngine(fleet, parameters),
        fleet.supervisor(parameters, Role.SERVER),
    )
    chance = random.Random(f"{options.seed} {cell}")
    length = min(cell.context - WRITTEN - 1, max(options.fill, parameters.batch_tokens * 3 // 2))
    try:
        await engine.generate(GenerateRequest(messages=(Message("user", "Hello"),), max_tokens=4))
        async with supervisor.lease() as lease:
            prompts = [
                [chance.randrange(1000, 8000) for _ in range(length)] for _ in range(cell.slots)
            ]
            await asyncio.gather(*(fill(lease, slot, one) for slot, one in enumerate(prompts)))
            observation = supervisor.observation
            assert observation is not None  # noqa: S101  # a child is leased
            observation.look(now=True)
            peak, buffers = observation.peak, observation.buffers
    finally:
        await engine.aclose()
        await fleet.aclose()
    if peak is None:
        raise SystemExit("this system does not tell the peak memory of a process")
    logged = {
        "KV cache": sum(buffers.cache.values()),
        "compute": sum(buffers.compute.values()),
        "output": sum(buffers.output.values()),
        "repacked weights": buffers.weights.get("CPU_REPACK", 0),
    }
    pairs = {what: (thought.part(what), size) for what, size in logged.items()}
    return Row(cell, size, thought.needed, least, peak, pairs)


def grid(options: argparse.Namespace) -> Iterator[tuple[tuple[str, str], list[Cell]]]:
    """The cells, by model."""
    every = [
        Cell(*values)
        for values in itertools.product(
            options.families, options.kinds, options.contexts, options.slots, options.kv_types
        )
    ]
    random.Random(options.seed).shuffle(every)
    chosen = sorted(every[: options.cells])
    for model, cells in itertools.groupby(chosen, key=lambda cell: (cell.family, cell.kind)):
        yield model, list(cells)


async def run(options: argparse.Namespace, folder: Path) -> tuple[list[Row], int | None]:
    kept = folder / "measured"
    reserve = await process_reserve(Measurements(kept)) if options.reserve else None
    print(f"process: {reserve / MIB:.1f} MiB measured" if reserve else "process: by the rule")
    print(
        f"{'model':22}{'context':>9}{'slots':>7}{'kv':>6}{'predicted':>11}{'peak MiB':>10}{'error':>8}"
    )
    rows = []
    for (family, kind), cells in grid(options):
        path = (options.keep or folder) / f"{family}-{kind}-{options.size}.gguf"
        if not path.exists():
            write_family_model(
                path, FAMILIES[family], kind=kind, size=options.size, seed=options.seed
            )
        for cell in cells:
            row = await measure(cell, path, reserve, options, kept)
            rows.append(row)
            print(
                f"{family + ' ' + kind:22}{cell.context:9,}{cell.slots:7}{cell.kv_type:>6}"
                f"{row.predicted / MIB:11.1f}{row.peak / MIB:10.1f}{row.error:8.1%}",
                flush=True,
            )
        if options.keep is None:
            path.unlink()
    return rows, reserve


def summary(rows: list[Row], reserve: int | None, options: argparse.Namespace) -> dict[str, Any]:
    errors = [row.error for row in rows]
    parts = {
        what: max(
            abs(thought - logged) / MIB for thought, logged in (r.buffers[what] for r in rows)
        )
        for what in rows[0].buffers
    }
    median = statistics.median(map(abs, errors))
    false_fits = sum(row.peak > row.least for row in rows)
    short = sum(row.peak > row.predicted * (1 + SHORT) for row in rows)
    return {
        "bench": "fit_rss",
        "cells": len(rows),
        "least_file_mib": min(row.file for row in rows) / MIB,
        "process_reserve_mib": reserve / MIB if reserve else None,
        "median_abs_error": median,
        "largest_abs_error": max(map(abs, errors)),
        "mean_error": statistics.fmean(errors),
        "below_the_peak": sum(error < 0 for error in errors),
        "short_by_more_than_5_percent": short,
        "false_fits": false_fits,
        "largest_part_error_mib": parts,
        "seed": options.seed,
        "passed": median <= GOAL and not false_fits and not short,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--kinds", nargs="+", default=["F16", "Q8_0", "Q4_K_M"])
    parser.add_argument("--size", type=int, default=205_000_000, help="bytes of a model, at least")
    parser.add_argument("--contexts", nargs="+", type=int, default=[1024, 2048, 4096, 8192])
    parser.add_argument("--slots", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--kv-types", nargs="+", default=["f16", "q8_0", "q4_0"])
    parser.add_argument("--cells", type=int, default=24, help="how many combinations are drawn")
    parser.add_argument("--fill", type=int, default=1 << 20, help="most tokens of a prompt")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-reserve", dest="reserve", action="store_false")
    parser.add_argument("--keep", type=Path, help="folder of models that are kept for another run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, reserve = asyncio.run(run(options, Path(folder)))
    result = summary(rows, reserve, options)
    print(
        f"median |error| {result['median_abs_error']:.1%}, largest {result['largest_abs_error']:.1%}, "
        f"mean {result['mean_error']:+.1%}; false fits {result['false_fits']} of {result['cells']}"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
