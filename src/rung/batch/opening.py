"""Whether a batch begins, is taken up where it was left, or is done already; with its files open and locked.

Nothing that was not written by a run of ours is ever written over, and a run goes on only with what it began with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa

from rung.batch import store
from rung.batch.output import OutputFile
from rung.batch.store import Checkpoint, Run, Source, Written
from rung.errors import InputError, StorageError
from rung.ids import new_id, now
from rung.ledger.writer import Ledger
from rung.quantities import counted
from rung.receipt import Answer
from rung.review import ReviewStore
from rung.task import Task
from rung.userfiles.document import shown_path

_SAMPLE = 1 << 16  # bytes of an input's beginning and of its end that are digested


class BatchJob(msgspec.Struct, frozen=True):
    """A file to run through a task.

    Attributes:
        task: the task's name.
        input: JSONL, CSV or TSV, one row a text.
        output: where answers go, in input order.
        rejects: where rows go that cannot be asked; None for `NAME.rejects.jsonl` beside the output.
        fresh: start over, whatever an earlier run of ours wrote there.
    """

    task: str
    input: Path
    output: Path
    rejects: Path | None = None
    fresh: bool = False

    @property
    def rejects_path(self) -> Path:
        """Where rejected rows go."""
        return self.rejects or self.output.with_name(f"{self.output.stem}.rejects.jsonl")


class Opened(msgspec.Struct, frozen=True):
    """A run that holds its files.

    Attributes:
        run: what it asks of what.
        checkpoint: how far it is.
        recorded: answers that are recorded and not yet written, by row.
        output, rejects: set back to the checkpoint.
    """

    run: Run
    checkpoint: Checkpoint
    recorded: dict[int, Answer]
    output: OutputFile
    rejects: OutputFile


def source_of(path: Path) -> Source:
    """What the input is now.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            digest = hashlib.sha256(file.read(_SAMPLE))
            file.seek(max(found.st_size - _SAMPLE, 0))
            digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise InputError(f"{shown_path(path)}: {_unreadable(error)}") from error
    return Source(str(path.resolve()), found.st_size, found.st_mtime_ns, digest.hexdigest())


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read: {error.strerror}"


@contextlib.asynccontextmanager
async def open_run(
    job: BatchJob, task: Task, target: float, ledger: Ledger, reviews: ReviewStore
) -> AsyncIterator[Opened]:
    """The run that `job` names, its files locked while the context lasts.

    Args:
        job: what is wanted.
        task: what `job.task` names.
        target: the error bound that applies.
        ledger: keeps the run and its answers.
        reviews: holds items of a run that this one may take the place of.

    Raises:
        InputError: the input cannot be read, or something is not what the run began with.
        StorageError: a file cannot be written, is being written, or is not one of ours.
    """
    wanted = Run(
        id=new_id(),
        task=task.name,
        task_digest=task.digest,
        target=target,
        source=source_of(job.input),
        output=str(job.output.resolve()),
        rejects=str(job.rejects_path.resolve()),
        created=now(),
    )
    _check_paths(wanted)
    with OutputFile(Path(wanted.output)) as output, OutputFile(Path(wanted.rejects)) as rejects:
        found: list[Opened] = []
        await ledger.append(
            (), also=lambda c: found.append(_settle(c, job, wanted, output, rejects, reviews))
        )
        opened = found[-1]
        output.keep, rejects.keep = True, False
        if not opened.checkpoint.finished:
            output.set_back(opened.checkpoint.output.size)
            rejects.set_back(opened.checkpoint.rejects.size)
        yield opened


def _check_paths(wanted: Run) -> None:
    paths = [wanted.source.path, wanted.output, wanted.rejects]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise InputError(
            f"{shown_path(Path(twice))}: named twice among input, output and rejects",
            hint="give each a file of its own",
        )


def _settle(
    connection: sa.Connection,
    job: BatchJob,
    wanted: Run,
    output: OutputFile,
    rejects: OutputFile,
    reviews: ReviewStore,
) -> Opened:
    """Find the run in the database, or add it."""
    store.create_tables(connection)
    found = store.find_run(connection, wanted.output)
    if found is not None and not job.fresh:
        run, checkpoint = found
        _check_same(run, wanted, checkpoint)
        _check_whole(output, checkpoint.output, run.output)
        _check_whole(rejects, checkpoint.rejects, run.rejects)
        recorded = dict(store.read_answers(connection, run.id, checkpoint.row))
        return Opened(run, checkpoint, recorded, output, rejects)
    if output.size and found is None:
        raise _not_ours(wanted.output)
    if rejects.size and (found is None or found[0].rejects != wanted.rejects):
        raise _not_ours(wanted.rejects)
    if found is not None:
        reviews.withdraw(found[0].id)  # before the run is replaced: a crash in between repeats it
    store.add_run(connection, wanted)
    return Opened(wanted, Checkpoint(), {}, output, rejects)


def _not_ours(path: str) -> StorageError:
    return StorageError(
        f"{shown_path(Path(path))}: exists, and no run in this ledger wrote it; it is left alone",
        hint="choose another name, or move the file away",
    )


def _check_same(run: Run, wanted: Run, checkpoint: Checkpoint) -> None:
    """Everything that a run began with must still be so."""
    changed = [what for what, differs in _differences(run, wanted) if differs]
    if changed:
        raise InputError(
            f"{shown_path(Path(run.output))}: the run that writes it began otherwise: {'; '.join(changed)}",
            hint=f"--fresh starts over and forgets its {counted(checkpoint.tally.rows)};"
            " or name another output with -o",
        )


def _differences(run: Run, wanted: Run) -> Iterator[tuple[str, bool]]:
    old, new = run.source, wanted.source
    yield f"its task was {run.task!r}", run.task != wanted.task
    yield (
        f"task {run.task!r} has changed",
        run.task == wanted.task and run.task_digest != wanted.task_digest,
    )
    yield f"its target was {run.target:g}", run.target != wanted.target
    yield f"its input was {shown_path(Path(old.path))}", old.path != new.path
    same_file = old.path == new.path
    yield (
        f"the input had {counted(old.size, 'byte')}, now {new.size:,}",
        same_file and old.size != new.size,
    )
    yield (
        "the content of the input has changed",
        same_file and old.size == new.size and old.digest != new.digest,
    )
    yield (
        "the input was written to since",
        same_file
        and (old.size, old.digest) == (new.size, new.digest)
        and old.mtime_ns != new.mtime_ns,
    )
    yield f"its rejects went to {shown_path(Path(run.rejects))}", run.rejects != wanted.rejects


def _check_whole(file: OutputFile, written: Written, path: str) -> None:
    if not file.ends_with(written.size, written.tail):
        raise StorageError(
            f"{shown_path(Path(path))}: changed or removed since the run wrote {counted(written.size, 'byte')} of it",
            hint="put it back as it was, or start over with --fresh",
        )
