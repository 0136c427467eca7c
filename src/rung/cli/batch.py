"""`rung batch`: a file of rows through one task, each exactly once, with Ctrl-C and crashes survived."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
import msgspec

from rung.batch.progress import Progress
from rung.batch.runner import BatchJob, Summary, run_batch
from rung.blocking import run_blocking
from rung.cli.batchprogress import shown_progress
from rung.cli.batchtext import describe
from rung.cli.options import config_option, json_option, target_option
from rung.ladder import Ladder


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.option("--task", required=True, help="Name of the task.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Where answers go, one line of JSON a row, in input order.",
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    help="Where rows go that cannot be asked; without it OUT.rejects.jsonl beside the output.",
)
@click.option("--fresh", is_flag=True, help="Start over and forget what an earlier run wrote.")
@target_option
@config_option
@json_option
def command(
    source: Path,
    task: str,
    output: Path,
    rejects: Path | None,
    fresh: bool,
    target: float | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Run every row of IN (JSONL, CSV or TSV) through a task, each exactly once.

    The same command goes on where an earlier one was interrupted, by Ctrl-C or by a crash. Columns: input (or text,
    or question and document), id, privacy. Exits with 3 when rows were rejected or an engine failed on some.
    """
    job = BatchJob(task, source, output, rejects, fresh)
    with _stoppable() as stopping, shown_progress(quiet=as_json) as progress:
        summary = run_blocking(_batch(job, config, target, progress, stopping.event))
    if as_json:
        click.echo(msgspec.json.encode(summary))
    else:
        click.echo(describe(summary))
    if not summary.finished:
        again = _command(job, config, target)
        click.echo(f"stopped behind row {summary.last_row:,}; to go on: {again}", err=True)
        raise SystemExit(128 + stopping.number)
    raise SystemExit(summary.exit_code)


def _command(job: BatchJob, config: Path | None, target: float | None) -> str:
    """What to type to go on."""
    parts = ["rung", "batch", str(job.input), "--task", job.task, "-o", str(job.output)]
    options = (("--rejects", job.rejects), ("--target", target), ("--config", config))
    for name, value in options:
        if value is not None:
            parts += [name, str(value)]
    return shlex.join(parts)


async def _batch(
    job: BatchJob,
    config: Path | None,
    target: float | None,
    progress: Progress,
    stop: threading.Event,
) -> Summary:
    async with await Ladder.open(config, target=target) as ladder:
        return await run_batch(ladder, job, progress=progress, stop=stop)


class _Stopping:
    """Whether and by which signal the run was asked to stop."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number = 0

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """Stop in order the first time, at once the second."""
        if self.event.is_set():
            click.echo("stopped at once; the same command goes on from what is recorded", err=True)
            os._exit(128 + number)  # like a crash, which every part of a run survives
        self.number = number
        self.event.set()
        click.echo("stopping: finishing what is in flight (again: stop at once)", err=True)


@contextmanager
def _stoppable() -> Iterator[_Stopping]:
    """Turn SIGINT and SIGTERM into a request to stop."""
    stopping = _Stopping()
    before = {
        number: signal.signal(number, stopping.ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
