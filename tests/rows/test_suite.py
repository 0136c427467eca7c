"""Suites: what is read, what is found wrong with which row, and what may certify."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from rung.errors import SuiteError
from rung.rows.example import Example, Sampling, matches
from rung.rows.file import LONGEST, Fault, Position, Row, iter_rows
from rung.rows.lint import Purpose, lint_suite
from rung.suite import (
    Overlap,
    Suite,
    certifying_rows,
    iter_examples,
    iter_unlabelled,
    load_suite,
    overlap,
)
from rung.task import Conversation, Kind, Label, Message, Passage, Privacy, Task
from rung.text import text_digest

TASK = Task(name="triage", kind=Kind.CLASSIFY, labels=(Label("card"), Label("loan")))
EXTRACT = Task(name="x", kind=Kind.EXTRACT, schema='{"type": "object", "required": ["n"]}')


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a folder of its own, so that messages hold short names."""
    monkeypatch.chdir(tmp_path)


def write(content: str | bytes, name: str = "s.jsonl") -> Path:
    """The path of a file with this content in the current folder."""
    path = Path(name)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(*cells: object) -> str:
    """JSONL of these objects."""
    return "".join(json.dumps(cell) + "\n" for cell in cells)


def found(path: Path, task: Task | None = TASK, for_: Purpose | None = None) -> list[str]:
    """Findings as `severity file:row: message`, what no example shows left out."""
    findings = lint_suite(path, task, for_=for_)
    return [
        f"{item.severity.value} {findings.sentence(item)}"
        for item in findings.items
        if item.code != "unseen-label"
    ]


GOOD = rows({"input": "my card", "expected": "card"}, {"input": "my loan", "expected": "loan"})


def test_every_column_arrives() -> None:
    """Every cell of a full row is in the example."""
    path = write(
        rows(
            {
                "id": 7,
                "input": "my card",
                "expected": "card",
                "alternatives": ["loan"],
                "tags": ["edge-case"],
                "group": "g",
                "source": "mail",
                "privacy": "secret",
                "sampling": "traffic",
                "probability": 0.5,
                "graded_by": "ann",
                "graded_at": "2026-11-01",
            }
        )
    )
    assert list(iter_examples(path, TASK)) == [
        Example(
            id="7",
            input="my card",
            expected="card",
            alternatives=("loan",),
            tags=("edge-case",),
            group="g",
            source="mail",
            privacy=Privacy.SECRET,
            sampling=Sampling.TRAFFIC,
            probability=0.5,
            graded_by="ann",
            graded_at="2026-11-01",
            row=1,
        )
    ]


def test_csv_and_jsonl_of_the_same_rows_are_the_same_suite() -> None:
    """Format, order, white space, ids and names of columns do not change the digest; an answer does."""
    jsonl = load_suite(write(GOOD), TASK, for_="test")
    csv = write("\ufeffid,text,label\r\nz,my  LOAN,loan\r\ny,My card,card\r\n", "s.csv")
    assert load_suite(csv, TASK, for_="test").digest == jsonl.digest
    other = write(GOOD.replace('"loan"}', '"card"}'), "o.jsonl")
    assert load_suite(other, TASK, for_="test").digest != jsonl.digest


def test_csv_cells_hold_lists_and_lines() -> None:
    """In CSV a list is separated by `;` or is JSON, a quoted cell may span lines, and rows keep their line."""
    path = write(
        'id,input,expected,tags,alternatives\n1,"a\nb",card,x; y,"[""loan""]"\n2,c,loan,,\n',
        "s.csv",
    )
    first, second = iter_examples(path, TASK)
    assert (first.text, first.tags, first.alternatives) == ("a\nb", ("x", "y"), ("loan",))
    assert (first.row, second.row, second.tags) == (2, 4, ())


def test_typed_inputs() -> None:
    """Questions with their document and conversations are read for the kinds that take them."""
    answer = Task(name="a", kind=Kind.ANSWER)
    chat = Task(name="c", kind=Kind.CHAT)
    nested = {"question": "q", "document": "d"}
    passages = write(rows({"input": nested, "expected": "e"}, {**nested, "expected": "e"}))
    assert [e.input for e in iter_examples(passages, answer)] == [Passage("q", "d")] * 2
    turns = {"messages": [{"role": "user", "content": "hi"}]}
    talk = write(rows({"input": turns, "expected": "e"}), "c.jsonl")
    assert [e.input for e in iter_examples(talk, chat)] == [Conversation((Message("user", "hi"),))]
    assert found(talk, answer) == [
        "error c.jsonl:1: input is a conversation; kind 'answer' takes text"
    ]


FAULTS: dict[str, tuple[str | bytes, str, list[str]]] = {
    "empty": ("", "s.jsonl", ["error s.jsonl: has no rows"]),
    "blank": ("\n \n", "s.jsonl", ["error s.jsonl: has no rows"]),
    "header only": ("text,label\n", "s.csv", ["error s.csv: has no rows"]),
    "binary": (b"\x89PNG\0\0\0", "s.jsonl", ["error s.jsonl: is a binary file"]),
    "zip": (
        b"PK\x03\x04xl/workbook.xml",
        "s.csv",
        ["error s.csv: is a zip archive or a spreadsheet; save it as CSV or JSONL"],
    ),
    "UTF-16": (
        "text,label\n".encode("utf-16"),
        "s.csv",
        ["error s.csv: is UTF-16, not UTF-8; save it as UTF-8"],
    ),
    "other name": (
        GOOD,
        "s.txt",
        ["error s.txt: the name must end in .jsonl, .ndjson, .csv or .tsv"],
    ),
    "encoding": (
        b"text,label\nok,card\ncaf\xe9,card\nlast,loan\n",
        "s.csv",
        ["error s.csv:3: not UTF-8 (byte 0xe9 at offset 22 of the file)"],
    ),
    "NUL": (GOOD.encode() + b'{"in\0"}\n', "s.jsonl", ["error s.jsonl:3: holds a NUL byte"]),
    "not JSON": (
        GOOD + '{"input": \n',
        "s.jsonl",
        ["error s.jsonl:3: not JSON: Input data was truncated"],
    ),
    "half a surrogate": (
        GOOD + '{"input": "\\ud800", "expected": "card"}\n',
        "s.jsonl",
        [
            "error s.jsonl:3: not JSON: JSON is malformed: unexpected end of escaped utf-16 "
            "surrogate pair (byte 17)"
        ],
    ),
    "no object": (GOOD + "[1]\n", "s.jsonl", ["error s.jsonl:3: not a JSON object"]),
    "CSV": (
        'text,label\n"a"b,card\nc\nd,loan\n"e,card\n',
        "s.csv",
        [
            "error s.csv:2: not valid CSV: ',' expected after '\"'",
            "error s.csv:3: has 1 fields, the header has 2",
            "error s.csv:5: not valid CSV: unexpected end of data",
        ],
    ),
    "semicolons": (
        "text;label\na;card\n",
        "s.csv",
        ["error s.csv:1: the header is one column, 'text;label'; columns must be separated by ','"],
    ),
    "column twice": (
        "text,text\na,b\n",
        "s.csv",
        ["error s.csv:1: the header names 'text' twice"],
    ),
    "column under two names": (
        "text,input,label\na,a,card\n",
        "s.csv",
        ["error s.csv:1: 'text' and 'input' are the same column; keep one"],
    ),
    "wrong column": (
        "input,lable\na,card\n",
        "s.csv",
        [
            "error s.csv:1: no column 'expected' (or 'label' or 'category'); found: input, lable; "
            "did you mean 'label'?"
        ],
    ),
    "unused column": (
        rows(
            {"input": "a", "expected": "card", "tag": "x"},
            {"input": "b", "expected": "loan", "tag": "x"},
        ),
        "s.jsonl",
        ["warning s.jsonl:1: column 'tag' is not used; did you mean 'tags'?"],
    ),
    "no text, no label": (
        rows({"input": "  ", "expected": None}),
        "s.jsonl",
        ["error s.jsonl:1: input is empty", "error s.jsonl:1: expected is empty"],
    ),
    "input that is no text": (
        rows({"input": 3, "expected": "card"}),
        "s.jsonl",
        ["error s.jsonl:1: input must be text, {question, document} or {messages}, not int"],
    ),
    "label that is no text": (
        rows({"input": "a", "expected": 3}),
        "s.jsonl",
        ["error s.jsonl:1: expected must be text or a list of texts, not 3"],
    ),
    "unknown label": (
        rows({"input": "a", "expected": "crad"}),
        "s.jsonl",
        ["error s.jsonl:1: 'crad' is not a label of task 'triage'; did you mean 'card'?"],
    ),
    "two labels": (
        rows({"input": "a", "expected": ["card", "loan"]}),
        "s.jsonl",
        [
            "error s.jsonl:1: expected has 2 labels, but a classify task gives one answer; put the "
            "other right ones in 'alternatives'"
        ],
    ),
    "id twice": (
        rows(
            {"id": "a", "input": "a", "expected": "card"},
            {"id": "b", "input": "b", "expected": "loan"},
            {"id": "a", "input": "c", "expected": "card"},
        ),
        "s.jsonl",
        ["error s.jsonl:3: id 'a' is that of row 1 too"],
    ),
    "text twice": (
        GOOD + rows({"input": "MY  card", "expected": "card"}),
        "s.jsonl",
        ["warning s.jsonl:3: the same text as row 1"],
    ),
    "conflict": (
        GOOD + rows({"input": "MY  card", "expected": "loan"}),
        "s.jsonl",
        [
            "warning s.jsonl:3: the same text as row 1 with another answer: 'loan' here, 'card' there"
        ],
    ),
    "wrong words": (
        rows(
            {
                "input": "a",
                "expected": "card",
                "privacy": "publik",
                "sampling": "x",
                "probability": 0,
                "tags": 1,
            }
        ),
        "s.jsonl",
        [
            "error s.jsonl:1: tags must be a list of texts, not 1",
            "error s.jsonl:1: privacy must be 'public', 'internal', 'personal' or 'secret', "
            "not 'publik'; did you mean 'public'?",
            "error s.jsonl:1: sampling must be 'traffic' or 'curated', not 'x'",
            "error s.jsonl:1: probability must be a number above 0 and at most 1, not 0",
        ],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found_with_its_row(name: str) -> None:
    """Each kind of fault is one sentence with file and row, and the rows around it are still read."""
    content, file, sentences = FAULTS[name]
    assert found(write(content, file)) == sentences


def test_what_cannot_be_opened() -> None:
    """A missing file and a folder are sentences."""
    Path("d.csv").mkdir()
    assert found(Path("d.csv")) == ["error d.csv: is a folder, not a file"]
    assert found(Path("no.csv")) == ["error no.csv: no such file"]
    with pytest.raises(SuiteError, match=r"^no.csv: no such file$"):
        list(iter_examples(Path("no.csv")))


def test_an_endless_line_is_refused_in_bounded_memory() -> None:
    """A line that never ends costs no more than the limit, whatever the file's size."""
    path = write(GOOD)
    with path.open("ab") as file:
        file.write(b'{"input": "x')
        file.truncate(5 * 2**30)  # sparse: 5 GiB of nothing on disk
    tracemalloc.start()
    sentences = found(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sentences == ["error s.jsonl:3: longer than 10 MiB; the rest of the file was not read"]
    assert peak < 4 * LONGEST


def test_rows_after_a_long_line_can_still_be_read() -> None:
    """A reader that wants to goes on behind a line that is too long, in either format."""
    long = "x" * (LONGEST + 5)
    jsonl = write(f'{{"a": 1}}\n"{long}"\n{{"a": 2}}\n')
    assert list(iter_rows(jsonl)) == [
        Row(1, {"a": 1}, Position(9, 1)),
        Fault(2, "long", "longer than 10 MiB", end=Position(9, 1)),
        Row(3, {"a": 2}, Position(9 + len(long) + 3 + 9, 3)),
    ]
    csv = write(f"a,b\n1,2\n{long}\n3,4\n", "s.csv")
    assert [row.number if isinstance(row, Row) else row.code for row in iter_rows(csv)] == [
        2,
        "long",
        4,
    ]


@pytest.mark.parametrize("name", ["s.jsonl", "s.csv"])
def test_reading_goes_on_behind_any_row(name: str) -> None:
    """A row's end is all it takes to read what comes after it, whatever stands between."""
    content = {
        "s.jsonl": '{"a": 1}\n\n{bad\n{"a": "é"}\r\n\n{"a": 3}\n',
        "s.csv": 'a,b\n1,2\n\n"two\nlines",é\n1,2,3\n5,6\n',
    }[name]
    path = write("\ufeff" + content, name)
    rows = list(iter_rows(path))
    assert len(rows) == 4
    for place, row in enumerate(rows, start=1):
        assert row.end is not None
        assert list(iter_rows(path, row.end)) == rows[place:]


def test_an_unclosed_quote_takes_no_more_than_the_limit() -> None:
    """A quote that swallows the rest of a file is given up at the limit."""
    path = write('a,b\n"open,1\n' + ("x" * 10_000 + ",y\n") * (LONGEST // 5_000), "s.csv")
    tracemalloc.start()
    first = next(iter(iter_rows(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(first, Fault)
    assert first.row == 2
    assert peak < 8 * LONGEST


def test_streaming_holds_one_row_at_a_time() -> None:
    """Reading many examples takes no more memory than reading few."""
    path = write("input,expected\n" + "".join(f"text {n},card\n" for n in range(10_000)), "s.csv")
    tracemalloc.start()
    count = sum(1 for _ in iter_examples(path, TASK))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 2**20


def test_streaming_stops_at_the_first_fault() -> None:
    """A stream of examples ends in an error that names the row."""
    examples = iter_examples(write(GOOD + rows({"input": "a", "expected": "x"})), TASK)
    assert [next(examples).row, next(examples).row] == [1, 2]
    with pytest.raises(SuiteError, match=r"^s.jsonl:3: 'x' is not a label of task 'triage'$"):
        next(examples)


def test_inputs_need_no_answers() -> None:
    """Unlabelled rows can be read as inputs."""
    rows = list(iter_unlabelled(write("text\na\nb\n", "s.csv"), TASK))
    assert [row.input for row in rows] == ["a", "b"]


def test_extraction_answers_keep_the_schema() -> None:
    """An expected object that breaks the task's schema is an error; in CSV it is written as JSON."""
    path = write('input,expected\na,"{""n"": 1}"\nb,{}\nc,nope\n', "s.csv")
    findings = found(path, EXTRACT)
    assert [line.partition(": ")[0] for line in findings] == ["error s.csv:3", "error s.csv:4"]
    assert next(iter(iter_examples(path, EXTRACT))).expected == {"n": 1}


def test_labels_without_an_example_are_named() -> None:
    """A label of the task that no row has is worth a warning."""
    findings = lint_suite(write(rows({"input": "a", "expected": "card"})), TASK)
    assert [item.message for item in findings.warnings] == ["no example of 'loan'"]


def test_other_names_of_columns_are_told() -> None:
    """A column that was read under another name is named in the findings."""
    findings = lint_suite(write("text,category\na,card\nb,loan\n", "s.csv"), TASK)
    assert findings.renamed == {"text": "input", "category": "expected"}


def test_a_faulty_file_is_no_suite() -> None:
    """Loading reports the first ten errors and how to see all of them."""
    path = write(rows(*({"input": f"t{n}", "expected": "x"} for n in range(12))))
    with pytest.raises(SuiteError) as caught:
        load_suite(path, TASK, for_="training")
    lines = caught.value.message.splitlines()
    assert lines[0] == "s.jsonl:1: 'x' is not a label of task 'triage'"
    assert lines[10:] == ["s.jsonl: and 2 more"]
    assert caught.value.hint == "rung suite lint s.jsonl --task triage shows all"


def test_calibration_counts_a_repeated_text_once() -> None:
    """Rows with the same text are not independent: one counts, the others are named."""
    path = write(GOOD + rows({"input": "MY card", "expected": "card"}))
    suite = load_suite(path, TASK, for_="calibration")
    assert [example.row for example in suite.examples] == [1, 2]
    assert [item.message for item in suite.warnings] == ["the same text as row 1; counted once"]
    assert len(load_suite(path, TASK, for_="training").examples) == 3


def test_calibration_refuses_a_text_with_two_truths() -> None:
    """The same text with different answers has no truth to certify against, unless both count as right."""
    clash = rows({"input": "MY card", "expected": "loan"})
    with pytest.raises(SuiteError, match=r"^s.jsonl:3: the same text as row 1 with another answer"):
        load_suite(write(GOOD + clash), TASK, for_="calibration")
    both = rows({"input": "MY card", "expected": "loan", "alternatives": ["card"]})
    assert len(load_suite(write(GOOD + both), TASK, for_="calibration").examples) == 2


def test_groups_are_worth_a_warning_for_calibration() -> None:
    """Rows of one group are not independent, and the certificate does not know."""
    path = write(rows(*({"input": t, "expected": "card", "group": "g"} for t in "ab")))
    messages = [item.message for item in lint_suite(path, None, for_="calibration").warnings]
    assert messages == [
        "2 rows share a group with another row: they are not independent, and the certificate "
        "counts them as if they were"
    ]


def example(
    row: int, text: str, sampling: Sampling | None = None, p: float | None = None
) -> Example:
    """An example of `card` at a row."""
    return Example(
        id=str(row), input=text, expected="card", sampling=sampling, probability=p, row=row
    )


def test_overlap_is_found_by_normalised_text() -> None:
    """Texts that read alike in two suites are reported with both rows."""
    one = Suite("a", (example(1, "x"), example(2, "Straße  1"), example(3, "z")))
    two = Suite("b", (example(7, "STRASSE 1"), example(8, "strasse 1"), example(9, "y")))
    assert overlap(one, two) == (Overlap(row=2, other=7),)
    assert text_digest("Straße  1") == text_digest("strasse 1")


def test_rows_that_do_not_say_are_taken_as_traffic() -> None:
    """Sampling is `stated` only when every row says so."""
    silent = Suite("s", (example(1, "a"), example(2, "b"), example(3, "A")))
    assert certifying_rows(silent).sampling == "assumed"
    assert [e.row for e in certifying_rows(silent).examples] == [1, 2]
    said = Suite(
        "s", (example(1, "a", Sampling.TRAFFIC, 0.1), example(2, "b", Sampling.TRAFFIC, 0.1))
    )
    assert certifying_rows(said).sampling == "stated"


REFUSED = {
    "curated": (
        [example(1, "a", Sampling.TRAFFIC), example(2, "b", Sampling.CURATED)],
        "s: row 2 has sampling = 'curated': chosen rows say nothing about the error on traffic",
    ),
    "silent": (
        [example(1, "a", Sampling.TRAFFIC), example(2, "b"), example(3, "c")],
        "s: rows 2, 3 have no sampling, the others say 'traffic'",
    ),
    "unequal": (
        [example(1, "a", p=0.1), example(2, "b", p=0.5), example(3, "c", p=0.1)],
        "s: row 2 has another probability than row 1 (0.1): the bound holds for rows that were "
        "drawn with equal chances",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_cannot_certify(name: str) -> None:
    """Curated, half-described and unequally drawn rows are refused by row."""
    examples, sentence = REFUSED[name]
    with pytest.raises(SuiteError) as caught:
        certifying_rows(Suite("s", tuple(examples)))
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("expected", "value", "right"),
    [
        ("card", "card", True),
        ("card", "loan", False),
        ("An  Answer", "an answer", True),
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": ["A"]}, {"n": ["a"]}, True),
        ({"n": 1}, {"n": 1, "m": 2}, False),
        (("a", "b"), ["b", "a"], True),
        (["a", "b"], ["b", "a"], False),
        ("card", None, False),
    ],
)
def test_what_counts_as_right(expected: object, value: object, right: bool) -> None:
    """Texts are compared normalised, objects by value, sets of labels in any order; true is not 1."""
    assert matches(Example(id="1", input="a", expected=expected), value) is right


def test_an_alternative_counts_as_right() -> None:
    """Any of an example's answers is right."""
    both = Example(id="1", input="a", expected="card", alternatives=("loan",))
    assert matches(both, "loan")


def test_the_public_set_is_clean(shared_data: Path) -> None:
    """BANKING77's training file has no errors: its 10,003 rows, four of them repeated."""
    findings = lint_suite(shared_data / "banking77" / "train.csv", None)
    assert (findings.rows, findings.errors) == (10_003, ())
    assert {item.code for item in findings.warnings} == {"duplicate"}
