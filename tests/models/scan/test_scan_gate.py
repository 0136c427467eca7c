"""The gate that every load passes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gguf_models import tiny_model
from malformed.gguf_parts import INT32, entry, gguf, number, tensor, word
from malformed.hostile_files import FILES
from rung.errors import ModelError
from rung.models.scan import gate
from rung.models.scan.gate import check_loadable
from rung.starter import model_path


def test_a_model_passes(tmp_path: Path) -> None:
    """And the one that comes with Rung."""
    check_loadable(tiny_model(tmp_path / "a.gguf", dim=64))
    check_loadable(model_path())


def test_a_blocked_model_does_not_pass_and_the_reason_is_told(tmp_path: Path) -> None:
    """With the command that tells the rest."""
    path = tiny_model(tmp_path / "a.gguf", dim=64, template="{% include 'x' %}")
    with pytest.raises(ModelError, match=r"^blocked: .*a.gguf.* reads another file") as raised:
        check_loadable(path)
    assert raised.value.hint == f"see everything that was found with: rung scan {path}"


def test_a_file_is_looked_at_once_and_again_when_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its place on the disk, its size and its time."""
    path = tiny_model(tmp_path / "a.gguf", dim=64)
    other = tiny_model(tmp_path / "b.gguf", dim=64, template="{{ messages.__class__ }}")
    check_loadable(path)
    with monkeypatch.context() as patched:
        patched.setattr(gate, "scan_file", lambda path: pytest.fail("it was looked at again"))
        check_loadable(path)
    shutil.copyfile(other, path)
    with pytest.raises(ModelError, match="blocked"):
        check_loadable(path)


def test_a_file_that_was_written_to_and_given_its_old_time_is_looked_at_again(
    tmp_path: Path,
) -> None:
    """As copying programs do that write in place and keep times."""
    path = tiny_model(tmp_path / "a.gguf", dim=64)
    check_loadable(path)
    before, content = path.stat(), bytearray(path.read_bytes())
    key = b"llama.block_count"
    at = content.index(key) + len(key) + 4
    with path.open("r+b") as file:
        file.seek(at)
        file.write((2**31 - 1).to_bytes(4, "little"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ModelError, match=r"blocked: .* layers"):
        check_loadable(path)


def test_what_is_clean_and_no_model_is_refused(tmp_path: Path, shared_data: Path) -> None:
    """Another accepted format, and a vocabulary without weights."""
    (tmp_path / "a.gguf").write_text('{"a": 1}')
    with pytest.raises(ModelError, match="is JSON, not GGUF"):
        check_loadable(tmp_path / "a.gguf")
    with pytest.raises(ModelError, match="a vocabulary and no weights"):
        check_loadable(shared_data / "weights_tiny_gguf/vocab_only/ggml-vocab-phi-3.gguf")
    (tmp_path / "b.gguf").write_bytes(FILES["elf"])
    with pytest.raises(ModelError, match="ELF program"):
        check_loadable(tmp_path / "b.gguf")
    with pytest.raises(ModelError, match="does not exist"):
        check_loadable(tmp_path / "none.gguf")


def part(number_of: int, blocks: int, name: str) -> bytes:
    """One of two parts of a model."""
    entries = [
        word("general.architecture", "llama"),
        number("llama.block_count", blocks),
        entry("split.no", 2, number_of.to_bytes(2, "little")),
        entry("split.count", 2, (2).to_bytes(2, "little")),
        entry("split.tensors.count", INT32, (2).to_bytes(4, "little")),
    ]
    return gguf(entries, [tensor(name)])


def test_all_parts_of_a_model_are_looked_at_alone_and_together(tmp_path: Path) -> None:
    """A part that is missing, one that is blocked, and numbers that only all parts contradict."""
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(part(0, 2, "blk.0.a"))
    with pytest.raises(ModelError, match="does not exist"):
        check_loadable(first)
    second.write_bytes(part(1, 2, "blk.1.a"))
    check_loadable(first)
    second.write_bytes(part(1, 2, "blk.1.a") + b"PK\x05\x06" + bytes(18))
    with pytest.raises(ModelError, match=r"blocked: .*-00002-of-00002"):
        check_loadable(first)
    second.write_bytes(part(1, 2, "blk.7.a"))
    with pytest.raises(ModelError, match="tensors of layer 7"):
        check_loadable(first)
