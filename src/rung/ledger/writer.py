"""Writing to the ledger: one thread a `Ledger`, which commits at once when idle and many appends together under load.

What is appended is durable when `append` returns. What goes into a record is `record`'s business, how records hang
together is `chain`'s.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from rung.errors import StorageError
from rung.ids import new_id
from rung.ledger.chain import Chain
from rung.ledger.database import (
    BUSY_TIMEOUT_S,
    complaints,
    fault_of,
    locate,
    make_engine,
    storage_error,
)
from rung.ledger.record import Draft, Egress, Entry, ReceiptEntry, draft
from rung.ledger.schema import migrate

__all__ = ["Egress", "Ledger", "ReceiptEntry"]  # all that someone who writes needs

GROUP_ENTRIES = 20_000
"""Entries after which a transaction takes no further append, so that none waits long for its neighbours."""

Also = Callable[[sa.Connection], None]


class _Job:
    """One call of `append` on its way through the writer's thread."""

    __slots__ = ("also", "entries", "error", "future", "loop")

    def __init__(self, entries: Sequence[Entry], also: Also | None) -> None:
        self.entries = entries
        self.also = also
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.error: Exception | None = None


class Ledger:
    """The ledger, open for writing. Make one with `Ledger.open`; close it with `aclose` or `async with`.

    `append` may be called from any number of tasks, event loops and threads. Nothing queues without a caller that
    waits for it, so the callers' own concurrency bounds the memory used.
    """

    def __init__(self, url: sa.URL, connection: sa.Connection) -> None:
        self._url = url
        self._connection = connection
        self._file = _identity(url)
        self._chain = Chain(new_id())
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._intake = threading.Lock()
        self._closing = False
        self._seal_error: Exception | None = None
        self._commits = 0
        self._thread = threading.Thread(target=self._work, name="rung-ledger", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, url: str, *, root: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Ledger:
        """Open the ledger for writing, making it first if there is none.

        Nothing is recorded until the first `append`, which starts a chain of its own.

        Args:
            url: SQLAlchemy address, for example `sqlite:///rung.db`.
            root: the folder that a relative SQLite path starts from.
            busy_timeout_s: seconds to wait while another process writes.

        Raises:
            StorageError: it is locked, damaged, read-only, newer than this Rung, or has no room.
        """
        located = locate(url, root)
        with complaints(located):
            connection = make_engine(located, writes=True, busy_timeout_s=busy_timeout_s).connect()
            try:
                with connection.begin():
                    migrate(connection)
            except BaseException:
                connection.close()
                raise
        return cls(located, connection)

    @property
    def chain_id(self) -> str:
        """The chain this writer adds to."""
        return self._chain.id

    @property
    def commits(self) -> int:
        """Transactions committed so far; under load far fewer than appends."""
        return self._commits

    async def append(self, entries: Sequence[Entry], also: Also | None = None) -> None:
        """Record entries; they are durable when this returns.

        All entries of one call are recorded, or none is. A call that is cancelled while it waits may be recorded.

        Args:
            entries: receipts and egress decisions, in order; neighbouring receipts share a record.
            also: further writes of the same transaction. It is called on the writer's thread, a second time if the
                first transaction was given up because of another caller's entries, and must not commit.

        Raises:
            StorageError: the disk is full, the file is read-only, locked by another process, or gone; nothing of
                this call was written, and the ledger can be used again when the cause is gone.
            Exception: whatever `also` raised; nothing of this call was written.
        """
        if not entries and also is None:
            return
        job = _Job(entries, also)
        with self._intake:
            if self._closing:
                raise StorageError(f"the ledger {self._name} is closed", hint="open it again")
            self._jobs.put(job)
        await job.future

    async def aclose(self) -> None:
        """Write what is queued, seal the chain, close the file.

        Raises:
            StorageError: the seal could not be written; what was acknowledged is safe all the same.
        """
        with self._intake:
            if not self._closing:
                self._closing = True
                self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        error, self._seal_error = self._seal_error, None
        if error is not None:
            raise error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        except StorageError as unsealed:
            if error is None:
                raise
            error.add_note(f"and the ledger was not sealed: {unsealed}")

    @property
    def _name(self) -> str:
        return repr(self._url.render_as_string(hide_password=True))

    def _work(self) -> None:
        """The thread: commit what is queued, group by group, until told to stop."""
        running = True
        while running:
            jobs, running = self._take()
            if jobs:
                self._commit_group(jobs)
                _settle(jobs)
        self._finish()

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for an append, then take all that have queued up behind it; False when it was the last."""
        jobs: list[_Job] = []
        size = 0
        while size < GROUP_ENTRIES:
            try:
                job = self._jobs.get(block=not jobs)
            except queue.Empty:
                break
            if job is None:
                return jobs, False
            jobs.append(job)
            size += len(job.entries)
        return jobs, True

    def _commit_group(self, jobs: Sequence[_Job]) -> None:
        """Commit the jobs together; if that fails for a reason that may be one member's, each alone."""
        shared = self._try(jobs)
        if len(jobs) > 1 and not shared and jobs[0].error is not None:
            for job in jobs:
                self._try([job])

    def _try(self, jobs: Sequence[_Job]) -> bool:
        """Commit the jobs in one transaction, or note in each why not.

        Returns:
            Whether it failed for a reason that every other transaction would meet just now.
        """
        for job in jobs:
            job.error = None
        try:
            drafts = [record for job in jobs for record in draft(job.entries)]
            self._transact(drafts, [job.also for job in jobs if job.also is not None])
        except sa.exc.DBAPIError as error:
            for job in jobs:  # an error each, because each is raised in a task of its own
                job.error = storage_error(self._url, error)
                job.error.__cause__ = error
            return fault_of(error).shared
        except Exception as error:  # noqa: BLE001 - `also` is the caller's code; the caller gets its error
            for job in jobs:
                job.error = error
        return False

    def _transact(self, drafts: Sequence[Draft], also: Sequence[Also]) -> None:
        self._check_place()
        with self._connection.begin():
            chain = self._chain.extend(self._connection, drafts) if drafts else self._chain
            for write in also:
                write(self._connection)
        self._chain = chain
        self._commits += 1

    def _check_place(self) -> None:
        """SQLite goes on writing to a file that has been deleted, and nobody would ever read it."""
        if _identity(self._url) != self._file:
            raise StorageError(
                f"the ledger {self._name} was removed or replaced while it was open",
                hint="put it back, or start again to begin a new ledger",
            )

    def _finish(self) -> None:
        """Seal the chain, if it has begun, and close the file."""
        try:
            if self._chain.records:
                self._check_place()
                with complaints(self._url), self._connection.begin():
                    self._chain = self._chain.seal(self._connection)
        except StorageError as error:
            self._seal_error = error
        finally:
            self._connection.close()


def _identity(url: sa.URL) -> tuple[int, int] | None:
    """Which file lies at the address now."""
    if url.get_backend_name() != "sqlite":
        return None
    try:
        found = Path(str(url.database)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _settle(jobs: Sequence[_Job]) -> None:
    """Tell every caller how its append ended: one wake-up an event loop, however many wait in it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, members in by_loop.items():
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(_resolve, members)
            except RuntimeError:
                continue  # closed in between: nobody is left who could be told


def _resolve(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # cancelled while it waited
            continue
        if job.error is None:
            job.future.set_result(None)
        else:
            job.future.set_exception(job.error)
