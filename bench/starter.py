"""What the built-in starter model scores on held rows, asked through the product's own engine.

Labels are scored in the engine's micro-batches; fields are generated one row after another, held to a schema of the
data set's own slots (of SNIPS: of the row's intent). Rows that the model was trained on and further rows of one text
are left out and counted; a row whose request failed is wrong. Rates have exact 95 % intervals, F1 one from resampling
the rows. CPU time is of this process and all it started. Prints a table, then one JSON line.

    python bench/starter.py --data ../shared/data
    python bench/starter.py --data ../shared/data --model starter-q8_0.gguf --rows 200
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from rung.blocking import run_blocking
from rung.engines.protocol import ClassifyRequest, Engine, Finish, GenerateRequest
from rung.errors import EngineError
from rung.project import Project
from rung.prompts import Form, messages
from rung.starter import training_digests
from rung.task import Kind, Label, Task, Text
from rung.text import text_digest
from rung.trust.bounds import interval

Counts = NDArray[np.int64]

BOOKING = ("people", "date", "time", "first_name", "last_name")
RATES = {"whole records": 0, "parses": 4, "keeps schema": 5, "cut off": 6}
"""Columns of what is counted of a row: exact; values hit, given, wanted; parses; keeps its schema; cut off; failed."""

SETTINGS = """format = 1
[rungs.starter]
engine = "llama_cpp"
model = {model}
prompt = "short"
load = {{ threads = {threads} }}
[ladders]
default = ["starter"]
"""


class Row(NamedTuple):
    """A text, the task that asks about it, and what is right: the fields that occur, or "label"."""

    task: str
    text: str
    right: dict[str, str]


class Held(NamedTuple):
    """One held set: its rows, the tasks that they name, and what it should reach."""

    name: str
    rows: list[Row]
    tasks: dict[str, Task]
    targets: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the four data sets")
    parser.add_argument("--model", default="starter", help="a GGUF file, or `starter`")
    parser.add_argument("--rows", type=int, help="at most so many of each set, drawn by the seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.model != "starter":
        options.model = str(Path(options.model).resolve())
    print(f"{'':18}{'rows':>6}  {'':14}{'score':>7}{'95 % interval':>18}{'target':>8}")
    sets = []
    for reader in (banking77, clinc150, snips, restaurant8k):
        try:
            for held in list(reader(options.data / reader.__name__)):
                sets.append(run_blocking(measure(held, options)))
                show(sets[-1])
        except FileNotFoundError as missing:
            print(f"{reader.__name__}: skipped, there is no {missing.filename}")
    known = {"model": Path(options.model).name, "threads": options.threads, "seed": options.seed}
    print(json.dumps({"format": 1, "bench": "starter", **known, "sets": sets}))


def banking77(folder: Path) -> Iterator[Held]:
    with (folder / "test.csv").open(encoding="utf-8", newline="") as file:
        pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    yield labelled("BANKING77 test", "banking77", pairs, 0.87)


def clinc150(folder: Path) -> Iterator[Held]:
    with gzip.open(folder / "train_val.json.gz", "rt", encoding="utf-8") as file:
        pairs = json.load(file)["val"]
    yield labelled("CLINC150 val", "clinc150", pairs, 0.90)


def labelled(name: str, task: str, pairs: Sequence[tuple[str, str]], target: float) -> Held:
    labels = tuple(Label(label) for label in sorted({label for _, label in pairs}))
    rows = [Row(task, text, {"label": label}) for text, label in pairs]
    tasks = {task: Task(name=task, kind=Kind.CLASSIFY, labels=labels)}
    return Held(name, rows, tasks, {"accuracy": target})


def snips(folder: Path) -> Iterator[Held]:
    """Both held files; an intent's fields are those that its training rows have."""
    fields: dict[str, set[str]] = {}
    for row in bio(folder / "bio" / "train"):
        fields.setdefault(row.task, set()).update(row.right)
    tasks = {intent: extract(intent, sorted(names)) for intent, names in fields.items()}
    for part in ("valid", "test"):
        rows = list(bio(folder / "bio" / part))
        yield Held(f"SNIPS {part}", rows, tasks, {"slot F1": 0.85, "keeps schema": 1.0})


def extract(name: str, fields: Sequence[str]) -> Task:
    """A task whose fields are all text, none required, and no others allowed."""
    properties = {field: {"type": "string"} for field in fields}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return Task(name=name, kind=Kind.EXTRACT, schema=json.dumps(schema), max_output_tokens=200)


def bio(folder: Path) -> Iterator[Row]:
    """Rows of one folder of BIO tags; of a slot that comes twice the first value."""
    names = ("seq.in", "seq.out", "label")
    lines = [(folder / name).read_text(encoding="utf-8").splitlines() for name in names]
    for words, tags, intent in zip(*lines, strict=True):
        spans: list[tuple[str, str]] = []
        for word, tag in zip(words.split(), tags.split(), strict=True):
            if tag.startswith("I-") and spans and spans[-1][0] == tag[2:]:
                spans[-1] = tag[2:], f"{spans[-1][1]} {word}"
            else:
                spans.append((tag[2:], word))
        values = {slot: value for slot, value in reversed(spans) if slot}
        yield Row(intent.strip(), " ".join(words.split()), values)


def restaurant8k(folder: Path) -> Iterator[Held]:
    with gzip.open(folder / "test.json.gz", "rt", encoding="utf-8") as file:
        rows = [booking(example) for example in json.load(file)]
    yield Held("Restaurant8k test", rows, {"booking": extract("booking", BOOKING)}, {})


def booking(example: dict[str, Any]) -> Row:
    """One message, led by what the assistant had asked for; of two spans that overlap the first."""
    text, done, values = example["userInput"]["text"], 0, dict[str, str]()
    asked = ", ".join(example.get("context", {}).get("requestedSlots", ()))
    spans = [
        ({"startIndex": 0} | each["valueSpan"], each["slot"]) for each in example.get("labels", ())
    ]
    for first, end, slot in sorted((at["startIndex"], at["endIndex"], slot) for at, slot in spans):
        value = text[first:end].rstrip()
        start = first + len(value) - len(value.lstrip())
        if start >= done and value:
            values.setdefault(slot, value.lstrip())
            done = start + len(value.lstrip())
    return Row("booking", f"[asked for: {asked}] {text}" if asked else text, values)


async def measure(held: Held, options: argparse.Namespace) -> dict[str, Any]:
    """What a project's engine makes of one set; the model is loaded before the clocks start."""
    rows, sizes = unread(held.rows)
    dice = np.random.default_rng(options.seed)
    rows = [rows[index] for index in np.sort(dice.permutation(len(rows))[: options.rows])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rung.toml"
        path.write_text(SETTINGS.format(model=json.dumps(options.model), threads=options.threads))
        project = Project.open(path)
        try:
            await ask(project, held, rows[:1])
            cpu, wall = cpu_seconds(), time.perf_counter()
            seen = await ask(project, held, rows)
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        finally:
            await project.aclose()
    figures = {"accuracy": rate(seen[:, 0])}
    if "accuracy" not in held.targets:
        rates = {name: rate(seen[:, column]) for name, column in RATES.items()}
        figures = {"slot F1": f1(seen[:, 1:4], dice)} | rates
    for name, target in held.targets.items():
        gate = "reached" if figures[name]["value"] >= target else "missed"
        figures[name] |= {"target": target, "gate": gate}
    sizes |= {"rows": len(rows), "failed": int(seen[:, 7].sum())}
    spent = {"wall_ms": 1e3 * wall / len(rows), "cpu_ms": 1e3 * cpu / len(rows)}
    return {"set": held.name, **sizes, **spent, "figures": figures}


def unread(rows: Sequence[Row]) -> tuple[list[Row], dict[str, int]]:
    """The rows that the model was not trained on, the first of each text; how many are left out and why."""
    trained, once = set(training_digests().tolist()), dict[int, Row]()
    fresh = [row for row in rows if text_digest(row.text) not in trained]
    for row in fresh:
        once.setdefault(text_digest(row.text), row)
    left_out = {"trained_on": len(rows) - len(fresh), "repeated": len(fresh) - len(once)}
    return list(once.values()), left_out


async def ask(project: Project, held: Held, rows: Sequence[Row]) -> Counts:
    """(rows, 8) as `RATES` tells; of labels only whether each is right and whether it failed."""
    task = held.tasks[rows[0].task]
    engine = project.rung("starter", task).engine
    if task.kind is Kind.EXTRACT:
        return np.array([await record(engine, held.tasks[row.task], row) for row in rows])
    seen = np.zeros((len(rows), 8), dtype=np.int64)
    for first in range(0, len(rows), engine.batch):
        texts = tuple(row.text for row in rows[first : first + engine.batch])
        found = await engine.classify(ClassifyRequest(task=task, texts=texts))
        for index, chosen in enumerate(found.chosen, first):
            seen[index, 0] = chosen >= 0 and task.label_names[chosen] == rows[index].right["label"]
            seen[index, 7] = index - first in found.failures
    return seen


async def record(engine: Engine, task: Task, row: Row) -> tuple[int, ...]:
    """One row's fields beside those that are right; of an answer that breaks the schema none count."""
    wanted, prompt = row.right.items(), messages(task, Text(row.text), form=Form.SHORT)
    request = GenerateRequest(
        messages=prompt, max_tokens=task.max_output_tokens, schema=task.schema
    )
    try:
        answer = await engine.generate(request)
    except EngineError as error:
        print(f"{task.name}: {error}", file=sys.stderr)
        return 0, 0, 0, len(wanted), 0, 0, 0, 1
    parses, value = False, None
    with contextlib.suppress(ValueError):
        value, parses = json.loads(answer.text), True
    valid = parses and task.contract.violation(value) is None
    given = value.items() if valid and isinstance(value, dict) else set()
    exact, cut = valid and given == wanted, answer.finish is Finish.LENGTH
    return exact, len(given & wanted), len(given), len(wanted), parses, valid, cut, False


def rate(flags: Counts) -> dict[str, Any]:
    low, high = interval(flags.sum(), len(flags))
    return {"value": float(flags.mean()), "low": float(low), "high": float(high)}


def f1(counts: Counts, dice: np.random.Generator) -> dict[str, Any]:
    """Micro F1 of (rows, 3) hit, given and wanted."""
    drawn = dice.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=2_000)
    hits, given, wanted = np.vstack([counts.sum(axis=0), drawn @ counts]).T
    found = 2 * hits / np.maximum(1, given + wanted)
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return {"value": float(found[0]), "low": float(low), "high": float(high)}


def cpu_seconds() -> float:
    """Of this process and of all it started, those that have ended included."""
    own, total = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def show(result: dict[str, Any]) -> None:
    for name, each in result["figures"].items():
        within = f"{each['low']:.4f}-{each['high']:.4f}"
        goal = f"{each['target']:>8.2f}  {each['gate']}" if "gate" in each else ""
        start = f"{result['set']:18}{result['rows']:>6}  {name:14}"
        print(f"{start}{each['value']:7.4f}{within:>18}{goal}")
    spent = "{wall_ms:.1f} ms and {cpu_ms:.1f} CPU ms a row".format_map(result)
    left_out = "{trained_on} trained on, {repeated} repeated; {failed} failed".format_map(result)
    print(f"{'':18}{spent}; left out: {left_out}", flush=True)


if __name__ == "__main__":
    main()
