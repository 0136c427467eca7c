"""What `rung calibrate` says it may cost before it asks a rung that charges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from projects import openai_rung, write_project
from rung.cli import root as command_line

PRICE = """price = { input_per_million = "1000", output_per_million = "0", currency = "USD",\
 date = "2026-11-01" }"""
CLASSIFY = 'format = 1\nkind = "classify"\nlabels = ["a", "b"]\n'
RECORDS = {
    "extract": ('format = 1\nkind = "extract"\n[schema]\ntype = "object"\n', {}),
    "call": (
        'format = 1\nkind = "call"\n[[tools]]\nname = "book"\n',
        {"name": "book", "arguments": {}},
    ),
}


def asked(root: Path, task: str, expected: object) -> str:
    """The question before three rows are sent to a priced rung, which is answered with no."""
    rung = openai_rung("cloud", "http://127.0.0.1:9", accept="certified", more=PRICE)
    config = write_project(root, rung, ("cloud",), task=task)
    rows = [{"id": str(n), "input": f"text {n}", "expected": expected} for n in range(3)]
    suite = root / "cal.jsonl"
    suite.write_text("\n".join(map(json.dumps, rows)) + "\n")
    words = ["calibrate", "triage", "--on", str(suite), "--config", str(config)]
    done = CliRunner().invoke(command_line, words, input="n\n")
    assert done.exit_code != 0
    return done.output


def test_a_label_is_one_call(tmp_path: Path) -> None:
    """Nothing is asked for twice."""
    assert "up to 3 calls of priced rungs" in asked(tmp_path, CLASSIFY, "a")


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_may_be_two_calls(tmp_path: Path, kind: str) -> None:
    """One that breaks its schema is asked for again, and charged again."""
    task, expected = RECORDS[kind]
    assert "up to 6 calls of priced rungs" in asked(tmp_path, task, expected)
