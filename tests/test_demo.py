"""The demo, as `make demo` runs it: the promise is kept, and the last line says so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, so that a run leaves the checkout as it was."""
    copy = tmp_path_factory.mktemp("checkout") / "examples" / "support"
    made = shutil.ignore_patterns("out", "models", "certificates", "rung*.db*")
    shutil.copytree(ROOT / "examples" / "support", copy, ignore=made)
    return copy


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """The final JSON of one run."""
    done = subprocess.run(
        [sys.executable, str(folder / "demo.py"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    facts: dict[str, Any] = json.loads(line)
    return facts


def test_every_question_is_answered_or_held_back(found: dict[str, Any]) -> None:
    """Nothing is lost on the way."""
    assert found["rows"] == 3080
    assert found["answered_on_device"] + found["abstained"] == 3080


@pytest.mark.parametrize(
    ("task", "target", "coverage"),
    [("triage", "0.05", 0.87), ("triage", "0.02", 0.62), ("booking", "0.05", 0.4)],
)
def test_the_promise_is_kept_on_known_answers(
    found: dict[str, Any], task: str, target: str, coverage: float
) -> None:
    """Most rows are answered, and no more of them are wrong than was certified."""
    one = found["tasks"][task]["targets"][target]
    assert one["certified_error"] == float(target)
    assert one["measured_error"] <= one["certified_error"]
    assert one["coverage"] >= coverage


def test_the_headline_is_the_tasks_own_target(found: dict[str, Any]) -> None:
    """The top level repeats the 5 % run of the first task."""
    headline = found["tasks"]["triage"]["targets"]["0.05"]
    assert {key: found[key] for key in headline} == headline


def test_both_rungs_answer_and_the_rest_waits_for_people(found: dict[str, Any]) -> None:
    """The language model answers some of what the student was not sure of, and reads bookings alone."""
    triage, booking = found["tasks"]["triage"], found["tasks"]["booking"]
    assert list(triage["answered_by"]) == ["student", "starter"]
    assert min(triage["answered_by"].values()) > 0
    assert list(booking["answered_by"]) == ["starter"]
    assert booking["abstained"] > 0


def test_what_was_held_back_can_be_read_by_people(found: dict[str, Any], folder: Path) -> None:
    """The review queue holds each unanswered row of the headline runs, with its text."""
    lines = (folder / "out" / "review.jsonl").read_text().splitlines()
    assert len(lines) == sum(task["abstained"] for task in found["tasks"].values())
    assert all(json.loads(line)["text"] for line in lines)


def test_the_report_is_one_file_that_needs_nothing(found: dict[str, Any], folder: Path) -> None:
    """No script, no address: it opens offline."""
    page = (folder / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
