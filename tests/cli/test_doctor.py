"""`rung doctor`: what it finds in projects that are new, broken, or in the middle of things."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gguf_models import tiny_model
from rung.cli import root
from rung.ids import new_id
from rung.ledger.writer import Ledger, ReceiptEntry
from rung.receipt import Receipt


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A starting project that is the current folder."""
    monkeypatch.chdir(tmp_path)
    assert rung("init").exit_code == 0
    return tmp_path


def rung(*arguments: str) -> Result:
    """What the command line does with these arguments."""
    return CliRunner().invoke(root, arguments)


def findings() -> dict[str, list[tuple[str, str, str | None]]]:
    """(level, detail, fix) of every check, by area."""
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    for check in json.loads(rung("doctor", "--json").stdout)["checks"]:
        found.setdefault(check["area"], []).append((check["level"], check["detail"], check["fix"]))
    return found


def change(file: str, old: str, new: str) -> None:
    """Edit a file of the project as a person would."""
    text = Path(file).read_text("utf-8")
    assert old in text
    Path(file).write_text(text.replace(old, new, 1), "utf-8")


def add_rung(address: str, *, key: str = "") -> None:
    """Put a server above the student."""
    table = (
        f'[rungs.local]\nengine = "openai"\nmodel = "m"\nwhere = "device"\nbase_url = "{address}"\n'
    )
    change("rung.toml", "[ladders]", f"{table}{key}\n[ladders]")
    change("rung.toml", 'default = ["student"]', 'default = ["student", "local"]')


def test_a_new_project_has_things_to_do_and_nothing_broken(project: Path) -> None:
    """What is not done yet is a warning with its command, and the exit code is 0; nothing is made."""
    result = rung("doctor")
    assert result.exit_code == 0
    assert findings() == {
        "settings": [("ok", "rung.toml: 1 rung, 1 ladder", None)],
        "tasks": [
            ("ok", "triage: classify, 3 labels; personal text may use student", None),
        ],
        "engines": [
            ("warning", "student for triage: not trained yet", "rung train triage --on SUITE")
        ],
        "ledger": [("ok", "rung.db: made with the first answer", None)],
        "certificates": [
            (
                "warning",
                "triage: no certificate at 5 %; nothing is accepted as certified",
                "rung calibrate triage --on SUITE",
            )
        ],
    }
    assert not (project / "rung.db").exists()


def test_wrong_settings_are_each_a_finding() -> None:
    """Mistakes in rung.toml are told one by one, without what only follows from one; the exit code is 2."""
    change("rung.toml", "[ladders]", "[ladder]")
    change("rung.toml", 'engine = "student"', 'engine = "studnt"')
    result = rung("doctor")
    assert result.exit_code == 2
    assert [level for level, _, _ in findings()["settings"]] == ["error"] * 2


def test_pinned_models_are_there_and_as_long_as_they_were(project: Path) -> None:
    """What is in them is `rung verify`'s to read, and that is said."""
    path = project / "tiny.gguf"
    tiny_model(path)
    assert rung("lock", "tiny.gguf").exit_code == 0
    ((level, detail, _),) = findings()["models"]
    assert level == "ok"
    assert "what is in them was not read (rung verify)" in detail
    with path.open("ab") as file:
        file.write(b"more")
    ((level, detail, fix),) = findings()["models"]
    assert (level, "tiny.gguf of tiny has" in detail) == ("error", True)
    assert (fix or "").startswith("rung pull tiny")
    path.unlink()
    assert findings()["models"][0][0] == "warning"
    (project / "rung.lock").write_text("{")
    assert findings()["models"][0][0] == "error"


def test_a_wrong_task_does_not_hide_the_others() -> None:
    """The mistakes of one task file are findings; the other tasks are still checked."""
    Path("tasks/other.toml").write_text('format = 1\nkind = "clasify"\n')
    levels = [(level, detail.partition(":")[0]) for level, detail, _ in findings()["tasks"]]
    assert levels == [("error", "tasks/other.toml"), ("ok", "triage")]


def test_policy_that_leaves_no_rung() -> None:
    """A task whose texts may go nowhere is told so with the rule that keeps them."""
    change("rung.toml", 'personal = ["device"]\n', "")
    assert findings()["tasks"] == [
        (
            "warning",
            "triage: classify, 3 labels; policy allows no rung of ladder 'default' for personal text",
            "add a rung that runs where policy.egress.personal in rung.toml allows",
        )
    ]


def test_a_student_cannot_write() -> None:
    """A task that needs words on a ladder that has none is broken."""
    Path("tasks/talk.toml").write_text('format = 1\nkind = "chat"\n')
    assert (
        "error",
        "talk: chat; no rung it may use can do that (a student only classifies)",
        "add a rung on engine 'llama_cpp' or 'openai' to ladder 'default'",
    ) in findings()["tasks"]


def test_a_rung_on_no_ladder() -> None:
    """A rung that nothing uses is worth a word."""
    change("rung.toml", "[ladders]", '[rungs.spare]\nengine = "student"\nmodel = "m"\n[ladders]')
    assert (
        "warning",
        "rung 'spare' stands on no ladder",
        "add 'spare' to a ladder in rung.toml, or remove [rungs.spare]",
    ) in findings()["settings"]


def test_a_server_that_is_down(unused_tcp_port: int) -> None:
    """A server that does not answer is broken, and the finding says which."""
    add_rung(f"http://127.0.0.1:{unused_tcp_port}/v1")
    level, detail, fix = findings()["engines"][1]
    assert level == "error"
    assert detail.startswith("local (openai, device): ")
    assert fix
    assert rung("doctor").exit_code == 2


@pytest.fixture
def unused_tcp_port() -> int:
    """A port of this machine that nothing listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_keys_are_looked_for_and_never_shown(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key's variable must be there; its value appears nowhere."""
    add_rung(f"http://127.0.0.1:{unused_tcp_port}/v1", key='api_key_env = "MY_KEY"')
    assert findings()["credentials"] == [
        (
            "error",
            "the environment variable MY_KEY is not set; rung 'local' needs it",
            "export MY_KEY=…",
        )
    ]
    monkeypatch.setenv("MY_KEY", "hunter2")
    assert findings()["credentials"] == [("ok", "MY_KEY is set, for rung 'local'", None)]
    assert "hunter2" not in rung("doctor").output


def record(count: int) -> None:
    """Write receipts to the project's ledger."""

    async def write() -> None:
        ledger = Ledger.open("sqlite:///rung.db", root=Path.cwd())
        for _ in range(count):
            await ledger.append([ReceiptEntry(receipt())])
        await ledger.aclose()

    asyncio.run(write())


def receipt() -> Receipt:
    """The receipt of one row that nothing answered."""
    return Receipt(
        id=new_id(),
        created="2026-11-01T00:00:00+00:00",
        task="triage",
        task_digest="ab" * 32,
        input_digest="cd" * 16,
        label="personal",
        rule="policy.egress.personal",
        allowed=("student",),
        attempts=(),
    )


def test_a_ledger_in_a_folder_that_is_not_there() -> None:
    """It could not be made, so it is not called fine."""
    change("rung.toml", "sqlite:///rung.db", "sqlite:///nowhere/rung.db")
    ((level, detail, fix),) = findings()["ledger"]
    assert (level, detail) == ("error", "nowhere/rung.db: its folder does not exist")
    assert fix is not None
    assert "make the folder" in fix


def test_a_ledger_is_verified() -> None:
    """A ledger that is what was written is fine; one byte changed is not."""
    record(3)
    assert findings()["ledger"] == [("ok", "rung.db: 3 receipts, every hash verified", None)]
    with closing(sqlite3.connect("rung.db")) as database, database:
        database.execute("UPDATE ledger_record SET created = created || ' ' WHERE seq = 1")
    level, _, fix = findings()["ledger"][0]
    assert (level, fix) == ("error", "rung ledger verify shows all; restore the file from a backup")


def test_a_ledger_that_is_none() -> None:
    """Another file in the ledger's place is a finding and not a traceback."""
    Path("rung.db").write_bytes(b"not a database at all, whatever its name may say" * 99)
    level, detail, _ = findings()["ledger"][0]
    assert (level, detail.endswith("the file is damaged or is not a database")) == ("error", True)


WORDS = {
    "billing": ("charge", "invoice", "refund", "price"),
    "delivery": ("parcel", "courier", "late", "arrive"),
    "account": ("password", "login", "profile", "name"),
}


def write_suite(path: str, count: int, seed: int) -> None:
    """Examples of the starting project's task that a student can learn, and sometimes get wrong."""
    draw = random.Random(seed)
    every = [word for words in WORDS.values() for word in words]
    lines = []
    for number in range(count):
        label = draw.choice(list(WORDS))
        words = [draw.choice(WORDS[label] if draw.random() < 0.8 else every) for _ in range(5)]
        text = f"{' '.join(words)} {seed}-{number}"
        lines.append(json.dumps({"input": text, "expected": label}) + "\n")
    Path(path).write_text("".join(lines))


def test_a_certificate_holds_until_the_task_changes() -> None:
    """A project that is trained and certified is all fine; a changed task voids its certificate."""
    write_suite("train.jsonl", 200, 1)
    write_suite("calibration.jsonl", 300, 2)
    assert rung("train", "triage", "--on", "train.jsonl", "--processes", "1").exit_code == 0
    assert rung("calibrate", "triage", "--on", "calibration.jsonl").exit_code == 0
    before = findings()
    assert {level for checks in before.values() for level, _, _ in checks} == {"ok"}
    level, detail, _ = before["certificates"][0]
    assert detail.endswith("at most 5 % wrong with 95 % confidence; 300 labels, truth: human")
    change("tasks/triage.toml", "the one team", "exactly one team")
    level, detail, fix = findings()["certificates"][0]
    assert (level, fix) == ("error", "rung calibrate triage --on SUITE")
    assert detail.endswith("is void: task changed")


def test_a_damaged_certificate() -> None:
    """A certificate that cannot be read is broken."""
    Path("certificates/triage").mkdir(parents=True)
    Path("certificates/triage/5pct.json").write_text("{}")
    level, _, fix = findings()["certificates"][0]
    assert level == "error"
    assert fix == "rung calibrate triage --on SUITE writes it anew"


def test_nothing_to_certify() -> None:
    """A ladder that answers by contract needs no certificate."""
    change("rung.toml", 'accept = "certified" ', 'accept = "contract" ')
    assert findings()["certificates"] == [
        (
            "ok",
            "triage: none needed; its rungs answer uncertified (accept = 'contract')",
            None,
        )
    ]
