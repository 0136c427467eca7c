"""Reading a GGUF header: what the file says, and one sentence for every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from io import BytesIO
from pathlib import Path

import pytest
from dense_models import weights, write_model

from malformed.gguf_cases import GGUF, WHOLE, gguf_cases
from malformed.gguf_parts import BOOL, FLOAT32, INT32, TEXT, UINT8, array, entry, gguf, number, word
from rung.errors import ModelError, SourceError
from rung.models.header import header_from, read_header
from rung.models.metadata import KEPT_ITEMS, Array, read_metadata
from rung.models.tensortypes import TensorType


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with a text, an array and tensors of two types."""
    path = tmp_path_factory.mktemp("header") / "model.gguf"
    words = [f"word {number}" for number in range(50)]
    return write_model(path, weights(), extra={"general.name": "small", "words": words})


def broken(tmp_path: Path, content: bytes) -> str:
    """The sentence that a file with this content is refused with."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError) as refusal:
        read_header(path)
    return refusal.value.message


def file(*parts: bytes, tensors: int = 0, entries: int = 0, filler: int = 200) -> bytes:
    """A file of format version 3 with these parts after its counts."""
    return struct.pack("<4sIQQ", b"GGUF", 3, tensors, entries) + b"".join(parts) + b"\0" * filler


def text(content: str) -> bytes:
    """A text as GGUF writes it."""
    return struct.pack("<Q", len(content.encode())) + content.encode()


def test_it_reads_what_an_independent_reader_reads(model: Path) -> None:
    """Names, shapes, types and places of all tensors, and the metadata."""
    import gguf

    header = read_header(model)
    reader = gguf.GGUFReader(model)
    assert [
        (tensor.name, list(tensor.shape), int(tensor.type), tensor.start, tensor.size)
        for tensor in header.tensors
    ] == [
        (t.name, t.shape.tolist(), int(t.tensor_type), t.data_offset, t.n_bytes)
        for t in reader.tensors
    ]
    assert header.architecture == "llama"
    assert header.text("general.name") == "small"
    assert header.number("llama.block_count") == 2
    assert header.metadata["words"].value == Array(
        50, tuple(f"word {number}" for number in range(50))
    )
    assert header.number("words") is None
    assert list(header.metadata) == [name for name in reader.fields if not name.startswith("GGUF.")]


def test_block_sizes_are_those_of_the_engine() -> None:
    """Every type's number, name and bytes, asked of the library itself."""
    import ctypes

    from rung.models.ggml import _library

    library = ctypes.CDLL(str(_library()))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.ggml_blck_size.restype = ctypes.c_int64
    for kind in TensorType:
        assert library.ggml_type_name(int(kind)).decode().upper() == kind.name.upper()
        assert library.ggml_blck_size(int(kind)) == kind.block
        assert library.ggml_row_size(int(kind), 768) == kind.row_bytes(768)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "ends inside its header, after 0 bytes"),
        (b"GGU", "ends inside its header, after 3 bytes"),
        (b"PK\x03\x04" + b"\0" * 100, "is not a GGUF file"),
        (struct.pack("<4sI", b"GGUF", 1) + b"\0" * 99, "is GGUF version 1;"),
        (struct.pack(">4sI", b"GGUF", 3) + b"\0" * 99, "big-endian"),
        (struct.pack("<4sI", b"GGUF", 3), "ends inside its header, after 8 bytes"),
        (file(tensors=1 << 60), "cannot fit in it"),
        (file(entries=1 << 40), "cannot fit in it"),
        (
            file(struct.pack("<Q", 1 << 62), entries=1),
            "has a text of 4,611,686,018,427,387,904 bytes",
        ),
        (file(text("a") + struct.pack("<I", 77), entries=1), "the unknown type 77"),
        (file(text("a") + struct.pack("<IIQ", 9, 9, 4), entries=1), "arrays within an array"),
        (file(text("a") + struct.pack("<IIQ", 9, 4, 1 << 61), entries=1), "ends inside its header"),
        (file(text("a") + struct.pack("<IIQ", 9, 8, 1 << 61), entries=1), "texts under 'a' in"),
        (file((text("a") + b"\4\0\0\0" + b"\0" * 4) * 2, entries=2), "has the key 'a' twice"),
        (file(struct.pack("<Q", 2) + b"\xff\xfe", entries=1), "not UTF-8"),
        (
            file(text("general.alignment") + struct.pack("<II", 4, 24), entries=1),
            "alignment is 24",
        ),
        (file(text("t") + struct.pack("<I", 9), tensors=1), "with 9 dimensions"),
        (file(text("t") + struct.pack("<IQIQ", 1, 8, 99, 0), tensors=1), "the unknown type 99"),
        (file(text("t") + struct.pack("<IQIQ", 1, 0, 0, 0), tensors=1), "impossible shape"),
        (file(text("t") + struct.pack("<IQIQ", 1, 100, 12, 0), tensors=1), "impossible shape"),
        (file(text("t") + struct.pack("<IQIQ", 1, 1 << 62, 0, 0), tensors=1), "does not hold the"),
        (file(text("t") + struct.pack("<IQIQ", 1, 8, 0, 1 << 63), tensors=1), "does not hold the"),
        (
            file(text("t") + struct.pack("<IQIQ", 1, 8, 0, 8), tensors=1),
            "no multiple of its alignment",
        ),
        (file(text("t") + struct.pack("<IQIQ", 1, 8, 0, 32), tensors=1), "behind a hole"),
        (file(text("t") + struct.pack("<IQIQ", 1, 8, 0, 0), tensors=1), "bytes behind its last"),
        (
            file((text("t") + struct.pack("<IQIQ", 1, 8, 0, 0)) * 2, tensors=2),
            "two tensors of one name",
        ),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_at_once(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    """Counts and lengths are compared with what is left of the file before they are used."""
    assert sentence in broken(tmp_path, content)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (struct.pack("<IQ", 8, 5 << 20), "has a text of 5,242,880 bytes in its header"),
        (struct.pack("<IIQ", 9, 0, 65 << 20), "has a header of more than 67,108,864 bytes"),
        (struct.pack("<IIQ", 9, 8, 9 << 20), "has 9,437,184 texts under 'a' in its header"),
    ],
)
def test_a_header_beyond_all_bounds_is_refused(tmp_path: Path, entry: bytes, sentence: str) -> None:
    """Even where the file is long enough for it."""
    path = tmp_path / "endless.gguf"
    path.write_bytes(file(text("a"), entry, entries=1))
    os.truncate(path, 100 << 20)
    with pytest.raises(ModelError, match=sentence):
        read_header(path)


def test_only_short_arrays_are_kept(tmp_path: Path) -> None:
    """What comes behind a long one is read."""
    number, words = struct.pack("<I", 4), text("b") * (KEPT_ITEMS + 1)
    path = tmp_path / "arrays.gguf"
    path.write_bytes(
        file(
            text("kept") + struct.pack("<IIQ3H", 9, 2, 3, 7, 8, 9),
            text("texts") + struct.pack("<IIQ", 9, 8, KEPT_ITEMS + 1) + words,
            text("numbers") + struct.pack("<IIQ", 9, 0, KEPT_ITEMS + 1) + bytes(KEPT_ITEMS + 1),
            text("last") + number + struct.pack("<I", 5),
            entries=4,
        )
    )
    assert {key: entry.value for key, entry in read_metadata(path).items()} == {
        "kept": Array(3, (7, 8, 9)),
        "texts": Array(KEPT_ITEMS + 1, None),
        "numbers": Array(KEPT_ITEMS + 1, None),
        "last": 5,
    }


def test_numbers_are_had_one_or_many(tmp_path: Path) -> None:
    """One number is an array of one, bools count as 0 and 1, and what is not whole is not rounded."""
    path = tmp_path / "numbers.gguf"
    path.write_bytes(
        gguf(
            [
                number("one", 7),
                array("many", INT32, 3, struct.pack("<3i", 4, -1, 0)),
                array("flags", BOOL, 2, b"\1\0"),
                entry("flag", BOOL, b"\1"),
                entry("real", FLOAT32, struct.pack("<f", 0.5)),
                array("reals", FLOAT32, 1, struct.pack("<f", 0.5)),
                array("long", UINT8, KEPT_ITEMS + 1, bytes(KEPT_ITEMS + 1)),
                array("none", TEXT, 0, b""),
                word("word", "b"),
            ]
        )
    )
    header = read_header(path)
    keys = ("one", "many", "flags", "flag", "real", "reals", "long", "none", "word", "absent")
    assert {key: header.numbers(key) for key in keys} == {
        "one": (7,),
        "many": (4, -1, 0),
        "flags": (1, 0),
        "flag": (1,),
        "real": None,
        "reals": None,
        "long": None,
        "none": (),
        "word": None,
        "absent": None,
    }
    assert [header.length(key) for key in ("many", "long", "none", "one", "absent")] == [
        3,
        KEPT_ITEMS + 1,
        0,
        None,
        None,
    ]
    assert [header.real(key) for key in ("real", "one", "word", "absent")] == [0.5, 7.0, None, None]


def test_a_header_is_the_same_from_anywhere(model: Path) -> None:
    """Bytes that come in small pieces from no disk give the same header, and no more is asked for than it takes."""
    local = read_header(model)
    with model.open("rb") as file:
        remote = header_from("hf:a/b", local.size, lambda count: file.read(min(count, 1000)))
        read = file.tell()
    assert remote.name == "hf:a/b"
    assert (remote.metadata, remote.tensors) == (local.metadata, local.tensors)
    first = min(tensor.start for tensor in local.tensors)
    assert read <= first + 1000


def test_what_the_source_raises_passes_through() -> None:
    """A broken connection is no damaged file; one that ends early is."""

    def broken_off(count: int) -> bytes:
        raise SourceError("the connection ended")

    with pytest.raises(SourceError, match="the connection ended"):
        header_from("hf:a/b", 1000, broken_off)
    with pytest.raises(ModelError, match="'hf:a/b' became shorter while it was read"):
        header_from("hf:a/b", 1000, lambda count: b"")


def test_an_entry_has_the_digest_of_its_bytes(model: Path) -> None:
    """Key, type and value, as they lie in the file."""
    content = model.read_bytes()
    for kept in read_header(model).metadata.values():
        assert kept.digest == hashlib.sha256(content[kept.start : kept.end]).digest()


@pytest.mark.parametrize("kind", GGUF)
def test_a_malformed_file_is_refused_for_what_is_wrong(tmp_path: Path, kind: str) -> None:
    """Every kind with its own sentence."""
    path = gguf_cases(tmp_path)[kind] if GGUF[kind].size else tmp_path / "file.gguf"
    if not GGUF[kind].size:
        path.write_bytes(GGUF[kind].content)
    with pytest.raises(ModelError) as refusal:
        read_header(path)
    assert GGUF[kind].sentence in refusal.value.message
    assert refusal.value.hint


def test_the_file_that_lies_start_from_is_right(tmp_path: Path) -> None:
    """So that each kind is refused for what was changed."""
    path = tmp_path / "whole.gguf"
    path.write_bytes(WHOLE)
    assert [tensor.name for tensor in read_header(path).tensors] == ["a", "b"]


@pytest.mark.parametrize("filler", [0, 5, 24])
def test_the_last_tensor_may_be_filled_up(tmp_path: Path, filler: int) -> None:
    """Some writers pad to the alignment, some do not."""
    path = tmp_path / "filled.gguf"
    info = struct.pack("<Q1sIQIQ", 1, b"t", 1, 2, 0, 0)
    path.write_bytes(gguf([], [info], data=bytes(8 + filler)))
    assert read_header(path).tensors[0].size == 8


def test_every_truncation_is_refused(model: Path, tmp_path: Path) -> None:
    """A model cut anywhere before its last weight."""
    content = model.read_bytes()
    header = read_header(model)
    end = max(tensor.start + tensor.size for tensor in header.tensors)
    for cut in [*range(0, 4000, 37), end // 2, end - 1]:
        assert broken(tmp_path, content[:cut])


def test_no_damage_does_more_than_a_refusal(model: Path, tmp_path: Path) -> None:
    """Bytes of the header overwritten at random: a header comes back, or a sentence."""
    whole = model.read_bytes()
    chance = random.Random(3)
    path = tmp_path / "damaged.gguf"
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            content[chance.randrange(4, 4000)] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_header(path)
        except ModelError as refusal:
            assert refusal.hint
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("name", "sentence"), [("no.gguf", "does not exist"), (".", "is not a regular file")]
)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    """A missing path and a folder."""
    with pytest.raises(ModelError, match=sentence):
        read_header(tmp_path / name)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe that nobody writes to is refused, not opened."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="is not a regular file"):
        read_header(tmp_path / "pipe")


def test_what_is_no_model_is_to_be_scanned_not_downloaded_again(tmp_path: Path) -> None:
    """A pickle under a model's name, or a zip behind one, is nothing that came damaged."""
    for content in (b"\x80\x04\x95\x1d" + bytes(40), WHOLE + b"PK\x03\x04" + bytes(60)):
        path = tmp_path / "evil.gguf"
        path.write_bytes(content)
        with pytest.raises(ModelError) as here:
            read_header(path)
        assert (here.value.hint or "").endswith(f"rung scan {path}")
        with pytest.raises(ModelError) as away:
            header_from("evil.gguf", len(content), BytesIO(content).read)
        assert "rung scan" not in (away.value.hint or "")
