"""What the embedded engine costs: CPU time of a classification, tokens per second, start and memory.

Classification: prompts of the given rows behind one shared prefix, by Rung's engine and by llama.cpp's own HTTP server
(`bare_server`) called in sequence: it (a) writes the label, (b) writes JSON held to a schema, either by its native
endpoint (llguidance, compact) or by its chat endpoint (`response_format`). All ways take turns chunk by chunk, in an
order shuffled anew, so that what else the machine does falls on all alike. CPU time is that of the model's process and
of the caller together; the ratio's interval is from resampling the chunks.

Decoding: tokens per second of Rung's engine at batch 1 beside bare `llama_decode` calls, in turns. Start: from asking
for a child to its being ready. Memory: of a child that has answered and waits.

Without --model a random model of the asked size is made (`random_model`); the tokenizer is that of --vocabulary. Prints
tables, then one JSON line.

    python bench/engine.py --data ../shared/data/banking77
    python bench/engine.py --data ../shared/data/banking77 --model starter --form short --labels 0 --context 512
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

from bare_server import BareDecoder, BareServer, plain
from random_model import Size, write_random_model
from rung import prompts
from rung.config import Timeouts
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.fleet import Fleet
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.engines.protocol import ClassifyRequest, GenerateRequest
from rung.models.filetypes import FileType
from rung.starter import model_path
from rung.task import Kind, Label, Message, Task, Text

OURS = "rung: label probabilities"
TEXT = "(a) server writes the label"
JSON = "(b) server writes JSON, native"
CHAT = "(b) server writes JSON, chat"
GOAL = 3.0
INSTRUCTIONS = "Sort each message that a customer wrote to a bank by what it is about."
RAW_GOAL = 0.9
PROMPT = 32
"""Tokens before what bare decoding writes: about those of the engine's prompt."""

PATIENT = Timeouts(first_token=600, between_tokens=600, total=3600)


class Row(NamedTuple):
    """A text and its label."""

    text: str
    label: str


class Spent(NamedTuple):
    """One chunk by one way: CPU seconds of model and caller, wall seconds, right answers, tokens written."""

    cpu_s: float
    wall_s: float
    right: int
    tokens: int
    rows: int


Way = Callable[[Sequence[Row]], Awaitable[tuple[int, int]]]
"""Answers rows; gives how many were right and how many tokens were written."""


def read(
    folder: Path, labels: int, rows: int, chance: random.Random
) -> tuple[list[str], list[Row]]:
    """The labels in use (0 for all) and rows of test.csv that have one of them."""
    with (folder / "test.csv").open(encoding="utf-8", newline="") as file:
        found = [Row(row["text"], row["category"]) for row in csv.DictReader(file)]
    names = sorted({row.label for row in found})
    if labels:
        names = sorted(chance.sample(names, labels))
    found = [row for row in found if row.label in names]
    chance.shuffle(found)
    while len(found) < rows:
        found += found[: rows - len(found)]
    return names, found[:rows]


def task_of(names: Sequence[str], instructions: str) -> Task:
    return Task(
        name="banking77",
        kind=Kind.CLASSIFY,
        instructions=instructions,
        labels=tuple(Label(name) for name in names),
    )


def served(server: BareServer, task: Task, options: argparse.Namespace) -> dict[str, Way]:
    """The ways of the bare server."""
    schema = msgspec.json.decode(prompts.answer_schema(task) or "{}")
    compact = schema | {"x-guidance": {"whitespace_flexible": False}}
    form = prompts.Form(options.form)
    json_form = form if form is prompts.Form.SHORT else prompts.Form.JSON
    words = server.count(" ".join(task.label_names))
    longest = max(2, round(words / len(task.labels)) + 1)
    mark = "\x01"
    around = server.render(prompts.messages(task, Text(mark), form=json_form)).split(mark)

    def text(row: Row) -> tuple[str, int]:
        messages = plain(prompts.messages(task, Text(row.text), form=form))
        body = {"messages": messages, "temperature": 0, "max_tokens": longest}
        answer = server.ask("/v1/chat/completions", body)
        return answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]

    def native(row: Row) -> tuple[str, int]:
        body = {"prompt": row.text.join(around), "temperature": 0, "n_predict": 64}
        answer = server.ask("/completion", body | {"json_schema": compact})
        return label_in(answer["content"]), answer["tokens_predicted"]

    def chat(row: Row) -> tuple[str, int]:
        messages = plain(prompts.messages(task, Text(row.text), form=json_form))
        body: dict[str, Any] = {"messages": messages, "temperature": 0, "max_tokens": 64}
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
        answer = server.ask("/v1/chat/completions", body)
        content = label_in(answer["choices"][0]["message"]["content"])
        return content, answer["usage"]["completion_tokens"]

    return {TEXT: one_by_one(text), JSON: one_by_one(native), CHAT: one_by_one(chat)}


def label_in(content: str) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        return str(msgspec.json.decode(content)["label"])
    return ""


def one_by_one(ask: Callable[[Row], tuple[str, int]]) -> Way:
    """A way that answers row after row."""

    async def answer(rows: Sequence[Row]) -> tuple[int, int]:
        answers = [ask(row) for row in rows]
        right = sum(text.strip() == row.label for (text, _), row in zip(answers, rows, strict=True))
        return right, sum(tokens for _, tokens in answers)

    return answer


def ours(engine: LlamaCppEngine, task: Task) -> Way:
    """Rung's way: micro-batches of label probabilities."""

    async def answer(rows: Sequence[Row]) -> tuple[int, int]:
        right = 0
        for start in range(0, len(rows), engine.batch):
            batch = rows[start : start + engine.batch]
            texts = tuple(row.text for row in batch)
            found = await engine.classify(ClassifyRequest(task=task, texts=texts))
            for failure in found.failures.values():
                raise failure
            chosen = [task.label_names[index] for index in found.chosen]
            right += sum(name == row.label for name, row in zip(chosen, batch, strict=True))
        return right, 0

    return answer


async def spent(way: Way, pid: int, rows: Sequence[Row]) -> Spent:
    """What one chunk costs."""
    before, caller, started = cpu_seconds(pid), time.process_time(), time.perf_counter()
    right, tokens = await way(rows)
    wall = time.perf_counter() - started
    cpu = cpu_seconds(pid) - before + time.process_time() - caller
    return Spent(cpu, wall, right, tokens, len(rows))


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def classification(
    fleet: Fleet, parameters: ModelParameters, options: argparse.Namespace
) -> dict[str, Any]:
    """The table of ways."""
    chance = random.Random(options.seed)
    names, rows = read(options.data, options.labels, options.rows, chance)
    task, form = task_of(names, options.instructions), prompts.Form(options.form)
    engine = LlamaCppEngine(fleet, parameters, prompt=form, timeouts=PATIENT)
    server = BareServer(parameters)
    ways = {OURS: ours(engine, task)} | served(server, task, options)
    for way in ways.values():
        await way(rows[:2])
    pids = dict.fromkeys(ways, server.pid) | {OURS: child_of(fleet, parameters, Role.SCORER)}
    chunks: dict[str, list[Spent]] = {name: [] for name in ways}
    size = -(-len(rows) // options.chunks)
    order = list(ways)
    for start in range(0, len(rows), size):
        chance.shuffle(order)
        chunk = rows[start : start + size]
        sample = chunk[: max(1, round(len(chunk) * options.sample))]
        for name in order:
            asked = chunk if name == OURS else sample
            chunks[name].append(await spent(ways[name], pids[name], asked))

    def count(text: str) -> int:
        return server.count(server.render(prompts.messages(task, Text(text), form=form)))

    shared, some = count(""), rows[:100]
    result = {
        "rows": len(rows),
        "labels": len(names),
        "shared_tokens": shared,
        "text_tokens": statistics.mean(count(row.text) for row in some) - shared,
        "likeliest_share": await likeliest_share(engine, task, some),
        "ways": {name: summary(found) for name, found in chunks.items()},
        "ratios": {
            name: ratio(found, chunks[OURS], options)
            for name, found in chunks.items()
            if name != OURS
        },
    }
    server.close()
    await engine.aclose()
    return result


async def likeliest_share(engine: LlamaCppEngine, task: Task, rows: Sequence[Row]) -> float:
    """The likeliest label's share of all labels' probability, on average: how sure the model is."""
    texts = tuple(row.text for row in rows)
    found = (await engine.classify(ClassifyRequest(task=task, texts=texts))).probabilities
    return float((found.max(axis=1) / found.sum(axis=1)).mean())


def child_of(fleet: Fleet, parameters: ModelParameters, role: Role) -> int:
    pid = fleet.supervisor(parameters, role).pid
    return pid if pid is not None else sys.exit(f"the {role.name.lower()} is not running")


def summary(chunks: Sequence[Spent]) -> dict[str, float]:
    """What one way cost, a row."""
    rows = sum(chunk.rows for chunk in chunks)
    return {
        "rows": rows,
        "cpu_ms": 1e3 * sum(chunk.cpu_s for chunk in chunks) / rows,
        "wall_ms": 1e3 * sum(chunk.wall_s for chunk in chunks) / rows,
        "tokens": sum(chunk.tokens for chunk in chunks) / rows,
        "right": sum(chunk.right for chunk in chunks) / rows,
    }


def ratio(
    other: Sequence[Spent], mine: Sequence[Spent], options: argparse.Namespace
) -> dict[str, Any]:
    """How many times our CPU time the other way takes, with a bootstrap interval over the chunks."""
    pairs = [
        (theirs.cpu_s / theirs.rows, own.cpu_s / own.rows)
        for theirs, own in zip(other, mine, strict=True)
    ]
    return interval(pairs, random.Random(options.seed), GOAL)


def interval(
    pairs: Sequence[tuple[float, float]], chance: random.Random, goal: float, draws: int = 2000
) -> dict[str, Any]:
    """Sum of the first over sum of the second, 95 % from resampling the pairs, and whether the goal is reached."""

    def over(drawn: Sequence[tuple[float, float]]) -> float:
        return sum(a for a, _ in drawn) / sum(b for _, b in drawn)

    found = sorted(over(chance.choices(pairs, k=len(pairs))) for _ in range(draws))
    low, high = found[int(draws * 0.025)], found[int(draws * 0.975)]
    gate = "pass" if low >= goal else "fail" if high < goal else "undecided"
    return {"ratio": over(pairs), "low": low, "high": high, "goal": goal, "gate": gate}


async def decoding(
    fleet: Fleet, parameters: ModelParameters, options: argparse.Namespace
) -> dict[str, Any] | None:
    """Tokens per second of the engine and of bare decoding, in turns; None for a model that says little."""
    engine = LlamaCppEngine(fleet, parameters, timeouts=PATIENT)
    decoder = BareDecoder(parameters)
    own, bare = [], []
    for turn in range(options.turns + 1):
        theirs = decoder.decode(PROMPT, options.tokens)
        generated = await generate(engine, fleet, parameters, options.tokens)
        if generated is None:
            break
        if turn:  # the first warms both
            own.append(generated)
            bare.append(theirs)
    decoder.close()
    await engine.aclose()
    if not own:
        return None
    walls = [(b[0], o[0]) for o, b in zip(own, bare, strict=True)]
    cpus = [(b[1], o[1]) for o, b in zip(own, bare, strict=True)]
    chance = random.Random(options.seed)
    return {
        "engine_tokens_per_s": options.tokens / statistics.median(wall for wall, _ in own),
        "bare_tokens_per_s": options.tokens / statistics.median(wall for wall, _ in bare),
        "speed": interval(walls, chance, RAW_GOAL),
        "per_cpu_second": interval(cpus, chance, RAW_GOAL),
    }


async def generate(
    engine: LlamaCppEngine, fleet: Fleet, parameters: ModelParameters, tokens: int
) -> tuple[float, float] | None:
    """Wall and CPU seconds of `tokens` tokens after the first; None where the model ends its answer early.

    The prompt, the connection and the first token are in both of two generations and fall out of their difference.
    """
    clocks = []
    for most in (1, 1, tokens + 1):  # the first has the prompt evaluated
        request = GenerateRequest(messages=(Message("user", "tell me a story"),), max_tokens=most)
        own, wall = time.process_time(), time.perf_counter()
        cpu = cpu_seconds(child_of(fleet, parameters, Role.SERVER)) if clocks else 0.0
        written = (await engine.generate(request)).usage.output_tokens
        wall = time.perf_counter() - wall
        cpu = cpu_seconds(child_of(fleet, parameters, Role.SERVER)) - cpu
        clocks.append((wall, cpu + time.process_time() - own))
        if written != most:
            return None
    return clocks[2][0] - clocks[1][0], clocks[2][1] - clocks[1][1]


async def starting(parameters: ModelParameters, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds from asking for a child to its being ready, by role."""
    found = {}
    for role in Role:
        seconds = []
        for _ in range(options.starts):
            supervisor = Supervisor(parameters, role)
            started = time.perf_counter()
            async with supervisor.lease():
                seconds.append(time.perf_counter() - started)
            await supervisor.aclose()
        found[f"{role.name.lower()}_ready_s"] = statistics.median(seconds)
    return found


def memory(fleet: Fleet, parameters: ModelParameters) -> dict[str, float]:
    """MiB of the children that have answered and wait: all of it, and what no other process shares."""
    found = {}
    for role in Role:
        taken = psutil.Process(child_of(fleet, parameters, role)).memory_full_info()
        found[f"{role.name.lower()}_rss_mib"] = taken.rss / 2**20
        found[f"{role.name.lower()}_private_mib"] = taken.uss / 2**20
    return found


async def measure(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, on one model."""
    parameters = ModelParameters(path=str(path), context=options.context, threads=options.threads)
    fleet = Fleet(idle_s=3600)
    try:
        started = await starting(parameters, options)
        ways = await classification(fleet, parameters, options)
        speed = await decoding(fleet, parameters, options)
        return {
            "model": path.name if options.model else f"random {options.type}",
            "model_mib": os.stat(path).st_size / 2**20,  # noqa: PTH116
            "threads": options.threads,
            "classification": ways,
            "decoding": speed,
            "child": started | memory(fleet, parameters),
        }
    finally:
        await fleet.aclose()


def show(result: dict[str, Any]) -> None:
    table = result["classification"]
    print(f"{result['model']}, {result['model_mib']:.0f} MiB, {result['threads']} thread(s)")
    print(
        f"{table['rows']} texts of {table['text_tokens']:.0f} tokens behind {table['shared_tokens']} shared ones, "
        f"{table['labels']} labels, the likeliest has {table['likeliest_share']:.2f} of their probability"
    )
    print(f"{'':32}{'rows':>6}{'CPU ms':>8}{'wall ms':>9}{'tokens':>8}{'right':>7}   times our CPU")
    for name, way in table["ways"].items():
        times = table["ratios"].get(name)
        shown = f"{times['ratio']:.2f} ({times['low']:.2f}–{times['high']:.2f})" if times else ""
        print(
            f"{name:32}{way['rows']:6}{way['cpu_ms']:8.1f}{way['wall_ms']:9.1f}{way['tokens']:8.1f}"
            f"{way['right']:7.3f}   {shown}"
        )
    if speed := result["decoding"]:
        print(
            f"decoding: {speed['engine_tokens_per_s']:.1f} tokens/s, bare {speed['bare_tokens_per_s']:.1f}"
        )
        for name in ("speed", "per_cpu_second"):
            found = speed[name]
            print(
                f"  {name}: {found['ratio']:.3f} ({found['low']:.3f}–{found['high']:.3f}) of bare decoding, "
                f"goal {found['goal']}: {found['gate']}"
            )
    for name, value in result["child"].items():
        print(f"{name:24}{value:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of test.csv, text and category"
    )
    parser.add_argument("--model", help="a GGUF file, or `starter`; default a random model")
    parser.add_argument(
        "--form", default="bare", choices=["bare", "short"], help="how prompts are written"
    )
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument(
        "--sample", type=float, default=0.2, help="share of the rows that the server is asked too"
    )
    parser.add_argument(
        "--labels", type=int, default=27, help="labels in use, drawn by the seed; 0 for all"
    )
    parser.add_argument("--instructions", default=INSTRUCTIONS)
    parser.add_argument("--chunks", type=int, default=10, help="turns that the rows are split into")
    parser.add_argument("--tokens", type=int, default=64, help="tokens decoded in a turn")
    parser.add_argument("--turns", type=int, default=15, help="of decoding")
    parser.add_argument("--starts", type=int, default=5, help="of each child")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--vocabulary", type=Path, help="GGUF that lends the random model its tokenizer"
    )
    parser.add_argument(
        "--type", default="Q4_K_M", choices=[kind.name for kind in FileType] + ["F16"]
    )
    parser.add_argument(
        "--dim", type=int, default=1536, help="of the random model, a multiple of 256"
    )
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument(
        "--sharpness", type=float, default=16.0, help="deviation of the random model's logits"
    )
    parser.add_argument("--inner", type=int, default=4096, help="a multiple of 256")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            path = model_path() if options.model == "starter" else Path(options.model)
        else:
            vocabulary = options.vocabulary or model_path()
            size = Size(
                options.dim,
                options.inner,
                options.layers,
                options.sharpness,
                options.type,
                options.seed,
            )
            path = write_random_model(Path(folder) / "random.gguf", vocabulary, size)
        result = asyncio.run(measure(path, options))
    show(result)
    print(json.dumps({"format": 1, "bench": "engine", "seed": options.seed, **result}))


if __name__ == "__main__":
    main()
