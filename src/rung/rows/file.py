"""Rows of a JSONL, CSV or TSV file that may be anything: read one at a time, in bounded memory, nothing guessed.

What is wrong with a row is a value (`Fault`), so that the reader of the file decides whether it ends the work. What
the columns mean is the reader's business too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from rung.receipt import JsonValue

LONGEST = 10 * 2**20
"""Bytes. A longer line is refused after reading so much of it."""

_MAGIC = {
    b"\xff\xfe": "is UTF-16, not UTF-8; save it as UTF-8",
    b"\xfe\xff": "is UTF-16, not UTF-8; save it as UTF-8",
    b"\x1f\x8b": "is compressed (gzip); unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd); unpack it first",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; save it as CSV or JSONL",
}
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSONL = (".jsonl", ".ndjson")


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place between two rows of a file: how many bytes and lines lie before it."""

    offset: int = 0
    line: int = 0


START = Position()


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row: the line it begins on, from 1, its cells by column, and where it ends."""

    number: int
    cells: Mapping[str, JsonValue]
    end: Position = START


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a row or, when `row` is 0, with the file.

    Attributes:
        row: line the row begins on.
        code: a stable word for the kind of fault.
        message: what is wrong, without the row's text.
        fatal: nothing after it can be read.
        end: where the row ends; of a line that is too long to be read, where it begins.
    """

    row: int
    code: str
    message: str
    fatal: bool = False
    end: Position = START


class _Line(msgspec.Struct, frozen=True, gc=False):
    """One line without its end; when it has a fault, `text` is only good for finding the next row."""

    number: int
    text: str
    end: Position
    fault: Fault | None = None


def iter_rows(path: Path, start: Position = START) -> Iterator[Row | Fault]:
    """Rows and faults of the file at `path`, in order; its name says the format.

    Memory is bounded by `LONGEST` whatever the file holds. A line that is longer is a fault, and asking for more
    reads on behind it.

    Args:
        path: a JSONL, CSV or TSV file.
        start: the `end` of an earlier row, to read on behind it.
    """
    suffix = path.suffix.lower()
    if suffix not in _JSONL and suffix not in _DELIMITERS:
        yield Fault(0, "format", "the name must end in .jsonl, .ndjson, .csv or .tsv", fatal=True)
        return
    try:
        with path.open("rb") as file:
            if suffix in _DELIMITERS:
                yield from _csv(file, _DELIMITERS[suffix], start)
            else:
                yield from _jsonl(_iter_lines(file, start))
    except FileNotFoundError:
        yield Fault(0, "missing", "no such file", fatal=True)
    except IsADirectoryError:
        yield Fault(0, "folder", "is a folder, not a file", fatal=True)
    except OSError as error:
        yield Fault(0, "unreadable", f"cannot be read: {error.strerror}", fatal=True)


def _iter_lines(file: BinaryIO, start: Position = START) -> Iterator[_Line]:
    """Lines of `file`, each decoded on its own so that one bad line spoils no other."""
    file.seek(start.offset)
    offset, number = start.offset, start.line
    while raw := file.readline(LONGEST + 1):
        number += 1
        if number == 1:
            problem = _not_text(raw)
            if problem is not None:
                yield _Line(1, "", START, Fault(0, "binary", problem, fatal=True))
                return
        begin, offset = offset, offset + len(raw)
        if len(raw) > LONGEST and not raw.endswith(b"\n"):
            fault = Fault(number, "long", f"longer than {LONGEST // 2**20} MiB")
            yield _Line(number, "", Position(begin, number - 1), fault)
            offset += _skip_line(file)
            continue
        yield _decoded(raw, begin, Position(offset, number))


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of the line and forget it; how many bytes that were."""
    skipped = 0
    while raw := file.readline(LONGEST):
        skipped += len(raw)
        if raw.endswith(b"\n"):
            break
    return skipped


def _decoded(raw: bytes, begin: int, end: Position) -> _Line:
    content = raw.removeprefix(_BOM) if end.line == 1 else raw
    skipped = len(raw) - len(content)
    content = content.rstrip(b"\r\n")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        at = begin + skipped + error.start
        message = f"not UTF-8 (byte 0x{content[error.start]:02x} at offset {at} of the file)"
        fault = Fault(end.line, "encoding", message)
        return _Line(end.line, content.decode(errors="replace"), end, fault)
    if "\0" in text:
        return _Line(end.line, text, end, Fault(end.line, "encoding", "holds a NUL byte"))
    return _Line(end.line, text, end)


def _not_text(beginning: bytes) -> str | None:
    """Why the file's beginning cannot be that of a text file."""
    for magic, problem in _MAGIC.items():
        if beginning.startswith(magic):
            return problem
    return "is a binary file" if b"\0" in beginning[:8192] else None


def _jsonl(lines: Iterator[_Line]) -> Iterator[Row | Fault]:
    """One JSON object a line; blank lines are passed over."""
    decoder = msgspec.json.Decoder(dict[str, JsonValue])
    for line in lines:
        if line.fault is not None:
            yield _ending(line.fault, line.end)
        elif line.text and not line.text.isspace():
            try:
                yield Row(line.number, decoder.decode(line.text), line.end)
            except msgspec.ValidationError:
                yield Fault(line.number, "json", "not a JSON object", end=line.end)
            except (msgspec.DecodeError, RecursionError) as error:
                yield Fault(line.number, "json", f"not JSON: {error}", end=line.end)


class _Feed:
    """Lines for the CSV parser, with the faults and the extent of the row it is reading."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self.first = 0
        self.end = START
        self.fault: Fault | None = None

    def __iter__(self) -> Iterator[str]:
        while (line := next(self._lines, None)) is not None:
            self.first = self.first or line.number
            self.end = line.end
            self.fault = self.fault or line.fault
            yield line.text + "\n"

    def begin_row(self) -> None:
        self.first, self.fault = 0, None

    def go_on_with(self, lines: Iterator[_Line]) -> None:
        self._lines = lines


def _csv(file: BinaryIO, delimiter: str, start: Position) -> Iterator[Row | Fault]:
    """Rows of a CSV file whose first row names the columns."""
    # The csv module has one limit for the whole process; its own is 128 KiB.
    csv.field_size_limit(LONGEST)
    feed = _Feed(_iter_lines(file))
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header = next(_records(reader, feed), None)
    if header is None:
        return
    if isinstance(header, Fault):
        yield _fatal(header)
        return
    columns = [name.strip() for name in header]
    problem = _header_fault(columns, feed.first, delimiter)
    if problem is not None:
        yield problem
        return
    if start != START:
        feed.go_on_with(_iter_lines(file, start))
    for record in _records(reader, feed):
        if isinstance(record, Fault):
            yield record
        elif len(record) != len(columns):
            message = f"has {len(record)} fields, the header has {len(columns)}"
            yield Fault(feed.first, "csv", message, end=feed.end)
        else:
            yield Row(feed.first, dict(zip(columns, record, strict=True)), feed.end)


def _records(reader: Iterator[list[str]], feed: _Feed) -> Iterator[list[str] | Fault]:
    """Records as the CSV parser cuts them, blank ones passed over, and the faults in between."""
    while True:
        feed.begin_row()
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken = feed.fault or Fault(feed.first, "csv", f"not valid CSV: {error}")
            yield _ending(broken, feed.end)
            continue
        if feed.fault is not None:
            yield _ending(feed.fault, feed.end)
        elif record:
            yield record


def _header_fault(header: list[str], number: int, delimiter: str) -> Fault | None:
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        return Fault(number, "columns", f"the header names {min(twice)!r} twice", fatal=True)
    if len(header) == 1 and any(other in header[0] for other in ";\t,|" if other != delimiter):
        return Fault(
            number,
            "columns",
            f"the header is one column, {header[0]!r}; columns must be separated by {delimiter!r}",
            fatal=True,
        )
    return None


def _fatal(fault: Fault) -> Fault:
    return msgspec.structs.replace(fault, fatal=True)


def _ending(fault: Fault, end: Position) -> Fault:
    return msgspec.structs.replace(fault, end=end)
