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


class Row(msgspec.Struct, frozen=True):
    """One row: the line it begins on, from 1, and its cells by column."""

    number: int
    cells: Mapping[str, JsonValue]


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a row or, when `row` is 0, with the file.

    Attributes:
        row: line the row begins on.
        code: a stable word for the kind of fault.
        message: what is wrong, without the row's text.
        fatal: nothing after it can be read.
    """

    row: int
    code: str
    message: str
    fatal: bool = False


class _Line(msgspec.Struct, frozen=True):
    """One line without its end; when it has a fault, `text` is only good for finding the next row."""

    number: int
    text: str
    fault: Fault | None = None


def iter_rows(path: Path) -> Iterator[Row | Fault]:
    """Rows and faults of the file at `path`, in order; its name says the format.

    Memory is bounded by `LONGEST` whatever the file holds. A line that is longer is a fault, and asking for more
    reads on behind it.
    """
    suffix = path.suffix.lower()
    if suffix not in _JSONL and suffix not in _DELIMITERS:
        yield Fault(0, "format", "the name must end in .jsonl, .ndjson, .csv or .tsv", fatal=True)
        return
    try:
        with path.open("rb") as file:
            lines = _iter_lines(file)
            yield from _csv(lines, _DELIMITERS[suffix]) if suffix in _DELIMITERS else _jsonl(lines)
    except FileNotFoundError:
        yield Fault(0, "missing", "no such file", fatal=True)
    except IsADirectoryError:
        yield Fault(0, "folder", "is a folder, not a file", fatal=True)
    except OSError as error:
        yield Fault(0, "unreadable", f"cannot be read: {error.strerror}", fatal=True)


def _iter_lines(file: BinaryIO) -> Iterator[_Line]:
    """Lines of `file`, each decoded on its own so that one bad line spoils no other."""
    offset = number = 0
    while raw := file.readline(LONGEST + 1):
        number += 1
        if number == 1:
            problem = _not_text(raw)
            if problem is not None:
                yield _Line(1, "", Fault(0, "binary", problem, fatal=True))
                return
        start, offset = offset, offset + len(raw)
        if len(raw) > LONGEST and not raw.endswith(b"\n"):
            yield _Line(number, "", _too_long(number))
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST)
                offset += len(raw)
            continue
        yield _decoded(raw, number, start)


def _decoded(raw: bytes, number: int, start: int) -> _Line:
    content = raw.removeprefix(_BOM) if number == 1 else raw
    skipped = len(raw) - len(content)
    content = content.rstrip(b"\r\n")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        at = start + skipped + error.start
        message = f"not UTF-8 (byte 0x{content[error.start]:02x} at offset {at} of the file)"
        return _Line(number, content.decode(errors="replace"), Fault(number, "encoding", message))
    if "\0" in text:
        return _Line(number, text, Fault(number, "encoding", "holds a NUL byte"))
    return _Line(number, text)


def _not_text(beginning: bytes) -> str | None:
    """Why the file's beginning cannot be that of a text file."""
    for magic, problem in _MAGIC.items():
        if beginning.startswith(magic):
            return problem
    return "is a binary file" if b"\0" in beginning[:8192] else None


def _too_long(number: int) -> Fault:
    return Fault(number, "long", f"longer than {LONGEST // 2**20} MiB")


def _jsonl(lines: Iterator[_Line]) -> Iterator[Row | Fault]:
    """One JSON object a line; blank lines are passed over."""
    decoder = msgspec.json.Decoder(dict[str, JsonValue])
    for line in lines:
        if line.fault is not None:
            yield line.fault
        elif line.text and not line.text.isspace():
            try:
                yield Row(line.number, decoder.decode(line.text))
            except msgspec.ValidationError:
                yield Fault(line.number, "json", "not a JSON object")
            except (msgspec.DecodeError, RecursionError) as error:
                yield Fault(line.number, "json", f"not JSON: {error}")


class _Feed:
    """Lines for the CSV parser, with the faults and the first line number of the row it is reading."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self.first = 0
        self.fault: Fault | None = None

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.first = self.first or line.number
            self.fault = self.fault or line.fault
            yield line.text + "\n"

    def begin_row(self) -> None:
        self.first, self.fault = 0, None


def _csv(lines: Iterator[_Line], delimiter: str) -> Iterator[Row | Fault]:
    """Rows of a CSV file whose first row names the columns."""
    csv.field_size_limit(
        LONGEST
    )  # the csv module has one limit for the process; its own is 128 KiB
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        feed.begin_row()
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken = feed.fault or Fault(feed.first, "csv", f"not valid CSV: {error}")
            yield broken if header is not None else _fatal(broken)
            if header is None:
                return
            continue
        if feed.fault is not None:
            yield feed.fault if header is not None else _fatal(feed.fault)
            if header is None:
                return
        elif not record:
            continue
        elif header is None:
            header = [name.strip() for name in record]
            problem = _header_fault(header, feed.first, delimiter)
            if problem is not None:
                yield problem
                return
        elif len(record) != len(header):
            yield Fault(
                feed.first, "csv", f"has {len(record)} fields, the header has {len(header)}"
            )
        else:
            yield Row(feed.first, dict(zip(header, record, strict=True)))


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
