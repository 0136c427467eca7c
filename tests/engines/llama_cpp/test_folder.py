"""Folders of sockets: private, and none is left behind by a process that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rung.engines.llama_cpp.folder import SocketFolder

OWNER = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from rung.engines.llama_cpp.folder import SocketFolder
folder = SocketFolder()
print(folder.path(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_the_folder_of_a_killed_process_is_removed_by_the_next(place: Path) -> None:
    """That of a living one, and what somebody else named so, stays."""
    owners = [
        subprocess.Popen([sys.executable, "-c", OWNER, place], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = [Path(owner.stdout.readline().strip()) for owner in owners if owner.stdout]
    (folders[0] / "1.sock").touch()
    owners[0].kill()
    owners[0].wait()
    head, _, start, tail = folders[0].name.rsplit("-", 3)
    others = [
        place / name
        for name in ("rung-12345678", f"rung-000000-1-{start}-{tail}", f"{head}-zz-1-12345678")
    ]
    for other in others:
        other.mkdir()
    link = place / f"{head}-{owners[0].pid:x}-{start}-abcdefgh"
    link.symlink_to(others[0])
    mine = SocketFolder()
    assert mine.path().is_dir()
    assert sorted(place.iterdir()) == sorted([folders[1], mine.path(), link, *others])
    owners[1].kill()
    owners[1].wait()
    mine.remove()
    assert SocketFolder().path().is_dir()
    assert not folders[1].exists()
    for owner in owners:
        assert owner.stdout is not None
        owner.stdout.close()


def test_a_number_that_is_used_again_is_another_owner(place: Path) -> None:
    """The living process of that number began at another time."""
    mine = SocketFolder()
    head, pid, start, _ = mine.path().name.rsplit("-", 3)
    assert int(pid, 16) == os.getpid()
    earlier = place / f"{head}-{pid}-{int(start, 16) - 1:x}-abcdefgh"
    earlier.mkdir()
    assert SocketFolder().path().is_dir()
    assert not earlier.exists()
    assert mine.path().is_dir()
