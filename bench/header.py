"""How long the header of a GGUF file takes to read, beside `gguf.GGUFReader` on the same file.

    python bench/header.py --tensors 400 --tokens 150000 --rounds 2 --seed 0
    python bench/header.py --verb --rounds 9

The file is generated: so many tensors, a vocabulary of so many tokens with a type each, and as many merges. Each round
reads it with both, in an order shuffled anew, so that what else the machine does falls on both alike; one read before
them warms the file cache. Wall time decides, processor time tells how much of it was waiting. The other reader takes
seconds, so that two rounds are enough. The last line is JSON; exit code 1 where the gate fails.

With --verb each round is `rung fit FILE` in an interpreter of its own instead, beside one that does nothing but
`rung --version`: what the verb itself takes is the difference. The gate is on that, as a machine's interpreter starts
as slowly as it does.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

from rung.models.header import read_header

LIMIT_MS = 150.0
VERB = ("fit", "--on", "laptop-16gb")
BARE = ("--version",)


class Times(NamedTuple):
    """Of one read, in milliseconds."""

    wall: float
    processor: float


def write_model(path: Path, tensors: int, tokens: int, chance: random.Random) -> None:
    """Write a file whose header is that of a large model and whose weights are not."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(tensors // 11)
    writer.add_context_length(131_072)
    writer.add_embedding_length(2048)
    writer.add_feed_forward_length(8192)
    writer.add_head_count(16)
    writer.add_head_count_kv(8)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 12))) for _ in range(tokens)]
    writer.add_token_list([f"{word}{number}" for number, word in enumerate(words)])
    writer.add_token_types([1] * tokens)
    writer.add_token_merges([f"{word[:1]} {word}" for word in words])
    for number in range(tensors):
        writer.add_tensor(f"blk.{number // 11}.part{number % 11}.weight", np.zeros((4, 32), "f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def timed(read: Callable[[Path], object], path: Path) -> Times:
    """The time of one read; what earlier ones left to collect is collected before it."""
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    read(path)
    return Times((time.perf_counter() - wall) * 1000, (time.process_time() - processor) * 1000)


def measure(path: Path, rounds: int, chance: random.Random) -> dict[str, list[Times]]:
    """The times of both readers in every round."""
    readers: dict[str, Callable[[Path], object]] = {"rung": read_header, "gguf": gguf.GGUFReader}
    order = list(readers)
    times: dict[str, list[Times]] = {name: [] for name in readers}
    timed(read_header, path)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            times[name].append(timed(readers[name], path))
    return times


def started(words: Sequence[str], home: Path) -> Times:
    """The time of one command in an interpreter of its own, and the processor time of that."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "rung", *words]
    environment = os.environ | {"RUNG_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "code")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled once
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    taken, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Times(taken * 1000, processor * 1000)


def measure_verb(path: Path, rounds: int, chance: random.Random) -> dict[str, list[Times]]:
    """The times of the verb and of a command that does nothing, in every round, after one that warms up."""
    commands = {"fit": (VERB[0], str(path), *VERB[1:]), "bare": BARE}
    order = list(commands)
    times: dict[str, list[Times]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        chance.shuffle(order)
        for name in order:
            taken = started(commands[name], path.parent)
            if number:
                times[name].append(taken)
    return times


def show_verb(path: Path, wanted: argparse.Namespace, chance: random.Random) -> dict[str, object]:
    """The table of --verb, and its facts."""
    times = measure_verb(path, wanted.rounds, chance)
    medians = {
        name: Times(*(statistics.median(column) for column in zip(*taken, strict=True)))
        for name, taken in times.items()
    }
    for name, taken in medians.items():
        print(f"{name:<6}{taken.wall:9.1f} ms   {taken.processor:9.1f} ms of processor")
    beyond = Times(*(one - other for one, other in zip(*medians.values(), strict=True)))
    print(f"the verb itself: {beyond.wall:.1f} ms, {beyond.processor:.1f} ms of processor")
    return {
        "verb": True,
        "fit_ms": medians["fit"].wall,
        "fit_processor_ms": medians["fit"].processor,
        "bare_ms": medians["bare"].wall,
        "itself_ms": beyond.wall,
        "itself_processor_ms": beyond.processor,
        "gate": "pass" if beyond.wall <= wanted.limit_ms else "fail",
    }


def show_readers(
    path: Path, wanted: argparse.Namespace, chance: random.Random
) -> dict[str, object]:
    """The table of both readers, and its facts."""
    times = measure(path, wanted.rounds, chance)
    medians = {
        name: [statistics.median(column) for column in zip(*taken, strict=True)]
        for name, taken in times.items()
    }
    low, high = ratio_interval(times, wanted.draws, chance)
    for name, (wall, processor) in medians.items():
        slowest = max(taken.wall for taken in times[name])
        print(
            f"{name:<6}{wall:9.1f} ms   {processor:9.1f} ms of processor, slowest {slowest:.1f} ms"
        )
    ratio = medians["gguf"][0] / medians["rung"][0]
    print(f"gguf takes {ratio:.1f} times as long ({low:.1f}–{high:.1f})")
    return {
        "verb": False,
        "rung_ms": medians["rung"][0],
        "rung_processor_ms": medians["rung"][1],
        "gguf_ms": medians["gguf"][0],
        "gguf_processor_ms": medians["gguf"][1],
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "gate": "pass" if medians["rung"][0] <= wanted.limit_ms else "fail",
    }


def ratio_interval(
    times: dict[str, list[Times]], draws: int, chance: random.Random
) -> tuple[float, float]:
    """Ends of the 95 % bootstrap interval of how many times as long `gguf` takes, by rounds."""
    pairs = list(zip(times["gguf"], times["rung"], strict=True))

    def ratio() -> float:
        drawn = chance.choices(pairs, k=len(pairs))
        slow, quick = zip(*drawn, strict=True)
        return float(
            statistics.median(t.wall for t in slow) / statistics.median(t.wall for t in quick)
        )

    ratios = sorted(ratio() for _ in range(draws))
    return ratios[int(draws * 0.025)], ratios[int(draws * 0.975)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--verb", action="store_true", help="`rung fit` as a command instead")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-ms", type=float, default=LIMIT_MS, help="median that passes")
    wanted = parser.parse_args()
    chance = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_model(path, wanted.tensors, wanted.tokens, chance)
        size = min(tensor.start for tensor in read_header(path).tensors)
        found = (show_verb if wanted.verb else show_readers)(path, wanted, chance)
    figures = {
        "format": 1,
        "bench": "header",
        "tensors": wanted.tensors,
        "tokens": wanted.tokens,
        "header_bytes": size,
        "rounds": wanted.rounds,
        "seed": wanted.seed,
        "cores": os.cpu_count(),
        "limit_ms": wanted.limit_ms,
        **found,
    }
    print(json.dumps(figures))
    if figures["gate"] == "fail":
        raise SystemExit(1)


if __name__ == "__main__":
    main()
