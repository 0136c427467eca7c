"""The file of recorded answers: one JSON line a call, appended durably, read back exactly.

A line holds the digest of a call and what came back, never what was asked. Floats keep every bit.
The first line names the format. Lines are only ever appended; of two lines for one call the later
counts.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from rung.engines.protocol import Finish, Generation
from rung.errors import (
    EngineCold,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRefused,
    EngineTimeout,
    EngineTruncated,
    EngineUnavailable,
    EngineUnsupported,
    InternalError,
    StorageError,
)
from rung.files import storage_error, write_atomically
from rung.receipt import Usage

FORMAT = 1
_SYNC_EVERY = 64  # answers that a power failure may cost; a killed process loses none
_LOG = logging.getLogger(__name__)
_KINDS: dict[str, type[EngineError]] = {
    kind.code: kind
    for kind in (
        EngineError,
        EngineTimeout,
        EngineOverloaded,
        EngineUnavailable,
        EngineCold,
        EngineRefused,
        EngineTruncated,
        EngineProtocolError,
        EngineUnsupported,
    )
}


class Header(msgspec.Struct, frozen=True, tag="rung-recording"):
    """The first line."""

    format: int


class Identified(msgspec.Struct, frozen=True, tag="identity"):
    """What the recorded engine said of itself for one task."""

    task: str
    identity: dict[str, str]


class Failed(msgspec.Struct, frozen=True, tag="failed", omit_defaults=True):
    """A call that ended in an error."""

    key: str
    code: str
    message: str
    hint: str | None = None
    charged: bool = False
    usage: Usage = Usage()
    latency_ms: float = 0.0

    @classmethod
    def of(
        cls, key: str, error: EngineError, *, usage: Usage | None = None, latency_ms: float = 0.0
    ) -> Failed:
        """`error` as a record."""
        return cls(
            key,
            error.code,
            error.message,
            error.hint,
            error.charged,
            usage or Usage(),
            latency_ms,
        )

    def error(self) -> EngineError:
        """The error again."""
        kind = _KINDS.get(self.code, EngineError)
        return kind(self.message, hint=self.hint, charged=self.charged)


class Classified(msgspec.Struct, frozen=True, tag="classified", omit_defaults=True):
    """One text classified. NaN, which JSON does not have, stands as null."""

    key: str
    probabilities: tuple[float | None, ...]
    chosen: int
    usage: Usage
    latency_ms: float = 0.0
    finish: Finish | None = None


class Generated(msgspec.Struct, frozen=True, tag="generated"):
    """One generation."""

    key: str
    generation: Generation


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """The embedding of one text; float32 values are exact as JSON numbers."""

    key: str
    vector: tuple[float, ...]


Answer = Classified | Generated | Embedded | Failed
Record = Header | Identified | Answer
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Contents:
    """What a recording holds: where each answer is, not the answers, so that memory stays small.

    Attributes:
        identities: what the recorded engine said of itself, by task digest.
        kinds: the kinds of answers there are.
        end: bytes that hold whole records.
        torn: bytes of a last line that was never finished.
        closed: whether the last record ends its line.
    """

    def __init__(self) -> None:
        self.identities: dict[str, dict[str, str]] = {}
        self.kinds: set[type[Answer]] = set()
        self.end = 0
        self.torn = 0
        self.closed = True
        self._places: dict[str, int] = {}
        self._failed: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def place(self, key: str) -> int:
        """Offset of the answer to the call with digest `key`."""
        return self._places[key]

    def failed(self, key: str) -> bool:
        """Whether what is recorded for `key` is a failure."""
        return key in self._failed

    def add(self, record: Record, size: int) -> None:
        """Note a record of `size` bytes that stands at `end`."""
        if isinstance(record, Identified):
            self.identities[record.task] = record.identity
        elif not isinstance(record, Header):
            self.kinds.add(type(record))
            self._places[record.key] = self.end
            self._failed.discard(record.key)
            if isinstance(record, Failed):
                self._failed.add(record.key)
        self.end += size


def read_contents(path: Path) -> Contents:
    """Check every line of a recording.

    Raises:
        FileNotFoundError, OSError: it cannot be read.
        EngineError: a line is damaged, or the file is no recording of this format.
    """
    contents = Contents()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    contents.torn = len(line)
                    break
                raise _damaged(path, number) from error
            if (number == 1) is not isinstance(record, Header):
                raise _damaged(path, number)
            if isinstance(record, Header) and record.format != FORMAT:
                raise EngineError(
                    f"{path}:1: format {record.format!r} is not {FORMAT}, which this version reads",
                    hint="record it again with this version",
                )
            contents.add(record, len(line))
            contents.closed = line.endswith(b"\n")
    return contents


class Recording:
    """One file of answers, read once and appended to.

    Args:
        path: the file.
        writing: whether it is appended to, and made when it is not there.

    Attributes:
        contents: what it holds.
        repair: what had to be mended, None when nothing.

    Raises:
        EngineError: it cannot be opened, a line is damaged, or its format is another.
    """

    def __init__(self, path: Path, *, writing: bool) -> None:
        self.path = path
        self.repair: str | None = None
        self._unsynced = 0
        try:
            self.contents = self._read(writing=writing)
            self._file = path.open("r+b" if writing else "rb", buffering=0)
            if writing:
                self._mend()
        except StorageError as error:
            raise EngineError(error.message, hint=error.hint) from error
        except OSError as error:
            raise _cannot(path, error) from error

    def find(self, key: str) -> Answer | None:
        """What came back for the call with digest `key`, None when it is not recorded."""
        if key not in self.contents:
            return None
        try:
            self._file.seek(self.contents.place(key))
            record = _DECODER.decode(self._file.readline())
        except OSError as error:
            raise _cannot(self.path, error) from error
        except ValueError as error:
            raise EngineError(
                f"{self.path} was changed by another program while it was in use",
                hint="run again",
            ) from error
        if isinstance(record, Header | Identified):
            raise InternalError(f"{self.path}: the place of an answer holds none")
        return record

    def append(self, record: Identified | Answer) -> None:
        """Add a record. It survives the process at once, and the machine after `sync`.

        Raises:
            EngineError: it could not be written; the file is as before.
        """
        line = msgspec.json.encode(record) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise _unwritten(self.path, error) from error
        self.contents.add(record, len(line))
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Put everything appended on the disk.

        Raises:
            EngineError: the disk does not take it.
        """
        if not self._unsynced:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritten(self.path, error) from error
        self._unsynced = 0

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
        finally:
            self._file.close()

    def _read(self, *, writing: bool) -> Contents:
        """The contents; where the file is to be written and is not there, a new one's."""
        if writing and (not self.path.exists() or self.path.stat().st_size == 0):
            header = msgspec.json.encode(Header(FORMAT)) + b"\n"
            write_atomically(self.path, header)
        return read_contents(self.path)

    def _mend(self) -> None:
        """Cut off a line that was never finished, so that the next one stands for itself."""
        if self.contents.torn:
            self._file.truncate(self.contents.end)
            self.repair = (
                f"{self.path}: the last line was torn ({self.contents.torn} bytes, from a run that "
                "was killed) and has been cut off; its call counts as not recorded"
            )
            _LOG.warning(self.repair)
        elif not self.contents.closed:
            self._file.seek(self.contents.end)
            self._file.write(b"\n")
            self.contents.end += 1

    def _write(self, line: bytes) -> None:
        """Write all of `line` at the end, or nothing."""
        self._file.seek(self.contents.end)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            # A full disk may have taken half a line: uncut, it would damage the line after it.
            self._file.truncate(self.contents.end)
            raise


def _damaged(path: Path, number: int) -> EngineError:
    return EngineError(
        f"{path}:{number}: this line is not a record of a recording",
        hint="take the line out, or record again; the calls of the other lines are kept",
    )


def _cannot(path: Path, error: OSError) -> EngineError:
    """The error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return EngineError(
            f"there is no recording {str(path)!r}", hint='make one with mode = "record" or "fill"'
        )
    return EngineError(
        f"cannot open the recording {str(path)!r}: {error.strerror or error}",
        hint="check the path and its permissions",
    )


def _unwritten(path: Path, error: OSError) -> EngineError:
    """The error for an answer that was given, perhaps charged, and could not be recorded."""
    known = storage_error(path, error)
    return EngineError(known.message, hint=known.hint, charged=True)
