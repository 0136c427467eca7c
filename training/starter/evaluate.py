"""Asks a starter GGUF, through the engine's own wheel, about the held rows; prints one JSON line last.

    python training/starter/evaluate.py --data ../shared/data --model MODEL.gguf

Labels are scored by the log-probabilities of the first token, restricted to the task's labels; fields are decoded at
temperature 0 under the task's JSON Schema. Set GOMP_SPINCOUNT=0 on a machine that others use.
"""

# ruff: noqa: T201 -- a command line
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from batches import schemas
from prompts import classify_system, extract_system, rendered
from sources import Row, read_all
from splits import rows_in, splits_of

LABEL_SETS = (("banking77", "test.csv"), ("clinc150", "val"), ("snips", "valid"), ("snips", "test"))
FIELD_SETS = (
    ("snips", "valid"),
    ("snips", "test"),
    ("restaurant8k", "test.json.gz"),
    ("nlupp", None),
)


class Fields(NamedTuple):
    """What came of one set of extractions."""

    rows: int
    slot_f1: float
    exact: float
    schema_valid: float
    seconds: float


class Engine:
    """A GGUF loaded in this process."""

    def __init__(self, model: Path) -> None:
        import xllamacpp  # noqa: PLC0415 -- a hundred megabytes, wanted only here

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx, params.n_parallel, params.cache_ram_mib = 512, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.hostnames = ["127.0.0.1"]
        self.server = xllamacpp.Server(params)
        self.address: str = self.server.listening_address

    def complete(self, prompt: str, **options: Any) -> dict[str, Any]:  # Any: the engine's JSON
        """One completion at temperature 0."""
        request = {"prompt": prompt, "temperature": 0.0, "cache_prompt": True, **options}
        answer: dict[str, Any] = self.server.handle_completions(request)
        if "choices" not in answer:
            raise RuntimeError(f"the engine refused {prompt[:80]!r}: {answer}")
        return answer["choices"][0]  # type: ignore[no-any-return]

    def label(self, task: str, text: str, labels: frozenset[str]) -> str:
        """The most probable label."""
        prompt = rendered(classify_system(task), text)
        for depth in (
            10,
            400,
        ):  # the first label found is the most probable one, however deep one looks
            choice = self.complete(prompt, max_tokens=1, logprobs=depth)
            best = choice["logprobs"]["content"][0]["top_logprobs"]
            found = next((each["token"] for each in best if each["token"] in labels), None)
            if found is not None:
                return str(found)
        return ""

    def fields(self, names: Sequence[str], text: str) -> str:
        """The JSON that the schema of these fields lets the model write."""
        grammar = f"%llguidance {{}}\nstart: %json {json.dumps(schema_of(names))}"
        prompt = rendered(extract_system(names), text)
        answer: str = self.complete(prompt, max_tokens=200, grammar=grammar)["text"]
        return answer


def schema_of(names: Sequence[str]) -> dict[str, Any]:  # Any: a JSON Schema
    """An object of these fields, all text, none required, nothing else, without white space."""
    return {
        "x-guidance": {"whitespace_flexible": False},
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "additionalProperties": False,
    }


def label_accuracy(engine: Engine, rows: Sequence[Row]) -> float:
    """Share of rows whose label comes first."""
    labels = frozenset(row.label for row in rows if row.label)
    right = sum(engine.label(row.dataset, row.input, labels) == row.label for row in rows)
    return right / len(rows)


def field_scores(
    engine: Engine, rows: Sequence[Row], fields: Mapping[str, Sequence[str]]
) -> Fields:
    """Micro F1 over (field, value), records that match exactly, and answers that fit the schema."""
    began = time.monotonic()
    hits = given = wanted = exact = valid = 0
    for row in sorted(rows, key=lambda row: row.task):
        names = fields[row.task]
        expected = {name: value for name, value in row.expected.items() if name in names}
        answer = parsed(engine.fields(names, row.input), names)
        valid += answer is not None
        got = answer or {}
        hits += len(got.items() & expected.items())
        given += len(got)
        wanted += len(row.expected)
        exact += answer is not None and got == row.expected
    total = len(rows)
    seconds = time.monotonic() - began
    return Fields(total, 2 * hits / max(1, given + wanted), exact / total, valid / total, seconds)


def parsed(answer: str, names: Sequence[str]) -> dict[str, str] | None:
    """The answer's fields, or None when it is not JSON of the schema."""
    try:
        values = json.loads(answer)
    except ValueError:
        return None
    fits = isinstance(values, dict) and all(
        name in names and isinstance(value, str) for name, value in values.items()
    )
    return values if fits else None


def held(rows: Sequence[Row], test: Sequence[Row], dataset: str, file: str | None) -> list[Row]:
    """The test rows of one file, or of all files of a data set."""
    return [row for row in test if row.dataset == dataset and file in (None, row.file)]


def evaluate(data: Path, model: Path, limit: int | None = None) -> dict[str, Any]:  # Any: JSON
    """Every figure of the model card; `limit` takes only the first rows of each set."""
    rows = read_all(data)
    splits = splits_of(rows)
    test, known = rows_in(rows, splits, "test"), schemas(rows_in(rows, splits, "train"))
    engine = Engine(model)
    figures: dict[str, Any] = {"model": model.name, "bytes": model.stat().st_size}
    for dataset, file in LABEL_SETS:
        chosen = [
            row
            for row in held(rows, test, dataset, file)[:limit]
            if row.label is not None and row.label != "oos"
        ]
        figures[f"{dataset} {file} accuracy"] = round(label_accuracy(engine, chosen), 4)
        print(dataset, file, len(chosen), figures[f"{dataset} {file} accuracy"], flush=True)
    for dataset, file in FIELD_SETS:
        scores = field_scores(engine, held(rows, test, dataset, file)[:limit], known)
        name = f"{dataset} {file}" if file else dataset
        figures[f"{name} fields"] = {
            key: round(value, 4) for key, value in scores._asdict().items()
        }
        print(name, figures[f"{name} fields"], flush=True)
    return figures


def main() -> None:
    """Print the figures of one model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only the first rows of each set")
    options = parser.parse_args()
    print(json.dumps(evaluate(options.data, options.model, options.limit)))


if __name__ == "__main__":
    main()
