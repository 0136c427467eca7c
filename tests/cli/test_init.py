"""`rung init`, `rung schema` and `rung suite lint`, as typed in a project's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rung.cli import root
from rung.errors import InputError
from rung.suite import load_suite
from rung.userfiles.settings import load_settings
from rung.userfiles.tasks import find_task


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an empty current folder."""
    monkeypatch.chdir(tmp_path)


def rung(*arguments: str) -> Result:
    """What the command line does with these arguments."""
    return CliRunner().invoke(root, arguments)


def test_init_writes_a_project_that_loads() -> None:
    """The starting project's settings, task and examples are all valid."""
    result = rung("init", "new")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:5] == [
        "wrote     new/rung.toml",
        "wrote     new/tasks/triage.toml",
        "wrote     new/suites/triage.jsonl",
        "wrote     new/.gitignore",
        "go        cd new",
    ]
    task = find_task(load_settings(Path("new")), "triage")
    suite = load_suite(Path("new/suites/triage.jsonl"), task, for_="training")
    assert (len(suite.examples), suite.warnings) == (12, ())


def test_init_overwrites_nothing() -> None:
    """When one of the files is there, nothing at all is written."""
    Path("rung.toml").write_text("mine")
    result = rung("init")
    assert isinstance(result.exception, InputError)
    assert result.exception.message == "rung.toml: already there; nothing was written"
    assert [path.name for path in Path().iterdir()] == ["rung.toml"]
    assert Path("rung.toml").read_text() == "mine"


def test_init_keeps_a_gitignore() -> None:
    """A repository's own `.gitignore` stays as it is, and what it should have is said."""
    Path(".gitignore").write_text("mine\n")
    result = rung("init")
    assert result.exit_code == 0
    assert Path(".gitignore").read_text() == "mine\n"
    assert "kept      .gitignore; it should have: *.db *.db-* *.key models/" in result.stdout


@pytest.mark.parametrize("file", ["task", "config"])
def test_schema_prints_json(file: str) -> None:
    """The output is a JSON Schema and nothing else."""
    result = rung("schema", file)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$schema"].endswith("2020-12/schema")


def test_lint_of_a_clean_suite() -> None:
    """A suite without a fault is one line and exit code 0."""
    rung("init")
    result = rung("suite", "lint", "suites/triage.jsonl", "--task", "triage")
    assert result.exit_code == 0
    assert result.stdout == "12 rows for task 'triage': 0 errors, 0 warnings\n"


def test_lint_prints_findings_and_shared_texts() -> None:
    """Faults and texts shared with another suite are lines with rows, and exit code 2."""
    rung("init")
    Path("a.csv").write_text("text,label\nWhere is MY parcel?,delivery\nx,delivry\nx y,account\n")
    result = rung("suite", "lint", "a.csv", "--task", "triage", "--against", "suites/triage.jsonl")
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        "warning  a.csv: no example of 'billing'",
        "error    a.csv:3: 'delivry' is not a label of task 'triage'; did you mean 'delivery'?",
        "error    a.csv:2: the same text as row 5 of suites/triage.jsonl",
        "3 rows for task 'triage': 2 errors, 1 warning",
        "columns read as: text → input, label → expected",
    ]


def test_lint_as_json_has_everything() -> None:
    """`--json` is one object with every finding, whatever `--limit` says."""
    Path("a.csv").write_text("text,label\n" + ",x\n" * 5)
    result = rung("suite", "lint", "a.csv", "--limit", "2", "--json")
    report = json.loads(result.stdout)
    assert report["format"] == 1
    assert [item["row"] for item in report["findings"]["items"]] == [2, 3, 4, 5, 6]
