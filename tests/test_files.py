"""Atomic writing: the old content or the new, never a half, and a sentence when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rung.errors import StorageError
from rung.files import whole_file, write_atomically


def test_it_writes_and_replaces(tmp_path: Path) -> None:
    """Folders are made, and nothing else is left behind."""
    path = tmp_path / "a" / "b.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["b.json"]


def test_a_folder_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    """The message names the path and what to do."""
    with pytest.raises(StorageError, match="it is a folder"):
        write_atomically(tmp_path, b"x")


def test_a_file_that_cannot_grow_leaves_the_old_content(tmp_path: Path) -> None:
    """A write that fails half-way is as if it had not been."""
    path = tmp_path / "b.json"
    write_atomically(path, b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from rung.files import write_atomically; from rung.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_atomically(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except StorageError as error:\n    print(error, '|', error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "the file may not grow further" in done.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b.json"]


def test_a_file_written_piece_by_piece_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Until then the old content is there, and nobody else may read the new."""
    path = tmp_path / "b.json"
    path.write_bytes(b"old")
    with whole_file(path, mode=0o640) as file:
        file.write(b"n")
        file.write(b"ew")
        assert path.read_bytes() == b"old"
        (other,) = set(tmp_path.iterdir()) - {path}
        assert other.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["b.json"]


def test_a_writer_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    """Whatever it fails with comes out as it is."""
    path = tmp_path / "b.json"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write(b"new")
        raise KeyError("x")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b.json"]
