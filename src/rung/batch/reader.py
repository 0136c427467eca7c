"""Rows of a batch's input as requests, or the reason why a row is none: chunk by chunk, in bounded memory.

A row is named by the line it begins on, here and in every file a batch writes. Two rows with the same id are two
rows; to look for such ids in ten million rows would take memory that grows with the file.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rung.errors import InputError
from rung.receipt import JsonValue
from rung.rows.example import column_problem, parse_input, read_cell, unknown_columns
from rung.rows.file import START, Fault, Position, Row, iter_rows
from rung.task import Input, Kind, Privacy, Request, Task, input_text
from rung.userfiles.document import shown_path

CHUNK_ROWS = 2048
"""Rows of a chunk: a few of a student's micro-batches."""

CHUNK_CHARACTERS = 1 << 21
"""Characters after which a chunk takes no further row."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A row that can be asked: its line, its place in the file, what is asked and how long that is."""

    row: int
    end: Position
    request: Request
    characters: int


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A row that cannot be asked: its line, its place in the file, a stable word and a sentence."""

    row: int
    end: Position
    code: str
    reason: str


class InputReader:
    """Reads the input of a run from where an earlier process left off.

    Args:
        path: a JSONL, CSV or TSV file.
        task: what is asked of every row.
        run: id of the run; with the row it makes the idempotency key.
        start: where to begin.
        after: rows up to this one are passed over.
    """

    def __init__(
        self, path: Path, task: Task, run: str, *, start: Position = START, after: int = 0
    ) -> None:
        self.path = path
        self._task = task
        self._run = run
        self._after = after
        self._rows = iter_rows(path, start)

    def next_chunk(self) -> list[Asked | Reject]:
        """The next rows, none at the end of the file.

        Raises:
            InputError: the file cannot be read any further.
        """
        chunk: list[Asked | Reject] = []
        characters = 0
        for row in self._rows:
            item = self._read(row)
            if item.row <= self._after:
                continue
            chunk.append(item)
            if isinstance(item, Asked):
                characters += item.characters
            if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
                break
        return chunk

    def _read(self, row: Row | Fault) -> Asked | Reject:
        if isinstance(row, Fault):
            if row.fatal:
                raise _file_error(self.path, row)
            return Reject(row.row, row.end, row.code, row.message)
        value, problems = parse_input(row, self._task.kind)
        if value is None:
            return Reject(row.number, row.end, problems[0].code, problems[0].message)
        try:
            name, privacy = _name(row), _privacy(row)
        except ValueError as error:
            return Reject(row.number, row.end, str(error).partition(" ")[0], str(error))
        key = f"{self._run}:{row.number}"
        request = Request(self._task.name, value, name, privacy, key)
        return Asked(row.number, row.end, request, _characters(value))


def check_input(path: Path, kind: Kind) -> list[str]:
    """Make sure that there is something to read; columns nobody reads, each as a sentence.

    Raises:
        InputError: the file is missing, empty, not text, or has no column to ask.
    """
    first = next(iter_rows(path), None)
    if first is None:
        raise InputError(f"{shown_path(path)}: has no rows")
    if isinstance(first, Fault):
        if first.fatal:
            raise _file_error(path, first)
        return []
    problem = column_problem(first.cells, labelled=False)
    if problem is not None and path.suffix.lower() in (".csv", ".tsv"):
        raise InputError(f"{shown_path(path)}: {problem.message}")
    return unknown_columns(first.cells)


def _name(row: Row) -> str:
    """The row's id, `row-N` when it has none, as suites call it."""
    cell = row.cells.get("id")
    if cell is None or cell == "":
        return f"row-{row.number}"
    return str(_cell("id", cell))


def _privacy(row: Row) -> Privacy | None:
    cell = row.cells.get("privacy")
    return None if cell is None or cell == "" else Privacy(_cell("privacy", cell))


def _cell(name: str, cell: JsonValue) -> JsonValue:
    try:
        return read_cell(name, cell)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _characters(value: Input | str) -> int:
    return len(value) if isinstance(value, str) else len(input_text(value))


def _file_error(path: Path, fault: Fault) -> InputError:
    place = f"{shown_path(path)}:{fault.row}" if fault.row else shown_path(path)
    return InputError(f"{place}: {fault.message}")
