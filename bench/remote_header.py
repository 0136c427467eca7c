"""What it costs to learn all about a model that lies elsewhere: time, bytes and requests of a look-up and its header.

A random model with a large vocabulary is served by the tests' Hugging Face on loopback, every answer delayed. Each
round is a fresh interpreter that has never seen the model: importing is part of it. With other work on the machine, the
processor time tells more than the time on the clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import resource
import shutil
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hub import Hub  # type: ignore[import-not-found]  # the tests' server, on the path since a line ago

LOOK_UP = """
import asyncio, sys
from rung.models.reference import parse_reference
from rung.models.sources.opening import Sources

async def read():
    async with Sources() as sources:
        resolved = await sources.resolve(parse_reference(sys.argv[1]))
        return await sources.headers(resolved)

headers = asyncio.run(read())
print(len(headers[0].tensors))
"""
VERB = """
import sys
from rung.cli import main

sys.argv = ["rung", "fit", sys.argv[1], "--ctx", "8192", "--json"]
main()
"""
REPO = "bench/random-GGUF"


def write_model(path: Path, *, layers: int, tokens: int, dim: int, seed: int) -> None:
    """Write a llama-like GGUF file whose header is a real one's in size; the weights are a hole in the file."""
    chance = random.Random(seed)
    writer: Any = gguf.GGUFWriter(path, "llama")  # its stubs lack what follows
    for key, value in _hyperparameters(layers, dim).items():
        writer.add_key_value(f"llama.{key}", value, gguf.GGUFValueType.UINT32)
    words = [_word(chance, number) for number in range(tokens)]
    writer.add_token_list(words)
    writer.add_token_types([1] * tokens)
    writer.add_token_merges([f"{a} {b}" for a, b in itertools.pairwise(words)])
    size = 0
    for name, shape in _tensors(layers, tokens, dim):
        kind = np.float16 if len(shape) > 1 else np.float32
        length = math.prod(shape) * np.dtype(kind).itemsize
        writer.add_tensor_info(name, shape, np.dtype(kind), length)
        size += length  # each a multiple of the alignment
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, -(-path.stat().st_size // 32) * 32 + size)


def _hyperparameters(layers: int, dim: int) -> dict[str, int]:
    return {
        "context_length": 32_768,
        "block_count": layers,
        "embedding_length": dim,
        "feed_forward_length": 2 * dim,
        "attention.head_count": dim // 64,
        "attention.head_count_kv": dim // 64,
        "rope.dimension_count": 64,
    }


def _tensors(layers: int, tokens: int, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, rows first: nine a layer and four more."""
    yield "token_embd.weight", (tokens, dim)
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{name}.weight", (dim,)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{layer}.{name}.weight", (dim, dim)
        for name in ("ffn_gate", "ffn_up"):
            yield f"blk.{layer}.{name}.weight", (2 * dim, dim)
        yield f"blk.{layer}.ffn_down.weight", (dim, 2 * dim)
    yield "output_norm.weight", (dim,)
    yield "output.weight", (tokens, dim)
    yield "rope_freqs.weight", (32,)


def _word(chance: random.Random, number: int) -> str:
    """A token of the usual length, unlike all others."""
    letters = "".join(chance.choices(string.ascii_lowercase, k=chance.randrange(1, 9)))
    return f"{letters}{number:x}"


def measure(hub: Hub, code: str, home: Path) -> dict[str, float]:
    """One fresh interpreter that reads the header of the only model there."""
    before, requests = hub.bytes_served, len(hub.log)
    shutil.rmtree(home / "headers", ignore_errors=True)
    places = ("RUNG_HOME", "HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "LMSTUDIO_HOME")
    environment = os.environ | hub.environment | dict.fromkeys(places, str(home)) | {"HF_TOKEN": ""}
    environment["PYTHONPYCACHEPREFIX"] = str(home / "code")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled once
    busy, started = _cpu_seconds(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, f"hf:{REPO}"],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "cpu": _cpu_seconds() - busy,
        "bytes": hub.bytes_served - before,
        "requests": len(hub.log) - requests,
    }


def _cpu_seconds() -> float:
    """Processor time of all interpreters that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before every answer")
    parser.add_argument("--layers", type=int, default=44, help="nine tensors each, and four more")
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--dim", type=int, default=256, help="width, a multiple of 64")
    parser.add_argument(
        "--verb", action="store_true", help="`rung fit` whole, not the look-up alone"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-seconds", type=float, default=1.0)
    parser.add_argument("--limit-mib", type=float, default=16.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Hub(latency_s=options.latency) as hub:
        path = Path(folder, "random-Q4_K_M.gguf")
        write_model(
            path,
            layers=options.layers,
            tokens=options.tokens,
            dim=options.dim,
            seed=options.seed,
        )
        hub.add_repo(REPO, {path.name: path})
        code = VERB if options.verb else LOOK_UP
        home = Path(folder, "home")
        measure(hub, code, home)  # warms the file cache, and measures what is measured once
        rounds = [measure(hub, code, home) for _ in range(options.rounds)]
    seconds = sorted(one["seconds"] for one in rounds)
    median, most = statistics.median(seconds), max(one["bytes"] for one in rounds)
    requests = int(max(one["requests"] for one in rounds))
    print(f"look-up and header    {median:.2f} s (median; {seconds[0]:.2f} to {seconds[-1]:.2f})")
    cpu = statistics.median(one["cpu"] for one in rounds)
    print(f"of which processor    {cpu:.2f} s (median)")
    print(f"read                  {most / 2**20:.1f} MiB in {requests} requests")
    result = {
        "format": 1,
        "verb": options.verb,
        "tensors": 9 * options.layers + 4,
        "tokens": options.tokens,
        "latency_s": options.latency,
        "rounds": options.rounds,
        "median_s": median,
        "cpu_s": cpu,
        "slowest_s": seconds[-1],
        "bytes": int(most),
        "requests": requests,
        "gate": "pass"
        if median <= options.limit_seconds and most <= options.limit_mib * 2**20
        else "fail",
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
