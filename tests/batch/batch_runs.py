"""What batch tests build with: inputs, runs in this process and in others, and what a run left in its database."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import sqlalchemy as sa

from rung.batch.output import OutputRow, read_output
from rung.batch.progress import Silence
from rung.batch.runner import BatchJob, Summary, run_batch
from rung.batch.store import find_run, read_answers
from rung.blocking import run_blocking
from rung.ladder import Ladder


def write_rows(path: Path, texts: Iterable[str], **columns: str) -> Path:
    """A JSONL input with ids q1, q2, … and further columns the same on every row."""
    rows = ({"id": f"q{n}", "text": text} | columns for n, text in enumerate(texts, start=1))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Heard(Silence):
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.warnings: list[str] = []
        self.shares: list[float] = []

    def begin(self, run: str, row: int) -> None:
        """Remember where the run begins."""
        self.begun.append(row)

    def update(self, tally: object, share: float) -> None:
        """Remember how far it is."""
        self.shares.append(share)

    def warn(self, message: str) -> None:
        """Remember the warning."""
        self.warnings.append(message)


def run(
    config: Path,
    source: Path,
    *,
    output: Path | None = None,
    rejects: Path | None = None,
    fresh: bool = False,
    target: float | None = None,
    progress: Heard | None = None,
    stop: threading.Event | None = None,
    task: str = "triage",
) -> Summary:
    """`run_batch` in this process, to `out.jsonl` beside the settings unless said otherwise."""
    job = BatchJob(task, source, output or config.parent / "out.jsonl", rejects, fresh)

    async def batch() -> Summary:
        async with await Ladder.open(config, target=target) as ladder:
            return await run_batch(ladder, job, progress=progress, stop=stop)

    return run_blocking(batch())


def start(config: Path, source: Path, *more: str, **options: object) -> subprocess.Popen[str]:
    """`rung batch` in a process of its own."""
    command = [sys.executable, "-m", "rung", "batch", str(source), "--task", "triage"]
    command += ["-o", str(config.parent / "out.jsonl"), "--config", str(config), *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def rows(config: Path) -> list[OutputRow]:
    """The output, read back."""
    return list(read_output(config.parent / "out.jsonl"))


def recorded_rows(config: Path) -> tuple[str | None, set[int]]:
    """The run's id, and the rows whose answers are durable: written, or recorded in the database."""
    engine = sa.create_engine(f"sqlite:///{config.parent / 'rung.db'}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("batch_run"):
            return None, set()
        found = find_run(connection, str((config.parent / "out.jsonl").resolve()))
        if found is None:
            return None, set()
        job, checkpoint = found
        kept = {row for row, _ in read_answers(connection, job.id, checkpoint.row)}
        return job.id, kept | set(range(1, checkpoint.row + 1))


def results_kept(config: Path) -> int:
    """Blocks of answers still in the database."""
    with sqlite3.connect(config.parent / "rung.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM batch_result").fetchone()
    return int(count)


def ids(found: Sequence[OutputRow]) -> list[str]:
    """Ids of output rows, in order."""
    return [row.id for row in found]
