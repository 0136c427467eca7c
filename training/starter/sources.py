"""Reads the five public data sets into one kind of row; knows their file formats and nothing about splits or training.

A row's `input` is what a user of the task would send, character for character.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESTAURANT_SLOTS = ("people", "date", "time", "first_name", "last_name")
"""Restaurant8k's slots in the order the booking task's schema has them."""


class Segment(NamedTuple):
    """A stretch of the input; `slot` names the field it is the value of, or is None."""

    text: str
    slot: str | None = None


class Row(NamedTuple):
    """One example: the input in segments and what is known about it.

    `task` names the schema that `fields` come from; `label` is None where the data set has no classes.
    """

    dataset: str
    file: str
    number: int
    task: str
    segments: tuple[Segment, ...]
    label: str | None = None

    @property
    def input(self) -> str:
        """The text of the user turn."""
        return "".join(segment.text for segment in self.segments)

    @property
    def expected(self) -> dict[str, str]:
        """Every slot's value, in the order of appearance; the first one where a slot is repeated."""
        values: dict[str, str] = {}
        for segment in self.segments:
            if segment.slot is not None:
                values.setdefault(segment.slot, segment.text)
        return values


def banking77(data: Path, file: str) -> Iterator[Row]:
    """Rows of BANKING77's `train.csv` or `test.csv`."""
    with (data / "banking77" / file).open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines)):
            yield Row(
                "banking77", file, number, "banking77", (Segment(row["text"]),), row["category"]
            )


def clinc150(data: Path, file: str) -> Iterator[Row]:
    """Rows of one list (`train`, `val`, `oos_train`, `oos_val`) of CLINC150."""
    with gzip.open(data / "clinc150" / "train_val.json.gz", "rt", encoding="utf-8") as lines:
        lists = json.load(lines)
    for number, (text, label) in enumerate(lists[file]):
        yield Row("clinc150", file, number, "clinc150", (Segment(text),), label)


def snips(data: Path, file: str) -> Iterator[Row]:
    """Rows of SNIPS in BIO form: `train`, `valid` or `test`; the task is the row's intent."""
    folder = data / "snips" / "bio" / file
    parts = [
        (folder / name).read_text(encoding="utf-8").splitlines()
        for name in ("seq.in", "seq.out", "label")
    ]
    for number, (words, tags, intent) in enumerate(zip(*parts, strict=True)):
        segments = _from_bio(words.split(), tags.split())
        yield Row("snips", file, number, intent.strip(), segments, intent.strip())


def restaurant8k(data: Path, file: str) -> Iterator[Row]:
    """Rows of Restaurant8k's `train_0.json.gz` or `test.json.gz`; what was asked for leads the input."""
    with gzip.open(data / "restaurant8k" / file, "rt", encoding="utf-8") as lines:
        examples = json.load(lines)
    for number, example in enumerate(examples):
        yield Row("restaurant8k", file, number, "restaurant8k", restaurant_segments(example))


def restaurant_segments(example: dict[str, Any]) -> tuple[Segment, ...]:
    """The input of one Restaurant8k example; `Any` because it is the file's own JSON."""
    text = example["userInput"]["text"]
    spans = [
        (label["valueSpan"].get("startIndex", 0), label["valueSpan"]["endIndex"], label["slot"])
        for label in example.get("labels", ())
    ]
    asked = example.get("context", {}).get("requestedSlots", ())
    lead = (Segment(f"[asked for: {', '.join(asked)}] "),) if asked else ()
    return lead + _from_spans(text, spans)


def nlupp(data: Path, file: str) -> Iterator[Row]:
    """Rows of one fold file of NLU++ banking."""
    examples = json.loads((data / "nlupp" / "banking" / file).read_text(encoding="utf-8"))
    for number, example in enumerate(examples):
        spans = [(*value["span"], slot) for slot, value in example.get("slots", {}).items()]
        yield Row("nlupp", file, number, "nlupp", _from_spans(example["text"], spans))


READERS: dict[str, tuple[Callable[[Path, str], Iterator[Row]], tuple[str, ...]]] = {
    "banking77": (banking77, ("train.csv", "test.csv")),
    "clinc150": (clinc150, ("train", "val", "oos_train", "oos_val")),
    "snips": (snips, ("train", "valid", "test")),
    "restaurant8k": (restaurant8k, ("train_0.json.gz", "test.json.gz")),
    "nlupp": (nlupp, tuple(f"fold{number}.json" for number in range(20))),
}
"""Every data set: its reader and its files, in the order that decides which of two equal inputs stays."""


def read_all(data: Path) -> list[Row]:
    """Every row of every data set, in `READERS`' order."""
    return [
        row for reader, files in READERS.values() for file in files for row in reader(data, file)
    ]


def _from_bio(words: Sequence[str], tags: Sequence[str]) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for word, tag in zip(words, tags, strict=True):
        slot = None if tag == "O" else tag[2:]
        last = segments[-1] if segments else None
        if last is not None and last.slot == slot and (slot is None or tag.startswith("I-")):
            segments[-1] = Segment(f"{last.text} {word}", slot)
        elif last is None:
            segments.append(Segment(word, slot))
        elif last.slot is None:
            segments[-1] = Segment(f"{last.text} ")
            segments.append(Segment(word, slot))
        elif slot is None:
            segments.append(Segment(f" {word}"))
        else:
            segments += [Segment(" "), Segment(word, slot)]
    return tuple(segments)


def _from_spans(text: str, spans: Sequence[tuple[int, int, str]]) -> tuple[Segment, ...]:
    """Segments of `text`; of two spans that overlap the first stays, and white space at a span's edge goes."""
    segments: list[Segment] = []
    done = 0
    for start, end, slot in sorted(spans):
        value = text[start:end]
        first = start + len(value) - len(value.lstrip())
        last = first + len(value.strip())
        if first < done or first == last:
            continue
        segments += [Segment(text[done:first]), Segment(text[first:last], slot)]
        done = last
    segments.append(Segment(text[done:]))
    return tuple(segment for segment in segments if segment.text)
