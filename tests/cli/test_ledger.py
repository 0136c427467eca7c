"""`rung ledger`, as typed in a project's folder."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from rung.cli import root as rung
from rung.errors import InputError, StorageError
from rung.ids import new_id, now
from rung.ledger.writer import Egress, Ledger, ReceiptEntry
from rung.receipt import Attempt, Bound, Receipt, Standing, Verdict

RUNG_TOML = """
format = 1

[rungs.student]
engine = "student"
model = "models/{task}"
where = "device"

[ladders]
default = ["student"]
"""

ANSWERED = Receipt(
    id=new_id(),
    created=now(),
    task="triage",
    task_digest="ab" * 32,
    input_digest="cd" * 16,
    label="internal",
    rule="policy.egress.internal",
    allowed=("student", "site"),
    attempts=(
        Attempt("student", "device", Verdict.UNSURE, "0.340 ≤ 0.610", 0.34, 0.61, latency_ms=0.3),
        Attempt("site", "site", Verdict.ACCEPTED, "", 0.97, 0.72, cost=5_000, latency_ms=80.0),
    ),
    answered_by="site",
    standing=Standing.CERTIFIED,
    bound=Bound("triage@9f3c12ab", 0.05, 0.95, "human", 2000),
    cost=5_000,
    top_cost=900_000,
    price_date="2026-11-01",
    latency_ms=81.2,
    request_id="row 7",
    run="run 1",
)
HELD = msgspec.structs.replace(
    ANSWERED,
    id=new_id(),
    label="personal",
    rule="policy.egress.personal",
    allowed=("student",),
    attempts=(
        ANSWERED.attempts[0],
        Attempt("site", "site", Verdict.FORBIDDEN, "personal may not go to site"),
    ),
    answered_by=None,
    standing=Standing.ABSTAINED,
    standing_reason="not sure enough, and policy keeps this text from the other rungs",
    bound=None,
    cost=0,
)
LEFT = Egress(
    id=new_id(),
    created=now(),
    receipt=ANSWERED.id,
    task="triage",
    rung="site",
    where="site",
    host="llm.example:8000",
    label="internal",
    rule="policy.egress.internal",
    input_digest="cd" * 16,
)

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A function that runs `rung` on a project with two receipts and one item for review."""
    (tmp_path / "rung.toml").write_text(RUNG_TOML, encoding="utf-8")

    async def write() -> None:
        async with Ledger.open("sqlite:///rung.db", root=tmp_path) as ledger:
            await ledger.append([LEFT])
            await ledger.append([ReceiptEntry(ANSWERED), ReceiptEntry(HELD)])

    asyncio.run(write())

    def invoke(*arguments: str) -> Result:
        config = ["--config", str(tmp_path / "rung.toml")]
        return CliRunner().invoke(rung, [*arguments, *config])

    return invoke


def test_verify_says_intact_and_how_fast(run: Run) -> None:
    """The answer first, then counts and rate; exit 0."""
    result = run("ledger", "verify")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "intact · 4 records in 1 chain · 2 receipts · 1 egress decision\n"
    )
    assert "records/s" in result.stdout
    facts = json.loads(run("ledger", "verify", "--json").stdout)
    assert (facts["format"], facts["intact"], facts["problems"]) == (1, True, [])


def test_verify_names_the_broken_record_and_exits_with_1(run: Run, tmp_path: Path) -> None:
    """Which record, and what is wrong with it."""
    connection = sqlite3.connect(tmp_path / "rung.db")
    with connection:
        connection.execute("UPDATE ledger_record SET body = x'00' WHERE seq = 2")
    connection.close()
    result = run("ledger", "verify")
    assert result.exit_code == 1
    assert result.stdout.startswith("BROKEN")
    assert "/2   its content is not what was written (hash differs)" in result.stdout
    facts = json.loads(run("ledger", "verify", "--json").stdout)
    assert facts["intact"] is False
    assert facts["problems"][0]["where"].endswith("/2")


def test_heads_go_out_and_are_compared(run: Run, tmp_path: Path) -> None:
    """`export --heads` writes what `verify --heads` reads; a record that is gone is missed."""
    heads = tmp_path / "heads.json"
    assert run("ledger", "export", "--heads", "-o", str(heads)).exit_code == 0
    assert "1 exported heads compared" in run("ledger", "verify", "--heads", str(heads)).stdout
    heads.write_bytes(heads.read_bytes().replace(b'"seq":3', b'"seq":4'))
    result = run("ledger", "verify", "--heads", str(heads))
    assert result.exit_code == 1
    assert "the record is missing" in result.stdout


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe"])
def test_a_file_of_heads_that_is_none_is_refused(
    run: Run, tmp_path: Path, content: bytes | None
) -> None:
    """Missing, empty, another JSON, not text."""
    path = tmp_path / "heads.json"
    if content is not None:
        path.write_bytes(content)
    result = run("ledger", "verify", "--heads", str(path))
    assert isinstance(result.exception, InputError)
    assert repr(str(path)) in result.exception.message


def test_show_explains_an_answer(run: Run) -> None:
    """The outcome, every rung, the departure of the text, cost, and where it is recorded."""
    result = run("ledger", "show", ANSWERED.id)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "triage: answered by site, certified: at most 5 % wrong, 95 % sure"
        " (triage@9f3c12ab, 2,000 labels, truth: human)"
    )
    for fact in (
        "student (device)   0.340 ≤ 0.610    0.3 ms   unsure",
        "site (site)        0.970 > 0.720   80.0 ms   accepted",
        "internal, may run on: student, site   rule: policy.egress.internal",
        f"llm.example:8000 (site) at {LEFT.created}, rung site",
        "$0.0000050 · 81.2 ms   the top model would be about $0.00090 (estimate, prices of 2026-11-01)",
        "request row 7   run run 1",
        f"{ANSWERED.id}   record ",
    ):
        assert fact in result.stdout, fact


def test_show_names_forbidden_rungs(run: Run) -> None:
    """An abstention tells what policy took away, and by which rule."""
    text = run("ledger", "show", HELD.id).stdout
    assert text.startswith("triage: no answer: not sure enough, and policy keeps this text")
    assert "forbidden: personal may not go to site" in text
    assert "rule: policy.egress.personal" in text


def test_show_gives_the_same_facts_as_json(run: Run) -> None:
    """The receipt as it was recorded, and its departures."""
    shown = json.loads(run("ledger", "show", ANSWERED.id, "--json").stdout)
    assert shown["format"] == 1
    assert msgspec.convert(shown["receipt"], Receipt) == ANSWERED
    assert msgspec.convert(shown["egress"], list[Egress]) == [LEFT]


def test_show_lists_the_latest(run: Run) -> None:
    """Without an id: one line a receipt, newest first, narrowed by options."""
    assert [line.split()[0] for line in run("ledger", "show").stdout.splitlines()] == [
        HELD.id,
        ANSWERED.id,
        "next",
    ]
    narrowed = run("ledger", "show", "--standing", "abstained", "--verdict", "forbidden", "--json")
    assert [r["id"] for r in json.loads(narrowed.stdout)["receipts"]] == [HELD.id]
    assert run("ledger", "show", "--task", "none").stdout.startswith("no receipt matches")


def test_an_unknown_receipt_is_a_sentence(run: Run) -> None:
    """What was looked for, and how to see what there is."""
    result = run("ledger", "show", "01ZZZ")
    assert isinstance(result.exception, InputError)
    assert result.exception.message == "no receipt starts with '01ZZZ'"


def test_stats_add_up(run: Run) -> None:
    """The sum first, then by standing and by verdict; the same facts as JSON."""
    result = run("ledger", "stats")
    assert result.stdout.startswith("2 receipts · 1 answered (50 %) · cost $0.0000050\n")
    assert run("ledger", "stats", "--since", "2999-01-01").stdout == (
        "no receipts since 2999-01-01\n"
    )
    facts = json.loads(run("ledger", "stats", "--json").stdout)
    assert facts["format"] == 1
    assert {(a["rung"], a["verdict"], a["attempts"]) for a in facts["attempts"]} == {
        ("student", "unsure", 2),
        ("site", "accepted", 1),
        ("site", "forbidden", 1),
    }


def test_export_writes_everything(run: Run, tmp_path: Path) -> None:
    """To a file or the terminal, the same lines."""
    path = tmp_path / "ledger.jsonl"
    assert run("ledger", "export", "-o", str(path)).exit_code == 0
    assert run("ledger", "export").stdout_bytes == path.read_bytes()
    kinds = [set(json.loads(line)) for line in path.read_bytes().splitlines()]
    assert kinds == [{"format", "record", "egress"}] + [{"format", "record", "receipt"}] * 2


def test_without_a_ledger_there_is_a_hint(tmp_path: Path) -> None:
    """A new project has none yet; asking makes no file."""
    (tmp_path / "rung.toml").write_text(RUNG_TOML, encoding="utf-8")
    for verb in ("verify", "show", "stats", "export"):
        result = CliRunner().invoke(rung, ["ledger", verb, "--config", str(tmp_path / "rung.toml")])
        assert isinstance(result.exception, StorageError)
        assert "there is no ledger" in result.exception.message
    assert [path.name for path in tmp_path.iterdir()] == ["rung.toml"]
