"""`rung ask` and `rung train` as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from projects import examples, openai_rung, train, write_project, write_suite
from upstream import Upstream


def rung(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The real command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "rung", *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained and certified project."""
    config = write_project(tmp_path_factory.mktemp("ask"))
    train(config)
    write_suite(config.parent / "cal.jsonl", examples(300, seed=2))
    done = rung(config.parent, "calibrate", "triage", "--on", "cal.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    return config.parent


def test_the_answer_comes_first_and_then_why(project: Path) -> None:
    """The first line is the answer alone; the certificate, policy rule and receipt follow."""
    done = rung(project, "ask", "the courier lost my parcel", "--task", "triage")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == "delivery"
    assert "certified: at most 10 % wrong, 95 % sure (triage@" in done.stdout
    assert "policy.egress.personal" in done.stdout


def test_no_answer_says_why_and_exits_4(project: Path) -> None:
    """An unsure ladder abstains, queues the text for review, and says so."""
    done = rung(project, "ask", "qqq zzz", "--task", "triage", "--privacy", "secret")
    assert done.returncode == 4
    assert done.stdout.startswith("no answer: ")
    assert "queued for review as " in done.stdout


def test_an_answer_that_was_asked_for_twice_says_so(tmp_path: Path) -> None:
    """A person who reads a record should know that the first one broke its schema."""
    task = """format = 1
kind = "extract"
[schema]
type = "object"
required = ["people"]
properties.people.type = "integer"
"""
    said = ['{"people":"four"}', '{"people":4}']
    with Upstream(answer=lambda call: said.pop(0)) as upstream:
        write_project(tmp_path, openai_rung("local", upstream.url), ("local",), task=task)
        done = rung(tmp_path, "ask", "a table for 4", "--task", "triage")
    assert done.stdout.splitlines()[0] == '{"people":4}'
    assert "  repaired  the first answer broke the schema; this is the second" in done.stdout


def test_an_engine_that_is_down_exits_3(tmp_path: Path) -> None:
    """The sentence names the rung that failed, and a program can tell it from an unsure one."""
    quick = "[rungs.local.limits]\nretries = 0"
    write_project(tmp_path, openai_rung("local", "http://127.0.0.1:9/v1", more=quick), ("local",))
    done = rung(tmp_path, "ask", "where is my parcel", "--task", "triage")
    assert done.returncode == 3
    assert done.stdout.startswith("no answer: no rung answered: local failed\n")


def test_json_holds_the_same_facts(project: Path) -> None:
    """One object: the answer and the whole receipt, with their format."""
    done = rung(project, "ask", "-", "--task", "triage", "--json", stdin="my password please")
    found = json.loads(done.stdout)
    assert (found["format"], found["answer"], found["receipt"]["format"]) == (1, "login", 1)
    assert found["receipt"]["bound"]["max_error"] == 0.1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ask", " ", "--task", "triage"), "there is no text to answer"),
        (("ask", "hello", "--task", "triag"), "triage"),
        (("ask", "hello", "--task", "triage", "--config", "no.toml"), "no such file"),
        (("train", "triage", "--on", "no.jsonl"), "no such file"),
        (("calibrate", "triage", "--on", "no.jsonl"), "no such file"),
        (("calibrate", "triage"), "--on SUITE is missing"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    project: Path, words: tuple[str, ...], sentence: str
) -> None:
    """Never a traceback."""
    done = rung(project, *words)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_training_says_how_good_it_is_on_rows_it_had_not_seen(tmp_path: Path) -> None:
    """With an interval, and with what comes next."""
    write_project(tmp_path)
    write_suite(tmp_path / "fit.jsonl", examples(150, seed=1, noise=0.1))
    done = rung(tmp_path, "train", "triage", "--on", "fit.jsonl", "--processes", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "trained on 150 examples, 3 labels" in done.stdout
    assert "on 150 rows it had not seen" in done.stdout


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("a b", "refund"), ("c d", "refund")], "label"),
        ([("a b", "refund"), ("c d", "no such label")], "no such label"),
        ([], "has no rows"),
    ],
)
def test_a_suite_that_cannot_train_is_refused(
    tmp_path: Path, rows: list[tuple[str, str]], sentence: str
) -> None:
    """One class only, an unknown label, an empty file."""
    write_project(tmp_path)
    write_suite(tmp_path / "fit.jsonl", rows)
    done = rung(tmp_path, "train", "triage", "--on", "fit.jsonl")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()
