"""Everything that is wrong with a file of labelled examples, each finding with its row.

`suite` refuses files with errors; this module only finds. A finding never holds an example's text.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from rung.rows.example import (
    ALIASES,
    Example,
    Problem,
    answer_key,
    column_problem,
    parse_example,
    unknown_columns,
)
from rung.rows.file import Fault, Row, iter_rows
from rung.task import Kind, Task
from rung.text import text_digest
from rung.userfiles.document import did_you_mean, shown_path, shown_value

Purpose = Literal["training", "calibration", "test"]
"""What a suite is for. One row serves one purpose."""


class Severity(enum.StrEnum):
    """Whether the suite can be used all the same."""

    ERROR = "error"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        row: line the row begins on; 0 when it is about the file.
        severity: errors keep the suite from being used.
        code: a stable word for the kind of finding.
        message: what is wrong, in a sentence.
        other: the earlier row it clashes with, None when there is none.
    """

    row: int
    severity: Severity
    code: str
    message: str
    other: int | None = None


class Findings(msgspec.Struct, frozen=True):
    """What was found in one file.

    Attributes:
        path: the file, as a person would type it.
        rows: rows read, bad ones included.
        items: findings in the order of the file.
        renamed: columns read under another name, for example `text` as `input`.
    """

    path: str
    rows: int
    items: tuple[Finding, ...]
    renamed: dict[str, str]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that keep the suite from being used."""
        return tuple(item for item in self.items if item.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that do not."""
        return tuple(item for item in self.items if item.severity is Severity.WARNING)

    def sentence(self, finding: Finding) -> str:
        """`file:row: what is wrong`."""
        place = f"{self.path}:{finding.row}" if finding.row else self.path
        return f"{place}: {finding.message}"


def lint_suite(path: Path, task: Task | None = None, *, for_: Purpose | None = None) -> Findings:
    """Everything wrong with the suite at `path`.

    Memory grows with the number of rows (some 300 bytes each), not with their texts.

    Args:
        path: a JSONL, CSV or TSV file.
        task: when given, inputs and answers are checked against it.
        for_: what it is to be used for. Rows with the same text but different answers are an error for
            calibration, where each row needs one truth, and a warning otherwise; rows with the same text and
            answer are a warning, and calibration counts them once.
    """
    scan = Scan(path, task, for_)
    for _ in scan:
        pass
    return scan.findings


def answer_problem(example: Example, task: Task | None) -> Problem | None:
    """Why an answer of `example` cannot be one of the task's, None when all can."""
    if task is None:
        return None
    for answer in example.answers:
        if task.kind is Kind.CLASSIFY and isinstance(answer, tuple):
            return Problem(
                "multi-label",
                f"expected has {len(answer)} labels, but a classify task gives one answer; "
                "put the other right ones in 'alternatives'",
            )
        broken = task.contract.violation(answer)
        if broken is not None and task.kind is Kind.CLASSIFY:
            return Problem(
                "unknown-label",
                f"{shown_value(answer)} is not a label of task {task.name!r}"
                + did_you_mean(answer, task.label_names),
            )
        if broken is not None:
            return Problem("schema", f"expected: {broken}")
    return None


class Scan:
    """One pass over a suite: yields its good examples and collects findings on the way.

    Args:
        path, task, for_: as for `lint_suite`.
    """

    def __init__(self, path: Path, task: Task | None, for_: Purpose | None) -> None:
        self._path = path
        self._task = task
        self._for = for_
        self._kind = task.kind if task is not None else None
        self._labels = task.label_names if task is not None else ()
        self._seen_labels: set[str] = set()
        self._ids: dict[str, int] = {}
        self._texts: dict[int, tuple[int, str | tuple[str, ...]]] = {}
        self._groups: dict[str, int] = {}
        self._columns: dict[str, None] = {}
        self._found: list[Finding] = []
        self._rows = 0

    def __iter__(self) -> Iterator[Example]:
        for row in iter_rows(self._path):
            if isinstance(row, Fault):
                self._rows += row.row > 0
                if self._take_fault(row):
                    break
                continue
            self._rows += 1
            new_columns = [name for name in row.cells if name not in self._columns]
            self._columns.update(dict.fromkeys(row.cells))
            if self._rows == 1 and self._path.suffix.lower() in (".csv", ".tsv"):
                problem = column_problem(row.cells)
                if problem is not None:
                    self._error(1, problem)
                    break
            for sentence in unknown_columns(new_columns):
                self._warn(row.number, "columns", sentence)
            example = self._take(row)
            if example is not None:
                yield example
        self._look_at_whole()

    @property
    def findings(self) -> Findings:
        """What was found so far."""
        items = sorted(self._found, key=lambda finding: finding.row)
        renamed = {name: ALIASES[name] for name in self._columns if name in ALIASES}
        return Findings(shown_path(self._path), self._rows, tuple(items), renamed)

    def _take_fault(self, fault: Fault) -> bool:
        """Note a fault; whether reading on is pointless."""
        long = fault.code == "long"
        rest = "; the rest of the file was not read" if long else ""
        self._error(fault.row, Problem(fault.code, fault.message + rest))
        return fault.fatal or long

    def _take(self, row: Row) -> Example | None:
        example, problems = parse_example(row, self._kind)
        if example is None:
            for problem in problems:
                self._error(row.number, problem)
            return None
        wrong = answer_problem(example, self._task)
        if wrong is not None:
            self._error(row.number, wrong)
        elif self._labels:
            self._seen_labels.update(example.answers)
        first = self._ids.setdefault(example.id, row.number)
        if first != row.number:
            self._error(
                row.number,
                Problem("duplicate-id", f"id {shown_value(example.id)} is that of row {first} too"),
                first,
            )
        if example.group is not None:
            self._groups[example.group] = self._groups.get(example.group, 0) + 1
        if wrong is not None:
            return None
        self._compare_text(example)
        return example if first == row.number else None

    def _compare_text(self, example: Example) -> None:
        """Note a text that was there before, with the same answer or with another one."""
        keys = tuple(sys.intern(answer_key(answer)) for answer in example.answers)
        digest = text_digest(example.text)
        if digest not in self._texts:
            self._texts[digest] = (example.row, keys[0] if len(keys) == 1 else keys)
            return
        row, known = self._texts[digest]
        if set(keys) & set((known,) if isinstance(known, str) else known):
            once = "; counted once" if self._for == "calibration" else ""
            self._warn(example.row, "duplicate", f"the same text as row {row}{once}", row)
            return
        there = known if isinstance(known, str) else known[0]
        problem = Problem(
            "conflict",
            f"the same text as row {row} with another answer: "
            f"{shown_value(keys[0])} here, {shown_value(there)} there",
        )
        if self._for == "calibration":
            self._error(example.row, problem, row)
        else:
            self._warn(example.row, problem.code, problem.message, row)

    def _look_at_whole(self) -> None:
        """Findings that only show when every row has been read."""
        if self._rows == 0 and not self._found:
            self._error(0, Problem("empty", "has no rows"))
        unseen = [label for label in self._labels if label not in self._seen_labels]
        if unseen and self._seen_labels:
            more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
            names = ", ".join(repr(label) for label in unseen[:3])
            self._warn(0, "unseen-label", f"no example of {names}{more}")
        shared = sum(count for count in self._groups.values() if count > 1)
        if shared and self._for == "calibration":
            self._warn(
                0,
                "group",
                f"{shared} rows share a group with another row: they are not independent, and the "
                "certificate counts them as if they were",
            )

    def _error(self, row: int, problem: Problem, other: int | None = None) -> None:
        self._found.append(Finding(row, Severity.ERROR, problem.code, problem.message, other))

    def _warn(self, row: int, code: str, message: str, other: int | None = None) -> None:
        self._found.append(Finding(row, Severity.WARNING, code, message, other))
