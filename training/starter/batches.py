"""Turns rows into training batches: what is varied (names, field lists, values, case, tokens) and how rows are grouped.

Every random choice of batch n follows from (seed, n), so a run that resumes sees what an unbroken run would have seen.
"""

# ruff: noqa: S311 -- these dice vary training data
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from bpe import Vocabulary
from numpy.typing import NDArray
from prompts import END, PAD, classify_system, extract_answer, extract_system, rendered
from sources import RESTAURANT_SLOTS, Row, Segment

TASK_NAMES = {
    "banking77": ("banking77", "triage", "support", "intent", "banking", "bank", "question"),
    "clinc150": ("clinc150", "assistant", "intent", "triage", "command", "request"),
    "snips": ("snips", "intent", "command", "domain", "action"),
}
"""Names a user may give the task; "task" stands in for any."""

LABEL_TOKENS, FIELD_TOKENS = 600, 1_500
"""Padded tokens in one process's batch of each kind."""

CLASSIFY_ROWS = {"banking77": 9_000, "clinc150": 14_384, "snips": 3_000}
EXTRACT_ROWS = {"snips": 12_337, "restaurant8k": 6_000, "nlupp": 1_496}
"""Rows an epoch takes of each data set; more than there are means that some come twice."""

COPY_ROWS = 1_000
"""Rows an epoch takes of random words that are to be repeated: without them copying is learnt too late."""

NOISE, LM_SHARE = 0.10, 0.12


class Sample(NamedTuple):
    """One prompt and answer as token ids; `user` is where the user's text begins and ends."""

    ids: list[int]
    answer: int
    user: tuple[int, int]
    dataset: str
    extract: bool


class Batch(NamedTuple):
    """What one half step needs.

    `ids` is (rows, time). `at` are flat positions into it whose next token is `target`; the first `answers` of them are
    answers, the rest language modelling. `group` is the data set of each answer's label, or -1.
    """

    ids: NDArray[np.int64]
    at: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float32]
    group: NDArray[np.int64]
    answers: int


def schemas(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Each extract task's fields in schema order."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row.dataset in EXTRACT_ROWS:
            found.setdefault(row.task, set()).update(row.expected)
    fields = {task: tuple(sorted(names)) for task, names in found.items()}
    return {**fields, "restaurant8k": RESTAURANT_SLOTS}


class Corpus:
    """The training rows with everything needed to vary them."""

    def __init__(self, rows: Sequence[Row], vocabulary: Vocabulary) -> None:
        self.rows = rows
        self.tokenizer = vocabulary.tokenizer()
        self.schemas = schemas(rows)
        self.labels = [
            sorted({row.label for row in rows if row.dataset == name and row.label})
            for name in TASK_NAMES
        ]
        self.label_ids = [
            np.array([self._id(label) for label in labels], dtype=np.int64)
            for labels in self.labels
        ]
        self.user, self.assistant = self._id("<|user|>"), self._id("<|assistant|>")
        self.end, self.pad = self._id(END), self._id(PAD)
        self.values = self._values()
        self.words = [word for row in rows for word in row.input.split()]
        self.rare_words = sorted(set(self.words))
        texts = self.tokenizer.encode_batch([row.input for row in rows])
        self.frequent = np.array([index for text in texts for index in text.ids], dtype=np.int64)

    def _id(self, token: str) -> int:
        ids = self.tokenizer.encode(token, add_special_tokens=False).ids
        if len(ids) != 1:
            raise ValueError(f"{token!r} is {len(ids)} tokens, not one")
        return int(ids[0])

    def _values(self) -> dict[tuple[str, str], list[str]]:
        values: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            for segment in row.segments:
                if segment.slot is not None:
                    values.setdefault((row.task, segment.slot), []).append(segment.text)
        return values

    def encode(
        self, prompts: Sequence[tuple[str, str]], datasets: Sequence[str], *, extract: bool
    ) -> list[Sample]:
        """Samples of (prompt, answer) pairs, each answer closed with the end token."""
        encodings = self.tokenizer.encode_batch(
            [prompt + answer + END for prompt, answer in prompts], add_special_tokens=False
        )
        samples = []
        for encoding, dataset in zip(encodings, datasets, strict=True):
            ids = encoding.ids
            start, stop = ids.index(self.user) + 1, ids.index(self.assistant)
            samples.append(Sample(ids, stop + 1, (start, stop), dataset, extract))
        return samples


def classify_prompt(row: Row, dice: random.Random | None) -> tuple[str, str]:
    """Prompt and label; with `dice` the task's name and the text's case vary."""
    name, segments = row.dataset, row.segments
    if dice is not None:
        name = "task" if dice.random() < 0.15 else dice.choice(TASK_NAMES[row.dataset])
        segments = vary_case(segments, dice)
    text = "".join(segment.text for segment in segments)
    return rendered(classify_system(name), text), row.label or ""


def extract_prompt(row: Row, corpus: Corpus, dice: random.Random | None) -> tuple[str, str]:
    """Prompt and JSON; with `dice` the field list, the values and the case vary."""
    fields, segments = corpus.schemas[row.task], row.segments
    if dice is not None:
        fields = vary_fields(fields, dice)
        segments = vary_case(vary_values(row, corpus, dice), dice)
    varied = row._replace(segments=segments)
    return (
        rendered(extract_system(fields), varied.input),
        extract_answer(varied.expected, fields),
    )


def copy_prompt(corpus: Corpus, dice: random.Random) -> tuple[str, str]:
    """Words drawn alike, rare ones as often as frequent ones, all of them the value of one field."""
    words = dice.choices(corpus.rare_words, k=dice.randint(3, 14))
    text = " ".join(words)
    return rendered(extract_system(("text",)), text), extract_answer({"text": text}, ("text",))


def vary_fields(fields: tuple[str, ...], dice: random.Random) -> tuple[str, ...]:
    """The full list, a part of it, or the full list in another order."""
    luck = dice.random()
    if luck < 0.5 or len(fields) < 2:
        return fields
    if luck < 0.85:
        kept = set(dice.sample(fields, dice.randint(1, min(6, len(fields)))))
        return tuple(field for field in fields if field in kept)
    return tuple(dice.sample(fields, len(fields)))


def vary_values(row: Row, corpus: Corpus, dice: random.Random) -> tuple[Segment, ...]:
    """Half of the rows get other values: the field's value of another row, or words of any row."""
    if dice.random() < 0.5:
        return row.segments
    return tuple(
        segment
        if segment.slot is None or dice.random() < 0.4
        else Segment(other_value(row.task, segment.slot, corpus, dice), segment.slot)
        for segment in row.segments
    )


def other_value(task: str, slot: str, corpus: Corpus, dice: random.Random) -> str:
    """A value the field could have, or two thirds as often a few words that it could not."""
    if dice.random() < 0.6:
        return dice.choice(corpus.values[task, slot])
    return " ".join(dice.choices(corpus.words, k=dice.choice((1, 1, 2, 2, 3))))


def vary_case(segments: tuple[Segment, ...], dice: random.Random) -> tuple[Segment, ...]:
    """Sometimes all small letters, rarely all capitals or every word with a capital."""
    luck = dice.random()
    change = (
        str.lower
        if luck < 0.10
        else str.upper
        if luck < 0.12
        else str.title
        if luck < 0.15
        else None
    )
    if change is None:
        return segments
    return tuple(Segment(change(segment.text), segment.slot) for segment in segments)


def half_steps(
    corpus: Corpus, rows: dict[str, list[Row]], sizes: dict[str, int], seed: int, *, extract: bool
) -> Iterator[list[Sample]]:
    """Endless batches of one kind, epoch after epoch; rows of similar length share a batch.

    What varies is fixed by the seed and the epoch.
    """
    budget = FIELD_TOKENS if extract else LABEL_TOKENS
    epoch = 0
    while True:
        dice = random.Random(f"{seed}/{extract}/{epoch}")
        chosen = [row for name, size in sizes.items() for row in take(rows[name], size, dice)]
        prompts = [
            extract_prompt(row, corpus, dice) if extract else classify_prompt(row, dice)
            for row in chosen
        ]
        datasets = [row.dataset for row in chosen]
        if extract:
            prompts += [copy_prompt(corpus, dice) for _ in range(COPY_ROWS)]
            datasets += ["copy"] * COPY_ROWS
        samples = corpus.encode(prompts, datasets, extract=extract)
        groups = grouped(samples, budget, dice)
        dice.shuffle(groups)
        yield from groups
        epoch += 1


def take(rows: list[Row], size: int, dice: random.Random) -> list[Row]:
    """`size` rows: every row as often as it fits, the rest drawn."""
    whole, rest = divmod(size, len(rows))
    return rows * whole + dice.sample(rows, rest)


def grouped(samples: list[Sample], budget: int, dice: random.Random) -> list[list[Sample]]:
    """Groups of at most `budget` padded tokens, of similar length."""
    order = sorted(samples, key=lambda sample: len(sample.ids) + 3 * dice.random())
    groups: list[list[Sample]] = [[]]
    longest = 0
    for sample in order:
        longest = max(longest, len(sample.ids))
        if longest * (len(groups[-1]) + 1) > budget:
            groups.append([])
            longest = len(sample.ids)
        groups[-1].append(sample)
    return groups


def batch_of(samples: Sequence[Sample], corpus: Corpus, noise: np.random.Generator | None) -> Batch:
    """Arrays of one batch; with `noise` tokens are replaced and language modelling is added."""
    extract = samples[0].extract
    time = max(len(sample.ids) for sample in samples) - 1
    ids = np.full((len(samples), time), corpus.pad, dtype=np.int64)
    at, target, weight, group = [], [], [], []
    lm_at, lm_target = [], []
    names = list(TASK_NAMES)
    for index, sample in enumerate(samples):
        row = sample.ids
        ids[index, : len(row) - 1] = row[:-1]
        for position in range(sample.answer - 1, len(row) - 1):
            at.append(index * time + position)
            target.append(row[position + 1])
            is_label = not extract and position == sample.answer - 1
            weight.append(1.0 if extract or is_label else 0.05)
            group.append(names.index(sample.dataset) if is_label else -1)
        if noise is not None:
            for position in range(sample.user[0] - 1, sample.user[1] - 1):
                lm_at.append(index * time + position)
                lm_target.append(row[position + 1])
            if not extract:
                disturb(ids[index, sample.user[0] : sample.user[1]], corpus, noise)
    answers = len(at)
    if noise is not None and lm_at:
        kept = np.flatnonzero(noise.random(len(lm_at)) < LM_SHARE)
        at += [lm_at[position] for position in kept]
        target += [lm_target[position] for position in kept]
    return Batch(
        ids,
        np.array(at, dtype=np.int64),
        np.array(target, dtype=np.int64),
        np.array(weight, dtype=np.float32),
        np.array(group, dtype=np.int64),
        answers,
    )


def disturb(ids: NDArray[np.int64], corpus: Corpus, noise: np.random.Generator) -> None:
    """Replace some tokens, in place, by tokens drawn by their frequency."""
    hit = np.flatnonzero(noise.random(len(ids)) < NOISE)
    ids[hit] = noise.choice(corpus.frequent, len(hit))
