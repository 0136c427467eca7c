"""Keyed digests: equal for equal texts, meaningless without the key, one key for everybody."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_receipts import URL

from rung.errors import StorageError
from rung.ledger.digest import KEY_BYTES, KeyedDigest


def test_a_digest_names_a_text_under_a_key(tmp_path: Path) -> None:
    """The same key gives the same digest, another key another one."""
    first = KeyedDigest.open(URL, root=tmp_path)
    assert first("why was I charged twice") == KeyedDigest.open(URL, root=tmp_path)(
        "why was I charged twice"
    )
    assert first("a") != first("b")
    assert first("a") != KeyedDigest(bytes(KEY_BYTES))("a")
    assert len(first("\ud800 half a character")) == 32


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    """32 bytes beside the ledger that nobody else may read, and nothing else left behind."""
    KeyedDigest.open(URL, root=tmp_path)
    key = tmp_path / "rung.db.key"
    assert [path.name for path in tmp_path.iterdir()] == [key.name]
    assert key.stat().st_size == KEY_BYTES
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_processes_agree_on_one_key(tmp_path: Path) -> None:
    """Processes that make the key at the same moment all end up with the same."""
    script = (
        "import sys; from pathlib import Path; from rung.ledger.digest import KeyedDigest; "
        "sys.stdin.readline(); print(KeyedDigest.open(sys.argv[1], root=Path(sys.argv[2]))('a'))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    others = [
        subprocess.Popen(
            [sys.executable, "-c", script, URL, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(4)
    ]
    for other in others:
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
    digests = {other.communicate()[0].strip() for other in others}
    assert digests == {KeyedDigest.open(URL, root=tmp_path)("a")}


@pytest.mark.parametrize("content", [b"", b"short", bytes(KEY_BYTES + 1)])
def test_a_key_of_another_size_is_refused(tmp_path: Path, content: bytes) -> None:
    """A damaged key is never used and never replaced in silence."""
    (tmp_path / "rung.db.key").write_bytes(content)
    with pytest.raises(StorageError, match=r"rung\.db\.key' is not a digest key"):
        KeyedDigest.open(URL, root=tmp_path)
    assert (tmp_path / "rung.db.key").read_bytes() == content


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Whatever is at its place and is no file."""
    (tmp_path / "rung.db.key").mkdir()
    with pytest.raises(StorageError, match=r"cannot read the digest key .*rung\.db\.key"):
        KeyedDigest.open(URL, root=tmp_path)


def test_a_key_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A folder that does not exist."""
    with pytest.raises(StorageError, match=r"cannot write .*rung\.db\.key"):
        KeyedDigest.open("sqlite:///no/rung.db", root=tmp_path)
