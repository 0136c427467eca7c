"""Advisory locks: one holder at a time, in one process or in several, and none left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rung.exclusive import let_go, lock, take

HOLDER = """
import sys
from pathlib import Path
from rung.exclusive import take
take(Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def test_one_holds_it_and_the_next_one_after_that(tmp_path: Path) -> None:
    """The file is there only meanwhile."""
    path = tmp_path / "some.lock"
    held = take(path)
    assert held is not None
    assert take(path) is None
    let_go(path, held)
    assert list(tmp_path.iterdir()) == []
    again = take(path)
    assert again is not None
    let_go(path, again)


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    """However that ends; the file that a killed one leaves is no lock."""
    path = tmp_path / "some.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert take(path) is None
        other.kill()
    held = take(path)
    assert held is not None
    let_go(path, held)


def test_a_lock_whose_file_was_removed_keeps_nobody_out(tmp_path: Path) -> None:
    """Else two would hold it: the one that waited, and the next one that makes the file."""
    path = tmp_path / "some.lock"
    held = take(path)
    assert held is not None
    path.unlink()
    other = take(path)
    assert other is not None
    let_go(path, other)
    os.close(held)


def test_an_open_file_is_locked_by_one_descriptor(tmp_path: Path) -> None:
    """Also within a process."""
    path = tmp_path / "out.jsonl"
    path.touch()
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert lock(one)
    assert not lock(two)
    os.close(one)
    assert lock(two)
    os.close(two)


def test_what_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Of the system, for the caller to put into a sentence."""
    with pytest.raises(FileNotFoundError):
        take(tmp_path / "none" / "some.lock")
