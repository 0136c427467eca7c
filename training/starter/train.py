"""Trains the decoder: the loss, the schedule, the running average of the weights, and checkpoints that resume.

Two processes of one thread each share the weights; each works on a batch of labels and one of fields, then each moves
the half of the weights that it owns. The run is bounded by time, not by steps: the learning rate follows the share of
`minutes` that has passed, so that a slow machine trains less rather than longer.
"""

# ruff: noqa: T201 -- the log of a run
from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as processes
from batches import (
    CLASSIFY_ROWS,
    EXTRACT_ROWS,
    TASK_NAMES,
    Batch,
    Corpus,
    Sample,
    batch_of,
    classify_prompt,
    extract_prompt,
    half_steps,
)
from bpe import Vocabulary, spaced_bases
from muon import Part, muon_step, parts_of
from network import Decoder, Shape
from sources import Row
from torch import Tensor

LABEL_SMOOTHING, LM_WEIGHT = 0.08, 0.15
PROCESSES = 2


@dataclass(frozen=True)
class Run:
    """Where the run lives, how long it may take and how fast it learns."""

    out: Path
    minutes: float
    rate: float = 3e-3
    embedding_rate: float = 2e-3
    decay: float = 0.1
    dropout: float = 0.1
    warmup: int = 60
    average: float = 0.995
    seed: int = 7
    look_every: float = 240.0
    layers: int = 4


class Shared:
    """What the processes have in common: the model, its average, a gradient each, and the clock."""

    def __init__(self, run: Run, vocabulary: Vocabulary) -> None:
        torch.manual_seed(run.seed)
        shape = Shape(vocab=len(vocabulary.tokens()), layers=run.layers)
        bases = spaced_bases(vocabulary)
        self.model = Decoder(shape, bases, run.dropout).share_memory()
        self.average = Decoder(shape, bases, 0.0).eval()
        self.average.load_state_dict(self.model.state_dict())
        self.average.share_memory()
        self.grads = [
            [torch.zeros_like(weight).share_memory_() for weight in self.model.parameters()]
            for _ in range(PROCESSES)
        ]
        self.progress = torch.zeros(3, dtype=torch.float64).share_memory_()
        """Steps done, seconds spent in earlier runs and this one, and seconds at the last checkpoint."""
        self.barrier = processes.get_context("fork").Barrier(PROCESSES)


def train(run: Run, rows: Sequence[Row], dev: Sequence[Row], vocabulary: Vocabulary) -> None:
    """Train from the last checkpoint in `run.out`, or from nothing, until the time is used."""
    torch.set_num_threads(1)
    shared = Shared(run, vocabulary)
    count = sum(weight.numel() for weight in shared.model.parameters())
    print(f"{count:,} parameters, {len(rows):,} rows, {asdict(shared.model.shape)}", flush=True)
    workers = processes.start_processes(
        work,
        args=(run, shared, rows, dev, vocabulary),
        nprocs=PROCESSES,
        join=False,
        start_method="fork",
    )
    while not workers.join():
        pass


def work(
    rank: int,
    run: Run,
    shared: Shared,
    rows: Sequence[Row],
    dev: Sequence[Row],
    vocabulary: Vocabulary,
) -> None:
    """One process's part of the run."""
    torch.set_num_threads(1)
    corpus = Corpus(rows, vocabulary)
    owned = Owned(rank, run, shared)
    label_ids = [torch.from_numpy(ids) for ids in corpus.label_ids]
    start = owned.resume()
    shared.barrier.wait()
    began = time.monotonic() - float(shared.progress[1])
    losses: list[list[float]] = []
    tokens, first = 0, float(shared.progress[1])
    for step, pair in enumerate(pairs(rank, run, corpus, rows, start), start):
        done = float(shared.progress[1]) / 60 / run.minutes
        if done >= 1:
            break
        torch.manual_seed((run.seed * 1_000_003 + step) * PROCESSES + rank)
        noise = np.random.default_rng((run.seed, step, rank))
        batches = [batch_of(samples, corpus, noise) for samples in pair]
        losses.append(backward(shared.model, batches, label_ids))
        tokens += PROCESSES * sum(batch.ids.size for batch in batches)
        for kept, weight in zip(shared.grads[rank], shared.model.parameters(), strict=True):
            kept.copy_(weight.grad if weight.grad is not None else torch.zeros_like(weight))
            weight.grad = None
        shared.barrier.wait()
        owned.move(step, factor(step, done, run))
        if rank == 0:
            shared.progress[0] = step + 1
            shared.progress[1] = time.monotonic() - began
        shared.barrier.wait()
        if rank == 0 and (step + 1) % 25 == 0:
            tell(shared, losses, tokens / (float(shared.progress[1]) - first))
            losses.clear()
        if float(shared.progress[1] - shared.progress[2]) > run.look_every:
            checkpoint(rank, run, shared, owned, corpus, dev)
    checkpoint(rank, run, shared, owned, corpus, dev)


def backward(model: Decoder, batches: Sequence[Batch], label_ids: Sequence[Tensor]) -> list[float]:
    """Leave this process's gradients in the model; returns the mean losses of labels, fields and text."""
    table = model.embedding()
    (labels, text_l), (fields, text_f) = (
        loss_of(model, table, batch, label_ids) for batch in batches
    )
    text = (text_l + text_f) / 2
    ((labels + fields + 2 * LM_WEIGHT * text) / PROCESSES).backward()
    return [part.item() for part in (labels.detach(), fields.detach(), text.detach())]


def tell(shared: Shared, losses: Sequence[Sequence[float]], speed: float) -> None:
    """One line of progress."""
    labels, fields, text = np.mean(losses, axis=0)
    print(
        f"step {int(shared.progress[0]):>5}  {float(shared.progress[1]):6.0f} s  {speed:6.0f} tok/s  "
        f"labels {labels:.3f}  fields {fields:.3f}  text {text:.3f}",
        flush=True,
    )


class Owned:
    """The weights that one process moves, and the optimizer's state for them."""

    def __init__(self, rank: int, run: Run, shared: Shared) -> None:
        self.rank, self.run, self.shared = rank, run, shared
        self.parts: list[Part] = []
        self.part_grads: list[list[Tensor]] = []
        self.others: list[torch.nn.Parameter] = []
        self.other_grads: list[list[Tensor]] = []
        for index, (name, weight) in enumerate(shared.model.named_parameters()):
            grads = [shared.grads[process][index] for process in range(PROCESSES)]
            if name.startswith("blocks.") and weight.dim() == 2:
                if int(name.split(".")[1]) % PROCESSES == rank:
                    self._add_matrix(name, weight, grads)
            elif rank == 0:
                self.others.append(weight)
                self.other_grads.append(grads)
        self.adam = (
            torch.optim.AdamW(
                self.others, lr=run.embedding_rate, betas=(0.9, 0.98), weight_decay=0.01
            )
            if self.others
            else None
        )

    def _add_matrix(self, name: str, weight: Tensor, grads: Sequence[Tensor]) -> None:
        split = [parts_of(name, grad) for grad in grads]
        for number, part in enumerate(parts_of(name, weight.data)):
            self.parts.append((part, torch.zeros_like(part)))
            self.part_grads.append([each[number] for each in split])

    def move(self, step: int, factor: float) -> None:
        """One step of the owned weights and of their running average."""
        run = self.run
        summed = [torch.stack(list(grads)).sum(0) for grads in self.part_grads]
        muon_step(self.parts, summed, run.rate * factor, run.decay)
        if self.adam is not None:
            for weight, grads in zip(self.others, self.other_grads, strict=True):
                weight.grad = torch.stack(list(grads)).sum(0)
            torch.nn.utils.clip_grad_norm_(self.others, 1.0)
            self.adam.param_groups[0]["lr"] = run.embedding_rate * factor
            self.adam.step()
            self.adam.zero_grad(set_to_none=True)
        keep = min(run.average, (1 + step) / (10 + step))
        self._track(1 - keep)

    @torch.no_grad()
    def _track(self, share: float) -> None:
        pairs = list(
            zip(self.shared.average.parameters(), self.shared.model.parameters(), strict=True)
        )
        for average, weight in pairs[self.rank :: PROCESSES]:
            average.lerp_(weight, share)

    def save(self, step: int) -> None:
        """Write this process's part of a checkpoint."""
        state = {
            "momentum": [momentum for _, momentum in self.parts],
            "adam": self.adam.state_dict() if self.adam is not None else None,
        }
        if self.rank == 0:
            state["model"] = self.shared.model.state_dict()
            state["average"] = self.shared.average.state_dict()
        torch.save(state, self.run.out / f"checkpoint-{step}-{self.rank}.pt")

    def resume(self) -> int:
        """Load the last whole checkpoint, if there is one; returns the step to go on from."""
        path = self.run.out / "checkpoint.json"
        if not path.exists():
            return 0
        stored = json.loads(path.read_text(encoding="utf-8"))
        step = int(stored["step"])
        state = torch.load(self.run.out / f"checkpoint-{step}-{self.rank}.pt", weights_only=True)
        for (_, momentum), kept in zip(self.parts, state["momentum"], strict=True):
            momentum.copy_(kept)
        if self.adam is not None:
            self.adam.load_state_dict(state["adam"])
        if self.rank == 0:
            self.shared.model.load_state_dict(state["model"])
            self.shared.average.load_state_dict(state["average"])
            self.shared.progress[:] = torch.tensor([step, stored["seconds"], stored["seconds"]])
        return step


def checkpoint(
    rank: int, run: Run, shared: Shared, owned: Owned, corpus: Corpus, dev: Sequence[Row]
) -> None:
    """Save both processes' parts, then name the step as the one to resume from, then look at the dev rows."""
    step, seconds = int(shared.progress[0]), float(shared.progress[1])
    owned.save(step)
    shared.barrier.wait()
    if rank == 0:
        part = run.out / "checkpoint.part"
        part.write_text(json.dumps({"step": step, "seconds": seconds}), encoding="utf-8")
        part.replace(run.out / "checkpoint.json")
        for old in run.out.glob("checkpoint-*.pt"):
            if not old.name.startswith(f"checkpoint-{step}-"):
                old.unlink()
        print(f"dev {step:>6}  " + scores_line(shared.average, corpus, dev), flush=True)
        shared.progress[2] = seconds
    shared.barrier.wait()


def pairs(
    rank: int, run: Run, corpus: Corpus, rows: Sequence[Row], start: int
) -> Iterator[tuple[list[Sample], list[Sample]]]:
    """This process's batches, one of labels and one of fields, from step `start` on."""
    by_set: dict[str, list[Row]] = {}
    for row in rows:
        by_set.setdefault(row.dataset, []).append(row)
    labels = half_steps(corpus, by_set, CLASSIFY_ROWS, run.seed, extract=False)
    fields = half_steps(corpus, by_set, EXTRACT_ROWS, run.seed, extract=True)
    every = zip(labels, fields, strict=False)
    return islice(every, start * PROCESSES + rank, None, PROCESSES)


def factor(step: int, done: float, run: Run) -> float:
    """What the learning rates are multiplied by: warm-up, full for a third of the time, then down to nothing."""
    return min(1.0, (step + 1) / run.warmup, max(0.0, 1 - done) / 0.67)


def loss_of(
    model: Decoder, table: Tensor, batch: Batch, label_ids: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean loss of the answers and of language modelling."""
    hidden = model(torch.from_numpy(batch.ids), table).flatten(0, 1)
    logits = hidden[torch.from_numpy(batch.at)] @ table.T
    target = torch.from_numpy(batch.target)
    total = torch.logsumexp(logits, dim=-1)
    losses = total - logits.gather(1, target[:, None])[:, 0]
    answers = losses[: batch.answers]
    weight, group = torch.from_numpy(batch.weight), torch.from_numpy(batch.group)
    for index, ids in enumerate(label_ids):
        rows = torch.nonzero(group == index)[:, 0]
        if len(rows):
            spread = total[rows] - logits[rows][:, ids].mean(dim=-1)
            mixed = (1 - LABEL_SMOOTHING) * answers[rows] + LABEL_SMOOTHING * spread
            answers = answers.index_copy(0, rows, mixed)
    lm = losses[batch.answers :]
    return (answers * weight).sum() / weight.sum(), lm.mean() if len(lm) else lm.sum()


@torch.no_grad()
def scores_line(model: Decoder, corpus: Corpus, dev: Sequence[Row]) -> str:
    """Label accuracy per data set among its own labels, and the share of records predicted token for token."""
    parts = []
    table = model.embedding()
    for index, name in enumerate(TASK_NAMES):
        rows = [row for row in dev if row.dataset == name]
        right = 0
        for samples in chunks(rows, corpus, extract=False):
            batch = batch_of(samples, corpus, None)
            at = torch.from_numpy(batch.at[batch.group == index])
            target = torch.from_numpy(batch.target[batch.group == index])
            logits = model(torch.from_numpy(batch.ids), table).flatten(0, 1)[at] @ table.T
            ids = torch.from_numpy(corpus.label_ids[index])
            right += int((ids[logits[:, ids].argmax(-1)] == target).sum())
        parts.append(f"{name} {right / max(1, len(rows)):.3f}")
    for name in EXTRACT_ROWS:
        rows = [row for row in dev if row.dataset == name]
        right = 0
        for samples in chunks(rows, corpus, extract=True):
            batch = batch_of(samples, corpus, None)
            at = torch.from_numpy(batch.at)
            logits = model(torch.from_numpy(batch.ids), table).flatten(0, 1)[at] @ table.T
            wrong = (logits.argmax(-1).numpy() != batch.target).astype(int)
            errors = np.bincount(batch.at // batch.ids.shape[1], wrong, len(samples))
            right += int((errors == 0).sum())
        parts.append(f"{name} records {right / max(1, len(rows)):.3f}")
    return "  ".join(parts)


def chunks(rows: Sequence[Row], corpus: Corpus, *, extract: bool) -> Iterator[list[Sample]]:
    """Unvaried samples, 64 at a time, by length."""
    prompts = [
        extract_prompt(row, corpus, None) if extract else classify_prompt(row, None) for row in rows
    ]
    samples = sorted(
        corpus.encode(prompts, [row.dataset for row in rows], extract=extract),
        key=lambda sample: len(sample.ids),
    )
    for start in range(0, len(samples), 64):
        yield samples[start : start + 64]
