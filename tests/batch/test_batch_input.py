"""Bad input: rows go to the rejects with a reason, files that cannot be used are one sentence, nothing is lost."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from batch_runs import ids, results_kept, rows, run

from projects import openai_rung, write_project
from rung.batch.output import RejectRow
from rung.batch.reader import InputReader
from rung.errors import InputError
from rung.project import Project
from rung.rows.file import LONGEST
from upstream import Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A server that answers everything."""
    with Upstream(answer=lambda call: "refund") as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, upstream: Upstream) -> Path:
    """A project whose one rung is the server."""
    return write_project(tmp_path, openai_rung("local", upstream.url), ("local",))


def rejected(config: Path) -> list[tuple[int, str, str]]:
    """Rows, codes and reasons of the rejects file."""
    lines = (config.parent / "out.rejects.jsonl").read_bytes().splitlines()
    found = [msgspec.json.decode(line, type=RejectRow) for line in lines]
    return [(row.row, row.code, row.reason) for row in found]


GOOD = b'{"id": "a", "text": "hello"}\n'

REJECTS = {
    "not JSON": (b'{"text": "x"\n', "json", "not JSON: Input data was truncated"),
    "not an object": (b'["x"]\n', "json", "not a JSON object"),
    "no text": (b'{"id": "b"}\n', "columns", "no column 'input' (or 'text'); found: id"),
    "empty text": (b'{"id": "b", "text": "  "}\n', "empty-text", "input is empty"),
    "null text": (b'{"text": null}\n', "empty-text", "input is empty"),
    "a number": (
        b'{"text": 5}\n',
        "input",
        "input must be text, {question, document} or {messages}, not int",
    ),
    "a question for a classifier": (
        b'{"question": "q", "document": "d"}\n',
        "input",
        "input is a passage; kind 'classify' takes text",
    ),
    "not UTF-8": (
        b'{"text": "\xff"}\n',
        "encoding",
        "not UTF-8 (byte 0xff at offset 39 of the file)",
    ),
    "an unknown label": (
        b'{"text": "x", "privacy": "secrte"}\n',
        "privacy",
        "privacy must be 'public', 'internal', 'personal' or 'secret', not 'secrte'; did you mean 'secret'?",
    ),
    "an id that is none": (
        b'{"text": "x", "id": [1]}\n',
        "id",
        "id must be text, not [1]",
    ),
    "too long": (
        b'{"text": "' + b"x" * (LONGEST + 5) + b'"}\n',
        "long",
        "longer than 10 MiB",
    ),
}


@pytest.mark.parametrize("name", REJECTS)
def test_a_bad_row_goes_to_the_rejects(config: Path, tmp_path: Path, name: str) -> None:
    """With its row and a reason; the rows around it are answered and the exit code is 3."""
    bad, code, reason = REJECTS[name]
    source = tmp_path / "in.jsonl"
    source.write_bytes(GOOD + bad + GOOD)
    summary = run(config, source)
    assert rejected(config) == [(2, code, reason)]
    assert [row.row for row in rows(config)] == [1, 3]
    assert (summary.rows, summary.rejected_by, summary.exit_code) == (3, {code: 1}, 3)


def test_a_bad_csv_row_goes_to_the_rejects(config: Path, tmp_path: Path) -> None:
    """Too few or too many fields, an empty text, bytes that are no text; rows are counted in lines."""
    source = tmp_path / "in.csv"
    source.write_bytes(b'id,text\n1,"two\nlines"\n2\n3,x,y\n4,\n5,\xe9\n\n6,"say ""hi"""\n')
    summary = run(config, source)
    assert rejected(config) == [
        (4, "csv", "has 1 fields, the header has 2"),
        (5, "csv", "has 3 fields, the header has 2"),
        (6, "empty-text", "input is empty"),
        (7, "encoding", "not UTF-8 (byte 0xe9 at offset 35 of the file)"),
    ]
    assert [(row.row, row.id) for row in rows(config)] == [(2, "1"), (9, "6")]
    assert summary.rejected == 4


def test_two_rows_with_one_id_are_two_rows(config: Path, tmp_path: Path) -> None:
    """Rows are told apart by their place; a row without an id is called by it."""
    source = tmp_path / "in.jsonl"
    source.write_bytes(GOOD + GOOD + b'{"text": "x"}\n{"text": "y", "id": 7}\n')
    run(config, source)
    assert ids(rows(config)) == ["a", "a", "row-3", "7"]


FILES = {
    "missing": (None, "in.jsonl: no such file"),
    "empty": (b"", "in.jsonl: has no rows"),
    "blank": (b"\n\n \n", "in.jsonl: has no rows"),
    "binary": (b"\x7fELF\0\0\0", "in.jsonl: is a binary file"),
    "UTF-16": (
        '{"text": "x"}'.encode("utf-16"),
        "in.jsonl: is UTF-16, not UTF-8; save it as UTF-8",
    ),
    "gzip": (b"\x1f\x8b\x08", "in.jsonl: is compressed (gzip); unpack it first"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_a_sentence(config: Path, tmp_path: Path, name: str) -> None:
    """And nothing is written."""
    content, sentence = FILES[name]
    source = tmp_path / "in.jsonl"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(InputError) as refused:
        run(config, source)
    assert str(refused.value).endswith(sentence)
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "in.csv",
            b"id,words\n1,x\n",
            "in.csv: no column 'input' (or 'text'); found: id, words",
        ),
        ("in.csv", b"id;text\n1;x\n", "columns must be separated by ','"),
        ("in.txt", b"x\n", "the name must end in .jsonl, .ndjson, .csv or .tsv"),
    ],
)
def test_a_file_of_another_shape_is_a_sentence(
    config: Path, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    """A header without a text is told once and not for every row."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        run(config, tmp_path / name)
    assert sentence in str(refused.value)


def test_a_folder_is_a_sentence(config: Path, tmp_path: Path) -> None:
    """As input."""
    (tmp_path / "in.jsonl").mkdir()
    with pytest.raises(InputError, match="is a folder, not a file"):
        run(config, tmp_path / "in.jsonl")


def test_a_line_of_five_gib_costs_no_memory(config: Path, tmp_path: Path) -> None:
    """The line is rejected as soon as it is too long, in bounded memory."""
    source = tmp_path / "in.jsonl"
    with source.open("wb") as file:
        file.write(GOOD + b'{"text": "x')
        file.truncate(5 * 2**30)  # sparse: 5 GiB of nothing on disk
    project = Project.open(config)
    reader = InputReader(source, project.task("triage"), "run")
    tracemalloc.start()
    first, second = [reader._read(row) for _, row in zip(range(2), reader._rows, strict=False)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (first.row, second.row) == (1, 2)
    assert peak < 4 * LONGEST


def test_a_run_goes_on_behind_rejects(config: Path, tmp_path: Path) -> None:
    """Rejected rows are written once as well, also when the run is taken up behind a line that was too long."""
    source = tmp_path / "in.jsonl"
    bad = b'{"text": "' + b"x" * (LONGEST + 5) + b'"}\n'
    source.write_bytes(b"{bad\n" + GOOD + bad + GOOD)
    run(config, source)
    before = rejected(config)
    output = (tmp_path / "out.jsonl").read_bytes()
    summary = run(config, source)
    assert (summary.rows, summary.rows_now, summary.exit_code) == (4, 0, 3)
    assert rejected(config) == before
    assert (tmp_path / "out.jsonl").read_bytes() == output
    assert results_kept(config) == 0


def test_inputs_of_other_kinds(tmp_path: Path, upstream: Upstream) -> None:
    """A question with its document, and a conversation, are asked as suites write them."""
    task = 'format = 1\nkind = "{}"\ninstructions = "Answer."\n'
    asked = {
        "answer": {"question": "who?", "document": "It was the butler."},
        "chat": {"messages": [{"role": "user", "content": "hello"}]},
    }
    for kind, value in asked.items():
        root = tmp_path / kind
        root.mkdir()
        config = write_project(
            root, openai_rung("local", upstream.url), ("local",), task=task.format(kind)
        )
        (root / "in.jsonl").write_text(json.dumps({"input": value}) + "\n")
        assert run(config, root / "in.jsonl").answered == 1
