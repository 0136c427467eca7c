"""One labelled example, and how the cells of a row become one.

Columns: `id`, `input` (or `question` and `document`), `expected`, `alternatives`, `tags`, `group`, `source`,
`privacy`, `sampling`, `probability`, `graded_by`, `graded_at`. `text` is another name of `input`; `label` and
`category` are other names of `expected`. In CSV, lists are separated by `;` or written as JSON.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import msgspec

from rung.receipt import JsonValue
from rung.rows.file import Row
from rung.task import (
    RECORD_KINDS,
    Conversation,
    Input,
    Kind,
    Passage,
    Privacy,
    Text,
    input_text,
)
from rung.text import normalize
from rung.userfiles.document import did_you_mean, one_of, shown_value


class Sampling(enum.StrEnum):
    """How an example came into its suite: drawn from traffic as it comes, or chosen by someone."""

    TRAFFIC = "traffic"
    CURATED = "curated"


Expected = JsonValue
"""A label, a tuple of labels, a JSON value or a text, by the task's kind."""

ALIASES = {"text": "input", "label": "expected", "category": "expected"}


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One input with the answer it should get.

    Attributes:
        id: its name; `row-N` when the file gives none.
        input: what the task works on; a plain string stands for `Text`.
        expected: the right answer.
        alternatives: other answers that count as right.
        tags: words to select examples by, for example `edge-case`.
        group: what it shares with examples it is not independent of: a customer, a conversation.
        source: where it comes from.
        privacy: privacy label of this input; may only raise the task's.
        sampling: how it was chosen, None when the file does not say.
        probability: chance it had of being chosen, None when the file does not say.
        graded_by, graded_at: who said what is right, and when.
        row: line it begins on, from 1; 0 when it comes from no file.
    """

    id: str
    input: Input | str
    expected: Expected
    alternatives: tuple[Expected, ...] = ()
    tags: tuple[str, ...] = ()
    group: str | None = None
    source: str | None = None
    privacy: Privacy | None = None
    sampling: Sampling | None = None
    probability: float | None = None
    graded_by: str | None = None
    graded_at: str | None = None
    row: int = 0

    @property
    def text(self) -> str:
        """The input as one string."""
        return self.input if isinstance(self.input, str) else input_text(self.input)

    @property
    def answers(self) -> tuple[Expected, ...]:
        """Every answer that counts as right, the expected one first."""
        return (self.expected, *self.alternatives)


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with one cell: a stable word, and a sentence."""

    code: str
    message: str


def matches(example: Example, value: JsonValue) -> bool:
    """Whether `value` is a right answer: one of the example's, texts compared as `normalize` reads them.

    Labels are texts that differ after normalising (task files are checked for it), so for them this is equality.
    """
    return any(_same(answer, value) for answer in example.answers)


def answer_key(answer: Expected) -> str:
    """A string that is equal for equal answers."""
    return (
        answer if isinstance(answer, str) else msgspec.json.encode(answer, order="sorted").decode()
    )


def column_problem(columns: Collection[str], *, labelled: bool = True) -> Problem | None:
    """Why rows with these columns cannot be examples or, when not `labelled`, inputs."""
    return _column_problem(tuple(columns), labelled)


@functools.lru_cache(64)  # most rows of a file have the columns of the row before
def _column_problem(columns: tuple[str, ...], labelled: bool) -> Problem | None:
    for name, canonical in ALIASES.items():
        others = [other for other in columns if ALIASES.get(other, other) == canonical]
        if name in columns and len(others) > 1:
            return Problem(
                "columns", f"{' and '.join(map(repr, others))} are the same column; keep one"
            )
    present = {ALIASES.get(name, name) for name in columns}
    if not present & {"input", "question"}:
        return _missing("input", ("input", "text"), columns)
    if labelled and "expected" not in present:
        return _missing("expected", ("expected", "label", "category"), columns)
    return None


def unknown_columns(columns: Collection[str]) -> list[str]:
    """Columns that mean nothing here, each as a sentence."""
    return [
        f"column {name!r} is not used{did_you_mean(name, _COLUMNS)}"
        for name in columns
        if name not in _COLUMNS
    ]


def parse_example(row: Row, kind: Kind | None) -> tuple[Example | None, list[Problem]]:
    """The example in `row`, or None and everything that is wrong with it.

    Args:
        row: cells by column name.
        kind: the task's, None when no task is known.
    """
    columns = column_problem(row.cells)
    if columns is not None:
        return None, [columns]
    cells = {
        ALIASES.get(name, name): cell for name, cell in row.cells.items() if cell not in ("", None)
    }
    problems: list[Problem] = []
    values: dict[str, JsonValue] = {}
    for name, read in _READERS.items():
        if name in cells:
            try:
                values[name] = read(cells[name], kind)
            except ValueError as error:
                problems.append(Problem(name, f"{name} {error}"))
    values["input"] = _input(cells, kind, problems)
    if "expected" not in cells or _is_blank(cells["expected"]):
        problems.append(Problem("empty-label", "expected is empty"))
    if problems:
        return None, problems
    values.setdefault("id", f"row-{row.number}")
    return Example(row=row.number, **values), []


def parse_input(row: Row, kind: Kind | None) -> tuple[Input | str | None, list[Problem]]:
    """The input in `row`, whatever its other cells hold, or None and everything that is wrong with it."""
    column = column_problem(row.cells, labelled=False)
    if column is not None:
        return None, [column]
    problems: list[Problem] = []
    cells = {ALIASES.get(name, name): cell for name, cell in row.cells.items() if cell != ""}
    return _input(cells, kind, problems), problems


def read_cell(name: str, cell: JsonValue, kind: Kind | None = None) -> JsonValue:
    """The value of a cell in column `name`, which is any but those of the input.

    Raises:
        ValueError: what it must be instead; the column's name goes in front of it.
    """
    return _READERS[name](cell, kind)


def _input(
    cells: Mapping[str, JsonValue], kind: Kind | None, problems: list[Problem]
) -> Input | str | None:
    """The typed input, None with the problem noted."""
    cell: JsonValue = cells.get("input")
    if cell is None and "question" in cells:
        cell = {"question": cells["question"], "document": cells.get("document")}
    if cell is None:
        problems.append(Problem("empty-text", "input is empty"))
        return None
    value = cell if isinstance(cell, str) else _typed_input(cell)
    if value is None:
        problems.append(
            Problem(
                "input",
                "input must be text, {question, document} or {messages}, "
                f"not {type(cell).__name__}",
            )
        )
    elif not (value if isinstance(value, str) else input_text(value)).strip():
        problems.append(Problem("empty-text", "input is empty"))
    elif kind is not None and not _suits(value, kind):
        problems.append(
            Problem(
                "input",
                f"input is a {type(value).__name__.lower()}; kind {kind.value!r} takes text",
            )
        )
    else:
        return value
    return None


def _typed_input(cell: JsonValue) -> Input | None:
    if not isinstance(cell, dict):
        return None
    kinds: dict[str, type[Input]] = {
        "text": Text,
        "question": Passage,
        "messages": Conversation,
    }
    for key, kind in kinds.items():
        if key in cell:
            try:
                return msgspec.convert({"type": _tag(kind)} | cell, kind)
            except msgspec.ValidationError:
                return None
    return None


def _tag(kind: type[Input]) -> JsonValue:
    return kind.__struct_config__.tag


def _suits(value: Input | str, kind: Kind) -> bool:
    """Passages are for `answer`, conversations for `chat`; text is for every kind."""
    if isinstance(value, Passage):
        return kind is Kind.ANSWER
    return kind is Kind.CHAT if isinstance(value, Conversation) else True


def _expected(cell: JsonValue, kind: Kind | None) -> Expected:
    if kind in RECORD_KINDS:
        return _json(cell) if isinstance(cell, str) else cell
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list) and cell and all(isinstance(item, str) for item in cell):
        return tuple(item.strip() for item in cell)
    if kind is None and isinstance(cell, dict):
        return cell
    raise ValueError(f"must be text or a list of texts, not {shown_value(cell)}")


def _alternatives(cell: JsonValue, kind: Kind | None) -> tuple[Expected, ...]:
    if isinstance(cell, str):
        cell = _json(cell) if cell.lstrip().startswith("[") else cell.split(";")
    if not isinstance(cell, list):
        raise ValueError(f"must be a list, not {shown_value(cell)}")
    return tuple(_expected(item, kind) for item in cell if not _is_blank(item))


def _tags(cell: JsonValue, kind: Kind | None) -> tuple[str, ...]:
    if isinstance(cell, str):
        cell = _json(cell) if cell.lstrip().startswith("[") else cell.split(";")
    if not isinstance(cell, list) or not all(isinstance(item, str) for item in cell):
        raise ValueError(f"must be a list of texts, not {shown_value(cell)}")
    return tuple(item.strip() for item in cell if item.strip())


def _json(cell: str) -> JsonValue:
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from error


def _word(cell: JsonValue, kind: Kind | None) -> str:
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise ValueError(f"must be text, not {shown_value(cell)}")
    return str(cell).strip()


Choice = TypeVar("Choice", bound=enum.StrEnum)


def _choice(choices: type[Choice]) -> Callable[[JsonValue, Kind | None], Choice]:
    """A reader of one of `choices`."""

    def read(cell: JsonValue, kind: Kind | None) -> Choice:
        try:
            return choices(cell)
        except ValueError:
            known = [choice.value for choice in choices]
            raise ValueError(
                f"must be {one_of(known)}, not {shown_value(cell)}{did_you_mean(cell, known)}"
            ) from None

    return read


def _probability(cell: JsonValue, kind: Kind | None) -> float:
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value <= 1:
        raise ValueError(f"must be a number above 0 and at most 1, not {shown_value(cell)}")
    return value


_READERS: dict[str, Callable[[JsonValue, Kind | None], JsonValue]] = {
    "id": _word,
    "expected": _expected,
    "alternatives": _alternatives,
    "tags": _tags,
    "group": _word,
    "source": _word,
    "privacy": _choice(Privacy),
    "sampling": _choice(Sampling),
    "probability": _probability,
    "graded_by": _word,
    "graded_at": _word,
}

_COLUMNS = frozenset({*_READERS, *ALIASES, "input", "question", "document"})


def _is_blank(cell: JsonValue) -> bool:
    return cell is None or cell == [] or (isinstance(cell, str) and not cell.strip())


def _missing(name: str, names: tuple[str, ...], columns: Collection[str]) -> Problem:
    guess = next(
        (g for g in (did_you_mean(c, names) for c in columns if c not in _COLUMNS) if g), ""
    )
    found = ", ".join(columns) or "none"
    return Problem("columns", f"no column {name!r} (or {one_of(names[1:])}); found: {found}{guess}")


def _same(left: JsonValue, right: JsonValue) -> bool:
    """JSON equality, with `true` unlike 1, and texts compared normalised."""
    if isinstance(left, str) and isinstance(right, str):
        return left == right or normalize(left) == normalize(right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, tuple) and isinstance(right, list | tuple):
        return {normalize(str(item)) for item in left} == {normalize(str(item)) for item in right}
    if isinstance(left, list) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
