"""Reading a safetensors header: what the file says, and one sentence for every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malformed.safetensors_cases import SAFETENSORS, WHOLE, safetensors, safetensors_cases
from rung.errors import ModelError
from rung.models.safetensors import BITS, SafeTensor, read_safetensors


def test_it_reads_what_the_library_wrote(tmp_path: Path) -> None:
    """Names, types, shapes, places and metadata, and the bytes at those places."""
    from safetensors.numpy import save_file

    path = tmp_path / "a.safetensors"
    arrays = {
        "layers.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "layers.0.bias": np.array([7], dtype=np.int8),
        "number": np.array(1.5, dtype=np.float16),
        "nothing": np.zeros((0, 4), dtype=np.uint8),
    }
    save_file(arrays, path, metadata={"format": "pt", "note": "ünï"})
    header = read_safetensors(path)
    content = path.read_bytes()
    assert header.metadata == {"format": "pt", "note": "ünï"}
    assert header.size == len(content)
    assert {t.name: (t.type, t.shape) for t in header.tensors} == {
        "layers.0.weight": ("F32", (2, 3)),
        "layers.0.bias": ("I8", (1,)),
        "number": ("F16", ()),
        "nothing": ("U8", (0, 4)),
    }
    for tensor in header.tensors:
        data = content[tensor.start : tensor.start + tensor.size]
        assert data == arrays[tensor.name].tobytes()


def test_types_are_those_of_the_library() -> None:
    """Each type's bits: the library takes a file with them, and with no other number."""
    from safetensors import SafetensorError, deserialize

    for kind, bits in BITS.items():
        header = {"a": {"dtype": kind, "shape": [8], "data_offsets": [0, bits]}}
        assert deserialize(safetensors(header, bits))
        header["a"]["data_offsets"] = [0, bits + 1]
        with pytest.raises(SafetensorError):
            deserialize(safetensors(header, bits + 1))


def test_a_header_may_be_filled_up_with_spaces(tmp_path: Path) -> None:
    """As the library does for the data's alignment."""
    path = tmp_path / "spaces.safetensors"
    path.write_bytes(
        safetensors('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}' + " " * 9, 1)
    )
    assert read_safetensors(path).tensors == (SafeTensor("a", "U8", (), 69, 1),)


def test_a_file_may_hold_no_tensors(tmp_path: Path) -> None:
    """Nothing contradicts it."""
    path = tmp_path / "none.safetensors"
    path.write_bytes(safetensors("{}"))
    assert read_safetensors(path).tensors == ()


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_a_malformed_file_is_refused_for_what_is_wrong(tmp_path: Path, kind: str) -> None:
    """Every kind with its own sentence."""
    path = safetensors_cases(tmp_path)[kind] if SAFETENSORS[kind].size else tmp_path / "file"
    if not SAFETENSORS[kind].size:
        path.write_bytes(SAFETENSORS[kind].content)
    with pytest.raises(ModelError) as refusal:
        read_safetensors(path)
    assert SAFETENSORS[kind].sentence in refusal.value.message
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("name", "sentence"), [("no.safetensors", "does not exist"), (".", "is not a regular file")]
)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    """A missing path and a folder."""
    with pytest.raises(ModelError, match=sentence):
        read_safetensors(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_does_more_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes changed, cut or put in: either the tensors fill the file, or one sentence says why not."""
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 3))
        content[at : at + gone] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"[", b'"', b"}", b"9" * 30, b',"a":1'])
        )
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content)
    try:
        header = read_safetensors(path)
    except ModelError as refusal:
        assert refusal.hint
    else:
        assert sum(tensor.size for tensor in header.tensors) <= len(content)
        assert all(t.start + t.size <= len(content) for t in header.tensors)
