"""Models in several files: every part is there, and all say the same of each other."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from malformed.gguf_parts import gguf, number, tensor, word
from rung.errors import ModelError
from rung.models.shards import part_names, read_model


def parts(
    folder: Path, changes: Mapping[int, Mapping[str, int]] = {}, count: int = 3
) -> list[Path]:
    """Write a split model.

    Args:
        folder: where to.
        changes: other numbers of the metadata than the right ones, by part from 0; a negative one is left out.
        count: of the parts; each has one tensor.
    """
    paths = []
    for part in range(count):
        keys = {"split.no": part, "split.count": count, "split.tensors.count": count}
        keys |= changes.get(part, {})
        entries = [number(key, value) for key, value in keys.items() if value >= 0]
        if part == 0:  # as llama.cpp's splitter has it: the others say nothing of the model
            entries.append(word("general.architecture", "llama"))
        paths.append(folder / f"m-Q4_K_M-{part + 1:05}-of-{count:05}.gguf")
        paths[-1].write_bytes(gguf(entries, [tensor(f"blk.{part}.weight")]))
    return paths


def test_any_part_stands_for_the_model(tmp_path: Path) -> None:
    """The headers come in order, whichever part is named."""
    paths = parts(tmp_path)
    for path in paths:
        headers = read_model(path)
        assert [header.path for header in headers] == paths
        assert [header.tensors[0].name for header in headers] == [
            f"blk.{part}.weight" for part in range(3)
        ]


def test_a_model_in_one_file_is_its_only_part(tmp_path: Path) -> None:
    """With or without the keys of a split one."""
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf([], [tensor("a")]))
    assert [header.path for header in read_model(path)] == [path]
    (only,) = parts(tmp_path, count=1)
    assert [header.path for header in read_model(only)] == [only]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    """Which one, and where it should be."""
    paths = parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelError, match=r"in 3 parts is not whole.*00002-of-00003.gguf' does not"):
        read_model(paths[0])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({1: {"split.no": 2}}, "split.no is 2, it stands as 1"),
        ({1: {"split.no": -1}}, "split.no is None, it stands as 1"),
        ({2: {"split.count": 4}}, "is one of 4 parts, not of 3"),
        ({0: {"split.count": -1}}, "one of 3 parts and says nothing of it"),
        ({0: {"split.tensors.count": 9}}, "all parts hold 9 tensors, they hold 3"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    tmp_path: Path, changes: Mapping[int, Mapping[str, int]], sentence: str
) -> None:
    """The part that is wrong is named."""
    with pytest.raises(ModelError, match=sentence) as refusal:
        read_model(parts(tmp_path, changes)[0])
    assert f"{next(iter(changes)) + 1:05}-of-00003" in refusal.value.message


def test_a_part_under_another_name_is_no_model(tmp_path: Path) -> None:
    """A renamed part does not pass for the whole."""
    path = parts(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="is one of 3 parts, not of 1"):
        read_model(path)


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    """By architecture, and by a tensor that two of them hold."""
    paths = parts(tmp_path)
    keys = [number("split.no", 2), number("split.count", 3), number("split.tensors.count", 3)]
    paths[2].write_bytes(gguf([*keys, word("general.architecture", "gemma")], [tensor("a")]))
    with pytest.raises(ModelError, match="architecture 'gemma', its first part of 'llama'"):
        read_model(paths[0])
    paths[2].write_bytes(gguf(keys, [tensor("blk.0.weight")]))
    with pytest.raises(ModelError, match=r"holds the tensor 'blk\.0\.weight', which another part"):
        read_model(paths[0])


def test_a_damaged_part_is_refused_as_a_file_is(tmp_path: Path) -> None:
    """With the sentence of a single file."""
    paths = parts(tmp_path)
    paths[1].write_bytes(struct.pack("<4sI", b"GGUF", 1))
    with pytest.raises(ModelError, match=re.escape("is GGUF version 1;")):
        read_model(paths[2])


def test_names_tell_the_parts() -> None:
    """Names that only look like those of parts are names of whole models."""
    assert part_names("a-00002-of-00003.gguf") == tuple(
        f"a-{part:05}-of-00003.gguf" for part in (1, 2, 3)
    )
    for name in ("a.gguf", "a-2-of-3.gguf", "a-00001-of-00002.bin", "-00001-of-00002.gguf"):
        assert part_names(name) == (name,)


@pytest.mark.parametrize(
    "name", ["a-00004-of-00003.gguf", "a-00000-of-00003.gguf", "a-00001-of-99999.gguf"]
)
def test_impossible_parts_are_refused(name: str) -> None:
    """The fourth of three, the zeroth, and one of a hundred thousand."""
    with pytest.raises(ModelError, match="which cannot be"):
        part_names(name)
