"""What a batch writes: one line of JSON a row, and the file that holds such lines whatever happens to the process.

Anyone may read an output with `read_output`, while it is being written as well. When lines may be written is the
runner's business.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rung.errors import InputError, StorageError
from rung.exclusive import lock
from rung.files import storage_error, sync_folder
from rung.receipt import Answer, Attempt, JsonValue, Standing, Verdict
from rung.userfiles.document import shown_path

TAIL_BYTES = 64
"""The end of a file by which it is recognised; a receipt's id is in it, so no two files share one."""


class OutputRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the output.

    Attributes:
        row: line of the input the row begins on, from 1.
        id: the row's own id, `row-N` when it has none.
        answer: a label, a JSON value or a text; None when nothing was sure enough.
        rung: which rung answered, None when none did.
        confidence: of the last attempt, None without evidence.
        standing: what stands behind the answer.
        verdict: why the last attempt ended, None when there was none.
        reason: why there is no certified answer; empty when there is one.
        latency_ms: of all attempts; in a micro-batch a row's share of it, waiting for its turn not included.
        path: rung and verdict of every attempt, in order, forbidden rungs included.
        cost: nano-units of the receipt's currency.
        top_cost: estimated nano-units had the top rung answered alone, None when it has no price.
        receipt: its id in the ledger.
    """

    format: int = 1
    row: int
    id: str
    answer: JsonValue
    rung: str | None
    confidence: float | None
    standing: Standing
    verdict: Verdict | None
    reason: str
    latency_ms: float
    path: tuple[tuple[str, Verdict], ...]
    cost: int
    top_cost: int | None
    receipt: str


class RejectRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the rejects file: the row, a stable word, and a sentence without the row's text."""

    format: int = 1
    row: int
    code: str
    reason: str


def output_row(row: int, answer: Answer) -> OutputRow:
    """The line for the answer to `row`."""
    receipt = answer.receipt
    ended = receipt.attempts[-1] if receipt.attempts else None
    last = ended
    if ended is not None and ended.verdict is Verdict.FORBIDDEN:  # those come last
        made = [a for a in receipt.attempts if a.verdict is not Verdict.FORBIDDEN]
        last = made[-1] if made else None
    return OutputRow(
        row=row,
        id=receipt.request_id or f"row-{row}",
        answer=answer.value,
        rung=receipt.answered_by,
        confidence=last.confidence if last is not None else None,
        standing=receipt.standing,
        verdict=ended.verdict if ended is not None else None,
        reason=receipt.standing_reason if answer.answered else _why_not(answer, last),
        latency_ms=round(sum(attempt.latency_ms for attempt in receipt.attempts), 4),
        path=tuple((attempt.rung, attempt.verdict) for attempt in receipt.attempts),
        cost=receipt.cost,
        top_cost=receipt.top_cost,
        receipt=receipt.id,
    )


def _why_not(answer: Answer, last: Attempt | None) -> str:
    general = answer.receipt.standing_reason
    return f"{general}: {last.reason}" if last is not None and last.reason else general


_row_decoder = msgspec.json.Decoder(OutputRow)


def read_output(path: Path) -> Iterator[OutputRow]:
    """Rows of an output in order, one at a time in constant memory.

    Raises:
        InputError: it cannot be read, or a line is not one that a batch writes.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for line in file:
                number += 1
                yield _row_decoder.decode(line)
    except msgspec.DecodeError as error:
        raise InputError(
            f"{shown_path(path)}:{number}: not a row that rung batch wrote: {error}",
            hint="an output that is still being written may end within a line",
        ) from error
    except OSError as error:
        raise InputError(f"{shown_path(path)}: cannot be read: {error.strerror}") from error


class OutputFile:
    """A file that one process appends to and that can be set back to an earlier size.

    It is locked while it is open; the lock goes with the process. Use as a context manager. At the end an empty file
    is removed unless `keep` is set, as it is for one that was there before.

    Args:
        path: where it is; made when it is not there.

    Raises:
        StorageError: it cannot be written, is not a regular file, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.keep = path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            self._check()
        except BaseException:
            os.close(self._descriptor)
            raise
        if not self.keep:
            sync_folder(path.parent)

    def _check(self) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise StorageError(
                f"{shown_path(self._path)}: not a regular file, so a run could not be taken up again",
                hint="write to a file and read that",
            )
        try:
            alone = lock(self._descriptor)
        except OSError as error:  # a file system without locks
            raise storage_error(self._path, error) from error
        if not alone:
            raise StorageError(
                f"{shown_path(self._path)}: another process is writing it",
                hint="wait for it, or give each run an output of its own",
            )

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._descriptor).st_size

    def ends_with(self, size: int, tail: bytes) -> bool:
        """Whether its first `size` bytes are there and end with `tail`."""
        if self.size < size:
            return False
        os.lseek(self._descriptor, size - len(tail), os.SEEK_SET)
        return os.read(self._descriptor, len(tail)) == tail

    def set_back(self, size: int) -> None:
        """Forget everything behind the first `size` bytes, and go on from there.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            os.ftruncate(self._descriptor, size)
            os.lseek(self._descriptor, size, os.SEEK_SET)
        except OSError as error:
            raise storage_error(self._path, error) from error

    def append(self, content: bytes) -> None:
        """Add to the end; on disk when this returns.

        Raises:
            StorageError: the disk is full, or the like; a part may have been written.
        """
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise storage_error(self._path, error) from error

    def close(self) -> None:
        """Let go of the file."""
        if not self.keep and self.size == 0:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
