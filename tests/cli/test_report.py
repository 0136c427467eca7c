"""`rung report`: from an output and known answers to a page, or a sentence why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from projects import examples, train, write_project, write_suite
from rung.cli import root as command_line
from rung.errors import InputError


def rung(*words: str | Path) -> Result:
    """A command in this process; deliberate errors are left on the result."""
    return CliRunner().invoke(command_line, [str(word) for word in words])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certified project with a routed file and its truth."""
    config = write_project(tmp_path_factory.mktemp("report"))
    folder = config.parent
    train(config)
    write_suite(folder / "cal.jsonl", examples(300, seed=2))
    write_suite(folder / "new.jsonl", examples(80, seed=3))
    assert (
        rung("calibrate", "triage", "--on", folder / "cal.jsonl", "--config", config).exit_code == 0
    )
    batch = rung(
        "batch",
        folder / "new.jsonl",
        "--task",
        "triage",
        "-o",
        folder / "out.jsonl",
        "--config",
        config,
    )
    assert batch.exit_code == 0, batch.output
    return config


def test_it_measures_the_error_against_known_answers(project: Path) -> None:
    """With an exact interval, in the terminal's facts and on the page."""
    folder = project.parent
    done = rung(
        "report", folder / "out.jsonl", "--task", "triage", "--truth", folder / "new.jsonl",
        "--config", project, "--json",
    )  # fmt: skip
    found = json.loads(done.output)
    assert (found["rows"], found["known"]) == (80, found["answered"])
    assert found["error_low"] <= found["error"] <= found["error_high"]
    assert "Share wrong by share answered" in Path(found["page"]).read_text()


def test_without_truth_it_says_that_nothing_was_measured(project: Path) -> None:
    """Missing answers are not taken for right ones."""
    page = project.parent / "plain.html"
    done = rung(
        "report", project.parent / "out.jsonl", "--task", "triage", "-o", page, "--config", project
    )
    assert done.exit_code == 0
    assert "not measured" in page.read_text()


def test_a_match_by_line_is_said(project: Path) -> None:
    """Truth without ids could be of any file; the reader is told, and how many rows have no known answer."""
    lines = (project.parent / "new.jsonl").read_text().splitlines()[:50]
    bare = [json.dumps({k: v for k, v in json.loads(line).items() if k != "id"}) for line in lines]
    (project.parent / "bare.jsonl").write_text("\n".join(bare) + "\n")
    rung("batch", project.parent / "bare.jsonl", "--task", "triage", "-o", project.parent / "b.jsonl",
         "--config", project)  # fmt: skip
    done = rung("report", project.parent / "b.jsonl", "--task", "triage", "--truth",
                project.parent / "bare.jsonl", "--config", project)  # fmt: skip
    assert "rows were matched by their line" in done.output
    short = project.parent / "short.jsonl"
    short.write_text("\n".join(lines[:20]) + "\n")
    done = rung("report", project.parent / "out.jsonl", "--task", "triage", "--truth", short,
                "--config", project)  # fmt: skip
    assert "60 rows without a known answer in short.jsonl" in done.output


def test_truth_of_other_rows_is_refused(project: Path) -> None:
    """Files that share no id would measure nothing."""
    other = project.parent / "other.jsonl"
    other.write_text('{"id": "zzz", "input": "my parcel", "expected": "delivery"}\n')
    done = rung(
        "report",
        project.parent / "out.jsonl",
        "--task",
        "triage",
        "--truth",
        other,
        "--config",
        project,
    )
    assert isinstance(done.exception, InputError)
    assert "has an id that stands in" in str(done.exception)


def test_a_file_that_is_no_output_is_refused(project: Path) -> None:
    """With the line that is wrong."""
    done = rung("report", project.parent / "new.jsonl", "--task", "triage", "--config", project)
    assert isinstance(done.exception, InputError)
    assert "new.jsonl:1" in str(done.exception)
