"""A batch: every row of a file through one task, each answered once and written once, whatever happens in between.

An answer is recorded in the ledger's database in the transaction of its receipt; lines are written in input order
and flushed to disk; then the checkpoint moves over them and the recorded answers are erased. A run that was
interrupted anywhere between goes on from its checkpoint: what is recorded is written without being asked again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence

import msgspec

from rung.batch import store
from rung.batch.opening import BatchJob, Opened, open_run, source_of
from rung.batch.output import TAIL_BYTES, OutputFile, RejectRow, output_row
from rung.batch.progress import Progress, Silence
from rung.batch.reader import InputReader, Reject, check_input
from rung.batch.store import Checkpoint, Written
from rung.batch.summary import Summary
from rung.batch.window import Slot, Window
from rung.climb import Finished
from rung.engines.protocol import Health, State
from rung.errors import EngineUnavailable, InputError, StorageError, first_of
from rung.ladder import Ladder
from rung.ledger.record import ReceiptEntry
from rung.ledger.writer import Ledger
from rung.task import Task

__all__ = ["BatchJob", "Summary", "run_batch"]

FLUSH_ROWS = 8192
"""Rows written at once, at most."""

FLUSH_S = 0.2
"""Seconds between two looks at what can be written."""

PATIENCE_CALLS = 20
"""Calls of a rung that must all have failed before somebody is told while the run goes on."""


async def run_batch(
    ladder: Ladder,
    job: BatchJob,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Run `job` to its end, or go on with it where an earlier process left off.

    Args:
        ladder: what answers.
        job: what is asked of what.
        progress: told how it is getting on.
        stop: once set, nothing more is asked; what is in flight is finished and written.

    Returns:
        What became of all rows of the run, those of earlier processes included; `finished` is False when it was
        stopped, and the same call goes on from there.

    Raises:
        InputError: the input cannot be read, or is not what the run began with.
        ConfigError, ModelError, CertificateError: the task or something it needs is wrong.
        StorageError: something cannot be written; the same call goes on when the cause is gone.
        EngineUnavailable: no rung that policy allows can work as it is set up.
    """
    progress = progress or Silence()
    task = ladder.project.task(job.task)
    unused = check_input(job.input, task.kind)
    # what is wrong with it is said before a file is made
    _refuse_unable(await _healths(ladder, task))
    target = ladder.project.target(task)
    async with open_run(job, task, target, ladder.ledger, ladder.reviews) as opened:
        if opened.checkpoint.finished:
            return Summary.of(opened.run, opened.checkpoint, rows_now=0, seconds_now=0.0)
        for sentence in unused:
            progress.warn(sentence)
        reader = InputReader(
            job.input,
            task,
            opened.run.id,
            start=opened.checkpoint.position,
            after=opened.checkpoint.row,
        )
        run = _Run(ladder, opened, reader, progress, stop or threading.Event())
        progress.begin(opened.run.id, opened.checkpoint.row)
        return await run.to_end()


async def _healths(ladder: Ladder, task: Task) -> dict[str, Health]:
    """How the rungs are that policy allows for the task's own label."""
    course = await ladder.project.course(task.name, task.privacy)
    return {name: await rung.engine.health() for name, rung in course.rungs.items()}


def _refuse_unable(healths: Mapping[str, Health]) -> None:
    """Begin nothing that can only fail: a missing model or student is mended first, and then asked.

    A server that is down may come up; only what is set up wrongly counts.
    """
    if healths and all(health.state is State.MISCONFIGURED for health in healths.values()):
        name, health = next(iter(healths.items()))
        raise EngineUnavailable(f"no rung can answer; {name}: {health.detail}", hint=health.hint)


class _Run:
    """One process's part of a run: reads, asks and writes at the same time."""

    def __init__(
        self,
        ladder: Ladder,
        opened: Opened,
        reader: InputReader,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._ladder = ladder
        self._opened = opened
        self._checkpoint = opened.checkpoint
        self._reader = reader
        self._progress = progress
        self._stop = stop
        self._window = Window(opened.recorded)
        self._kind = ladder.project.task(opened.run.task).kind
        self._started = time.perf_counter()
        self._warned: set[str] = set()

    async def to_end(self) -> Summary:
        """Run until there is no more to read or somebody says stop."""
        before = self._checkpoint.tally.rows
        try:
            async with asyncio.TaskGroup() as tasks:
                feeding = tasks.create_task(self._feed())
                tasks.create_task(self._write(feeding))
            if not self._stop.is_set():
                await self._finish()
        except* Exception as errors:
            raise self._resumable(first_of(errors)) from errors
        return Summary.of(
            self._opened.run,
            self._checkpoint,
            rows_now=self._checkpoint.tally.rows - before,
            seconds_now=self._seconds_now,
        )

    async def _feed(self) -> None:
        """Read chunks as the window has room, and ask them all at once."""
        async with asyncio.TaskGroup() as chunks:
            while await self._room():
                items = await asyncio.to_thread(self._reader.next_chunk)
                if not items:
                    return
                asked = self._window.admit(items)
                if asked:
                    chunks.create_task(self._ask(asked))

    async def _room(self) -> bool:
        """Wait until another chunk may come in; False when the run is to stop.

        A stopped run leaves rows unsettled, so waiting for room alone could last for ever.
        """
        while not self._stop.is_set():
            if self._window.has_room:
                return True
            await asyncio.sleep(FLUSH_S / 8)
        return False

    async def _ask(self, slots: Sequence[Slot]) -> None:
        requests = [slot.request for slot in slots if slot.request is not None]
        recorder = _Recorder(self._ladder.ledger, self._opened.run.id, slots)
        await self._ladder.run_many(
            requests, recorder=recorder, run=self._opened.run.id, halted=self._stop.is_set
        )

    async def _write(self, feeding: asyncio.Task[None]) -> None:
        """Write what is settled, every so often, until nothing more can come."""
        while True:
            ended = feeding.done()
            while slots := self._window.release(FLUSH_ROWS):
                await self._flush(slots)
            if ended:
                return
            await asyncio.wait({feeding}, timeout=FLUSH_S)

    async def _flush(self, slots: Sequence[Slot]) -> None:
        """Write rows, then move the checkpoint over them."""
        lines: list[bytes] = []
        rejected: list[bytes] = []
        tally = self._checkpoint.tally
        for slot in slots:
            if isinstance(slot.outcome, Reject):
                tally.reject(slot.outcome.code)
                rejected.append(msgspec.json.encode(_reject_row(slot.outcome)))
            elif slot.outcome is not None:
                tally.add(slot.outcome, self._kind)
                lines.append(msgspec.json.encode(output_row(slot.row, slot.outcome)))
        opened, old = self._opened, self._checkpoint
        output, rejects = await asyncio.to_thread(
            lambda: (
                _append(opened.output, old.output, lines),
                _append(opened.rejects, old.rejects, rejected),
            )
        )
        last = slots[-1]
        await self._move(
            msgspec.structs.replace(
                old, row=last.row, position=last.end, output=output, rejects=rejects
            )
        )
        self._tell()

    async def _finish(self) -> None:
        """The last row is written: the run is done, if its input is still what was read."""
        source = self._opened.run.source
        if source_of(self._reader.path) != source:
            raise InputError(
                f"{source.path}: changed while it was being read, so the output is of no one input",
                hint="run it again with --fresh when the file is complete",
            )
        await self._move(msgspec.structs.replace(self._checkpoint, finished=True))

    async def _move(self, checkpoint: Checkpoint) -> None:
        seconds = self._opened.checkpoint.seconds + self._seconds_now
        moved = msgspec.structs.replace(checkpoint, seconds=seconds)
        run = self._opened.run.id
        await self._ladder.ledger.append((), also=lambda c: store.move(c, run, moved))
        self._checkpoint = moved

    def _tell(self) -> None:
        """Tell how it is getting on, and once of each rung that does not work at all."""
        tally, source = self._checkpoint.tally, self._opened.run.source
        self._progress.update(tally, self._checkpoint.position.offset / max(source.size, 1))
        for name, rung in tally.rungs.items():
            if rung.failed == rung.attempts >= PATIENCE_CALLS and name not in self._warned:
                self._warned.add(name)
                reason = next(iter(rung.failures))
                self._progress.warn(f"every call to rung {name!r} has failed so far: {reason}")

    def _resumable(self, error: Exception) -> Exception:
        """The complaint, with the way on."""
        if not isinstance(error, StorageError):
            return error
        row = self._checkpoint.row
        way = f"then the same command goes on behind row {row:,}; nothing recorded is asked again"
        return StorageError(error.message, hint=f"{error.hint}; {way}" if error.hint else way)

    @property
    def _seconds_now(self) -> float:
        return time.perf_counter() - self._started


class _Recorder:
    """Records answers of one chunk with their receipts, in one transaction, and then settles their rows."""

    def __init__(self, ledger: Ledger, run: str, slots: Sequence[Slot]) -> None:
        self._ledger = ledger
        self._run = run
        self._slots = slots

    async def record(self, finished: Sequence[Finished]) -> None:
        """Keep these answers."""
        answers = [(self._slots[f.index].row, f.answer) for f in finished]
        await self._ledger.append(
            [ReceiptEntry(answer.receipt) for _, answer in answers],
            also=lambda connection: store.add_answers(connection, self._run, answers),
        )
        for f in finished:
            self._slots[f.index].settle(f.answer)


def _reject_row(reject: Reject) -> RejectRow:
    return RejectRow(row=reject.row, code=reject.code, reason=reject.reason)


def _append(file: OutputFile, written: Written, lines: Sequence[bytes]) -> Written:
    """Add lines to a file; how much of it is valid then."""
    if not lines:
        return written
    content = b"\n".join(lines) + b"\n"
    file.append(content)
    return Written(written.size + len(content), (written.tail + content)[-TAIL_BYTES:])
