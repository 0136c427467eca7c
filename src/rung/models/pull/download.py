"""Filling a partial file from its source: resumed where it can be, begun again where it must be, and not for ever.

Which bytes are the right ones is decided here by size and digest alone; whether they are harmless is `scan`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from rung.errors import SourceError
from rung.files import storage_error
from rung.models.pull.events import Fetching, Restarted, Resumed, Retrying, Tell
from rung.models.pull.hashing import hash_start
from rung.models.pull.partial import Partial, Record
from rung.models.sources.resolved import RemoteFile
from rung.models.sources.stream import Stream

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Before the second to the fifth of the attempts that brought nothing."""

PROGRESS = 1024 * 1024
"""Bytes that an attempt must bring beyond what was here to count as one that got on."""

MOST_ATTEMPTS = 1000
"""Attempts at one file, however well they get on."""

MOST_TIMES = 3
"""Times its size that may come of one file; what a source cannot go on with comes again from the start."""


class Streams(Protocol):
    """Where bytes come from; `Sources` is the real one."""

    def stream(
        self, file: RemoteFile, *, start: int = 0, etag: str | None = None
    ) -> AbstractAsyncContextManager[Stream]:
        """The bytes of a file from `start` on."""


class Fetched(msgspec.Struct, frozen=True):
    """A file that is whole.

    Attributes:
        sha256: of its bytes, computed here.
        size: in bytes.
        by_publisher: whether the publisher states the digest; else it is trusted on this first use.
    """

    sha256: str
    size: int
    by_publisher: bool


class Download:
    """One file on its way.

    Args:
        file: as its source lists it.
        partial: where its bytes go; nobody else writes it meanwhile.
        sources: they come from.
        tell: told how it goes.
        pauses_s: before further attempts when the last one brought nothing, in seconds.
        most_attempts: after which it ends, though each one gets on.
    """

    def __init__(
        self,
        file: RemoteFile,
        partial: Partial,
        sources: Streams,
        tell: Tell,
        *,
        pauses_s: Sequence[float] = PAUSES_S,
        most_attempts: int = MOST_ATTEMPTS,
    ) -> None:
        self._file = file
        self._partial = partial
        self._sources = sources
        self._tell = tell
        self._pauses_s = pauses_s
        self._most_attempts = most_attempts
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._size = file.size
        self._attempts = 0
        self._came = 0  # bytes over all attempts
        self._most = 0  # of the file that were here at once
        self._goes_on_here = True  # whether the attempt went on where the last one ended

    async def run(self) -> Fetched:
        """Fetch what is missing, and check all of it.

        Raises:
            SourceError: the source cannot be reached, breaks off again and again, or gives other bytes than its
                publisher states; but for the last, what has come is kept.
            ModelError: the source does not give this file.
            StorageError: the disk is full or cannot be written; what has come is kept.
        """
        self._partial.prepare()
        resumed = await self._take_up()
        try:
            await self._fill()
            return self._checked()
        except _WrongBytes:
            if not resumed:
                raise
        # Only now is it known that what lay here was damaged.
        self._tell(Restarted(self._file.name, "what an earlier attempt left is damaged"))
        await self._begin_again()
        await self._fill()
        return self._checked()

    async def _take_up(self) -> bool:
        """Hash what an earlier attempt left; False when there is nothing of use."""
        have, record = self._partial.size, self._partial.record
        if not have:
            return False
        if not self._goes_on(record, have):
            self._tell(
                Restarted(self._file.name, "what an earlier attempt left is not of this file")
            )
            await self._begin_again()
            return False
        await hash_start(self._digest, self._partial.path, have)
        self._hashed = have
        self._size = self._size or (record.size if record is not None else None)
        self._tell(Resumed(self._file.name, have))
        return True

    def _goes_on(self, record: Record | None, have: int) -> bool:
        """Whether the bytes there can be the beginning of this file."""
        size = self._file.size
        if size is not None and have > size:
            return False
        if self._file.sha256 is not None:
            return True  # the bytes lie under the digest of what they will be
        if record is None or record.etag is None or record.url != self._partial.url:
            return False
        return size is None or record.size in (None, size)

    async def _begin_again(self) -> None:
        self._partial.discard()
        self._digest, self._hashed, self._size = hashlib.sha256(), 0, self._file.size
        self._goes_on_here = False

    async def _fill(self) -> None:
        """Attempt until all is there."""
        self._partial.touch()
        idle = 0
        while self._size is None or self._hashed < self._size:
            before, most = self._hashed, self._most
            self._goes_on_here = True
            self._attempts += 1
            try:
                await self._attempt()
                return
            except SourceError as error:
                self._most = max(most, self._hashed)
                # What comes again from the start is nothing new before it is more than there was.
                new = self._hashed - (before if self._goes_on_here else most)
                idle = 0 if new >= PROGRESS else idle + 1
                if (why := self._enough(idle)) is not None:
                    raise self._given_up(error, why) from error
                pause = self._pauses_s[max(0, idle - 1)]
                self._tell(Retrying(self._file.name, error.message, self._hashed, pause))
                await asyncio.sleep(pause)

    def _enough(self, idle: int) -> str | None:
        """Why there is no further attempt after `idle` ones that brought nothing; None when there is one."""
        if idle > len(self._pauses_s):
            return f"{idle} attempts brought nothing more than"
        if self._attempts >= self._most_attempts:
            return f"{self._attempts:,} attempts are the most there are; they brought"
        if self._size is not None and self._came > MOST_TIMES * self._size + PROGRESS:
            return f"{self._came:,} bytes came, again and again from the start, for"
        return None

    async def _attempt(self) -> None:
        """One request, from where the bytes end."""
        record = self._partial.record
        etag = record.etag if record is not None else None
        if etag is None and self._file.sha256 is None and self._hashed:
            await self._begin_again()  # nothing would tell that the rest is of another file
        start = self._hashed
        async with self._sources.stream(self._file, start=start, etag=etag) as stream:
            if stream.start != start:
                self._tell(Restarted(self._file.name, "the source gives it from the start only"))
                await self._begin_again()
            self._size = stream.total if stream.total is not None else self._size
            if self._size is None:
                raise SourceError(
                    f"the source does not say how large {self._file.name!r} is",
                    hint="use another source for this model",
                )
            self._partial.keep_record(etag=stream.etag, size=self._size)
            await self._write(stream)
        self._size = self._hashed

    async def _write(self, stream: Stream) -> None:
        """Append what comes, hashing it."""
        try:
            with self._partial.path.open("ab") as file:
                async for piece in stream.chunks:
                    file.write(piece)
                    # Else a full disk would be met with bytes hashed that are not there.
                    file.flush()
                    self._digest.update(piece)
                    self._hashed += len(piece)
                    self._came += len(piece)
                    self._tell(Fetching(self._file.name, self._hashed, self._size))
        except OSError as error:
            raise storage_error(self._partial.path, error) from error

    def _checked(self) -> Fetched:
        """What was fetched, when it is what the publisher states.

        Raises:
            SourceError: it is not; then it is gone.
        """
        found, stated = self._digest.hexdigest(), self._file.sha256
        if stated is not None and found != stated:
            self._partial.discard()
            raise _WrongBytes(
                f"{self._file.name!r} has the sha256 {found}, its publisher states {stated}; it was thrown away",
                hint="run it again; if it happens again, the source or the way to it changes files",
            )
        record = self._partial.record
        etag = record.etag if record is not None else None
        self._partial.keep_record(etag=etag, size=self._hashed, sha256=found)
        return Fetched(found, self._hashed, by_publisher=stated is not None)

    def _given_up(self, error: SourceError, why: str) -> SourceError:
        if not self._hashed and not self._came:
            return SourceError(
                f"{error.message}; nothing came in {self._attempts:,} attempts",
                hint=error.hint or "run it again later, or choose another source",
            )
        of = f" of {self._size:,}" if self._size is not None else ""
        return SourceError(
            f"{error.message}; {why} the {self._hashed:,}{of} bytes that are kept",
            hint="the same command goes on from there",
        )


class _WrongBytes(SourceError):
    """Other bytes than the publisher states; what had come of them is gone."""
