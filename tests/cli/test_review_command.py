"""`rung review`, as typed in a project's folder: what waits, as lines, and off the list again."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from projects import write_project
from rung.cli import root as rung
from rung.errors import InputError, StorageError
from rung.review import ReviewItem, ReviewStore
from rung.userfiles.settings import load_settings

Run = Callable[..., Result]
RECEIPT = "01JD0000000000000000000000"
REASON = "no rung was sure enough"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A function that runs `rung` on a project."""
    config = write_project(tmp_path)
    return lambda *arguments: CliRunner().invoke(rung, [*arguments, "--config", str(config)])


def put_for_review(root: Path, *keys: str) -> None:
    """Items for review, in the project's own store."""
    settings = load_settings(root / "rung.toml")
    store = ReviewStore.open(settings.ledger, root=settings.root)
    store.put_many(
        [
            ReviewItem(
                key=key,
                task="triage",
                label="personal",
                receipt=RECEIPT,
                reason=REASON,
                input_digest="cd" * 16,
                created="2126-11-01T12:00:00.000+00:00",
                text="a text that is not kept",
            )
            for key in keys
        ]
    )
    store.close()


def test_review_lists_what_waits(run: Run, tmp_path: Path) -> None:
    """How many, then a line each with key, receipt and reason, then what to do."""
    assert run("review", "list").stdout == "0 open items for review\n"
    put_for_review(tmp_path, "run 1:0")
    assert run("review", "list").stdout.startswith("1 open item for review\n")
    put_for_review(tmp_path, "run 1:1", RECEIPT)
    lines = run("review", "list", "-n", "2").stdout.splitlines()
    assert lines[:4] == [
        "3 open items for review",
        f"  {RECEIPT}   triage   personal   {REASON}",
        f"  run 1:0   receipt {RECEIPT}   triage   personal   {REASON}",
        "  … 1 more",
    ]
    facts = json.loads(run("review", "list", "--json").stdout)
    assert (facts["format"], facts["count"], len(facts["items"])) == (1, 3, 3)


def test_review_exports_lines(run: Run, tmp_path: Path) -> None:
    """One JSON object a line, to the terminal or to a file that only its owner may read."""
    put_for_review(tmp_path, "run 1:0", "run 1:1")
    path = tmp_path / "review.jsonl"
    path.write_text("an older export")
    path.chmod(0o644)
    assert run("review", "export", "-o", str(path)).exit_code == 0
    items = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [(item["key"], item["text"]) for item in items] == [("run 1:0", None), ("run 1:1", None)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("review", "export").stdout_bytes == path.read_bytes()
    assert run("review", "export", "--status", "done").stdout_bytes == b""


def test_an_export_that_cannot_be_written_is_a_sentence(run: Run, tmp_path: Path) -> None:
    """A folder in place of a file is named."""
    result = run("review", "export", "-o", str(tmp_path))
    assert isinstance(result.exception, StorageError)
    assert "it is a folder" in result.exception.message


def test_items_that_are_done_leave_the_list(run: Run, tmp_path: Path) -> None:
    """How many were closed and how many remain; closing one again changes nothing."""
    put_for_review(tmp_path, "a", "b", "c")
    assert run("review", "done", "a", "b").stdout == "2 items closed · 1 still open\n"
    assert run("review", "done", "b").stdout == "0 items closed · 1 still open\n"
    assert run("review", "list").stdout.startswith("1 open item for review\n  c   ")
    facts = json.loads(run("review", "done", "c", "--json").stdout)
    assert facts == {"format": 1, "closed": 1, "open": 0}


def test_an_unknown_key_closes_nothing(run: Run, tmp_path: Path) -> None:
    """It is named, and the known ones beside it stay open."""
    put_for_review(tmp_path, "a")
    result = run("review", "done", "a", "x")
    assert isinstance(result.exception, InputError)
    assert result.exception.message == "no item for review has the key 'x'; nothing was changed"
    assert result.exception.exit_code == 2
    assert run("review", "list").stdout.startswith("1 open item for review\n")
