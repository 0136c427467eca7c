"""Digests of files that were read before, and what makes them be read again."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from gguf_models import tiny_model
from rung.errors import ModelError
from rung.models.fingerprint import fingerprint, unchanged
from rung.models.lock.hashing import hash_file, known_hash
from rung.models.lock.pinning import local_artefact


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))


def settled(path: Path, content: bytes = b"weights") -> Path:
    """A file that is old enough for its times to tell."""
    path.write_bytes(content)
    while time.time_ns() - path.stat().st_ctime_ns < 60_000_000:
        time.sleep(0.01)
    return path


def test_a_file_is_known_until_it_changes(tmp_path: Path) -> None:
    """Whatever its times are set back to."""
    path = settled(tmp_path / "a.gguf")
    assert known_hash(path) is None
    digest = hash_file(path)
    assert known_hash(path) == digest
    before = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known_hash(path) is None


@pytest.mark.parametrize("junk", [b"", b"{", b'{"sha256": "\xff"}', b"[" * 100_000, b"1"])
def test_a_damaged_note_is_no_note(tmp_path: Path, junk: bytes) -> None:
    """The file is read again."""
    path = settled(tmp_path / "a.gguf")
    digest = hash_file(path)
    (note,) = (tmp_path / "home" / "digests").iterdir()
    note.write_bytes(junk)
    assert known_hash(path) is None
    assert hash_file(path) == digest


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names cannot be had there")
def test_a_folder_that_is_not_utf_8_is_a_folder(tmp_path: Path) -> None:
    """What lies in it is read and remembered like anything else."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/pr\xffoj"))
    folder.mkdir()
    path = settled(folder / "a.gguf")
    assert hash_file(path) == known_hash(path)


def test_what_is_written_to_while_it_is_read_has_no_digest(tmp_path: Path) -> None:
    """Nor is anything remembered of it."""
    path = settled(tmp_path / "a.gguf")

    def write(done: int, total: int) -> None:
        path.write_bytes(b"another")

    with pytest.raises(ModelError, match="changed while it was read"):
        hash_file(path, write)
    assert known_hash(path) is None


def test_a_pin_is_of_one_content(tmp_path: Path) -> None:
    """A file that is replaced between its header and its digest is not pinned."""
    path = tiny_model(tmp_path / "tiny.gguf")
    other = tiny_model(tmp_path / "other.gguf", seed=1)

    def replace(done: int, total: int) -> None:
        if done == total and other.exists():
            other.replace(path)

    with pytest.raises(ModelError, match="changed while it was read"):
        local_artefact("tiny.gguf", tmp_path, progress=replace)


def test_a_look_at_several_files_names_the_one_that_changed(tmp_path: Path) -> None:
    """And gives what they were at first."""
    one, two = settled(tmp_path / "one"), settled(tmp_path / "two")
    with pytest.raises(ModelError, match=r"'[^']*two' changed"), unchanged((one, two)) as before:
        assert before == (fingerprint(one), fingerprint(two))
        two.write_bytes(b"more weights")
