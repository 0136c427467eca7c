"""Labelled examples as values: loaded whole and checked, or streamed; never used twice for what must not meet.

What a row must look like is in `example`, what can be wrong with a file in `lint`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rung.errors import SuiteError
from rung.rows.example import (
    Example,
    Expected,
    Sampling,
    matches,
    parse_example,
    parse_input,
    read_cell,
)
from rung.rows.file import Fault, Row, iter_rows
from rung.rows.lint import Finding, Purpose, Scan, answer_problem
from rung.task import Input, Privacy, Task, input_text
from rung.text import normalize, text_digest
from rung.userfiles.document import shown_path

__all__ = [
    "Example",
    "Expected",
    "Overlap",
    "Purpose",
    "Sampling",
    "Suite",
    "Unlabelled",
    "certifying_rows",
    "iter_examples",
    "iter_unlabelled",
    "load_suite",
    "matches",
    "overlap",
]

SHOWN = 10
"""Findings printed in one error; the rest are counted."""


class Suite(msgspec.Struct, frozen=True, dict=True):
    """Labelled examples for one purpose.

    Attributes:
        name: the file's name, or what the caller calls it.
        examples: in file order.
        warnings: what was found in the file that did not keep it from being used.
    """

    name: str
    examples: tuple[Example, ...]
    warnings: tuple[Finding, ...] = ()

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of what the rows say, whatever their order, ids, format or white space."""
        rows = sorted(
            hashlib.sha256(
                msgspec.json.encode(
                    (
                        normalize(example.text),
                        example.expected,
                        example.alternatives,
                        example.group,
                        example.privacy,
                        example.sampling,
                        example.probability,
                    ),
                    order="sorted",
                )
            ).digest()
            for example in self.examples
        )
        return hashlib.sha256(b"".join(rows)).hexdigest()

    @property
    def sampling(self) -> str:
        """`stated` when every row says it was drawn from traffic, else `assumed`."""
        drawn = all(example.sampling is Sampling.TRAFFIC for example in self.examples)
        return "stated" if drawn and self.examples else "assumed"


class Overlap(msgspec.Struct, frozen=True):
    """A text that stands in two suites: its row in the first and in the other."""

    row: int
    other: int


def load_suite(path: Path, task: Task | None, *, for_: Purpose) -> Suite:
    """The suite at `path`, checked as a whole; all of it is in memory.

    For calibration, rows with the same text and answer are counted once: the first is kept, the others are named
    in `warnings`.

    Args:
        path: a JSONL, CSV or TSV file.
        task: what inputs and answers are checked against, None for no such check.
        for_: what it is to be used for.

    Raises:
        SuiteError: the file cannot be used; the first findings with their rows.
    """
    scan = Scan(path, task, for_)
    examples = tuple(scan)
    findings = scan.findings
    errors = findings.errors
    if errors:
        lines = [findings.sentence(finding) for finding in errors[:SHOWN]]
        if len(errors) > SHOWN:
            lines.append(f"{findings.path}: and {len(errors) - SHOWN} more")
        raise SuiteError("\n".join(lines), hint=_lint_hint(findings.path, task, len(errors)))
    kept = _unique(examples) if for_ == "calibration" else examples
    return Suite(path.name, kept, findings.warnings)


def iter_examples(path: Path, task: Task | None = None) -> Iterator[Example]:
    """Examples of the suite at `path`, one at a time in constant memory, rows checked one by one.

    What needs more than one row to see (duplicates, conflicts, labels without an example) is not looked for.

    Raises:
        SuiteError: at the first row that is not an example.
    """
    empty = True
    for row in iter_rows(path):
        empty = False
        yield _checked(path, row, task)
    if empty:
        raise SuiteError(f"{shown_path(path)}: has no rows")


class Unlabelled(msgspec.Struct, frozen=True):
    """A row that needs no answer: its line, what it asks, and the privacy label it states."""

    row: int
    input: Input | str
    privacy: Privacy | None

    @property
    def text(self) -> str:
        """The input as one string."""
        return self.input if isinstance(self.input, str) else input_text(self.input)


def iter_unlabelled(path: Path, task: Task | None = None) -> Iterator[Unlabelled]:
    """Rows of a file that need no answers, one at a time in constant memory.

    Raises:
        SuiteError: at the first row that has no input, or states a label that is none.
    """
    empty = True
    for row in iter_rows(path):
        empty = False
        if isinstance(row, Fault):
            raise _row_error(path, row.row, row.message)
        value, problems = parse_input(row, task.kind if task is not None else None)
        if value is None:
            raise _row_error(path, row.number, problems[0].message)
        yield Unlabelled(row.number, value, _privacy(path, row))
    if empty:
        raise SuiteError(f"{shown_path(path)}: has no rows")


def _privacy(path: Path, row: Row) -> Privacy | None:
    cell = row.cells.get("privacy")
    if cell is None or cell == "":
        return None
    try:
        return Privacy(read_cell("privacy", cell))
    except ValueError as error:
        raise _row_error(path, row.number, f"privacy {error}") from error


def _checked(path: Path, row: Row | Fault, task: Task | None) -> Example:
    if isinstance(row, Fault):
        raise _row_error(path, row.row, row.message)
    example, problems = parse_example(row, task.kind if task is not None else None)
    if example is None:
        raise _row_error(path, row.number, problems[0].message)
    wrong = answer_problem(example, task)
    if wrong is not None:
        raise _row_error(path, row.number, wrong.message)
    return example


def _row_error(path: Path, row: int, message: str) -> SuiteError:
    if not row:  # about the file as a whole: there is nothing further to look at
        return SuiteError(f"{shown_path(path)}: {message}", hint="check the path and the format")
    return SuiteError(
        f"{shown_path(path)}:{row}: {message}",
        hint=f"rung suite lint {path} shows all there is to mend",
    )


def overlap(suite: Suite, other: Suite) -> tuple[Overlap, ...]:
    """Rows of `suite` whose normalised text also stands in `other`, each with the first row there."""
    there: dict[int, int] = {}
    for example in other.examples:
        there.setdefault(text_digest(example.text), example.row)
    pairs = ((example.row, there.get(text_digest(example.text))) for example in suite.examples)
    return tuple(Overlap(row, found) for row, found in pairs if found is not None)


def certifying_rows(suite: Suite) -> Suite:
    """The rows of `suite` that may certify: drawn from traffic, all with the same chance, each text once.

    Rows that do not say how they were chosen are taken as traffic, and `sampling` of the result is then `assumed`.

    Raises:
        SuiteError: rows were chosen by someone, with unequal chances, or only some of them say how.
    """
    curated = [e.row for e in suite.examples if e.sampling is Sampling.CURATED]
    if curated:
        raise SuiteError(
            f"{suite.name}: {_rows(curated)} sampling = 'curated': chosen rows say nothing about the "
            "error on traffic",
            hint="certify on rows drawn from traffic; use curated rows to train or to test",
        )
    silent = [e.row for e in suite.examples if e.sampling is None]
    if 0 < len(silent) < len(suite.examples):
        raise SuiteError(
            f"{suite.name}: {_rows(silent)} no sampling, the others say 'traffic'",
            hint="say sampling = 'traffic' on every row it is true of, and leave the others out",
        )
    chances = {e.probability for e in suite.examples}
    if len(chances) > 1:
        usual = suite.examples[0].probability
        odd = [e.row for e in suite.examples if e.probability != usual]
        raise SuiteError(
            f"{suite.name}: {_rows(odd)} another probability than row {suite.examples[0].row} "
            f"({usual!r}): the bound holds for rows that were drawn with equal chances",
            hint="draw the rows to grade uniformly from traffic",
        )
    return msgspec.structs.replace(suite, examples=_unique(suite.examples))


def _unique(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The first row of each normalised text."""
    first: dict[int, Example] = {}
    for example in examples:
        first.setdefault(text_digest(example.text), example)
    return tuple(first.values())


def _rows(rows: Sequence[int]) -> str:
    """`row 3 has`, `rows 3, 9 and 12 more have`."""
    if len(rows) == 1:
        return f"row {rows[0]} has"
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"rows {', '.join(map(str, rows[:SHOWN]))}{more} have"


def _lint_hint(path: str, task: Task | None, errors: int) -> str | None:
    if errors <= SHOWN:
        return None
    return f"rung suite lint {path}{f' --task {task.name}' if task is not None else ''} shows all"
