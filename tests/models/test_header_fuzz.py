"""Whatever is done to a GGUF file, a header comes back whose tensors lie within it, or one sentence."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from malformed.contradictory_cases import SENSIBLE
from malformed.gguf_parts import TEXT, UINT32, array, gguf, number, tensor, text, word
from rung.errors import ModelError
from rung.models.header import Header, header_from, read_header
from rung.models.sanity import oddities

LENGTHS = [0, 1, 2, 255, 65_536, 1 << 31, (1 << 32) - 1, 1 << 61, 1 << 63, (1 << 64) - 1]


def check(content: bytes) -> None:
    """Read a header; nothing but a `ModelError` may come of it."""
    try:
        header = header_from("fuzzed", len(content), io.BytesIO(content).read)
    except ModelError as refusal:
        assert refusal.hint
        assert refusal.message.startswith("the model file 'fuzzed' ")
    else:
        check_places(header, len(content))
        oddities(header)  # raises nothing, whatever the numbers are


def check_places(header: Header, size: int) -> None:
    """Tensors and entries lie within the file, in order and apart."""
    end = 0
    for entry in header.metadata.values():
        assert end < entry.start < entry.end <= size
        end = entry.end - 1
    end += 1
    for tensor_ in header.tensors:
        assert end <= tensor_.start
        assert tensor_.start % header.alignment == 0
        end = tensor_.start + tensor_.size
        assert end <= size


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    """Bits turned, bytes cut out or put in, pieces copied elsewhere, lengths replaced by absurd ones."""
    content = bytearray(SENSIBLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["turn", "cut", "put", "copy", "length", "end"])):
            case "turn" if at < len(content):
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 40))]
            case "put":
                content[at:at] = data.draw(st.binary(max_size=40))
            case "copy":
                other = data.draw(st.integers(0, len(content)))
                content[at:at] = content[other : other + data.draw(st.integers(1, 80))]
            case "length":
                content[at : at + 8] = struct.pack("<Q", data.draw(st.sampled_from(LENGTHS)))
            case _:
                del content[at:]
    check(bytes(content))


_names = st.text(max_size=8) | st.sampled_from(["token_embd.weight", "blk.0.attn_norm.weight"])
_whole = st.integers(0, (1 << 64) - 1) | st.sampled_from(LENGTHS) | st.integers(0, 64)
_entries = st.one_of(
    st.builds(
        number, st.sampled_from(["general.alignment", "llama.block_count"]), st.integers(0, 99)
    ),
    st.builds(word, _names, st.text(max_size=20)),
    st.builds(array, _names, st.integers(0, 13), _whole, st.binary(max_size=64)),
    st.builds(
        lambda name, words: array(name, TEXT, len(words), b"".join(map(text, words))),
        _names,
        st.lists(st.text(max_size=4), max_size=4),
    ),
    st.builds(
        lambda name, numbers: array(
            name, UINT32, len(numbers), struct.pack(f"<{len(numbers)}I", *numbers)
        ),
        st.sampled_from(["llama.attention.head_count", "llama.feed_forward_length"]),
        st.lists(st.integers(0, 9), max_size=4),
    ),
)
_tensors = st.builds(
    tensor,
    _names.map(lambda name: name.encode(errors="replace")),
    st.lists(_whole, max_size=5).map(tuple),
    st.integers(0, 45),
    _whole,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(_entries, max_size=4),
    st.lists(_tensors, max_size=3),
    st.integers(0, 256),
)
def test_made_up_files(entries: list[bytes], tensors: list[bytes], data: int) -> None:
    """Files of the right form with made-up contents."""
    check(gguf([word("general.architecture", "llama"), *entries], tensors, data=bytes(data)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 64), st.integers(1, 9), st.sampled_from([0, 1, 8, 12])), max_size=6
    ),
    st.sampled_from([1, 8, 32, 64, 4096]),
)
def test_right_files_are_read(tensors: list[tuple[int, int, int]], alignment: int) -> None:
    """Whatever shapes, types and alignment there are."""
    blocks = {0: (1, 4), 1: (1, 2), 8: (32, 34), 12: (256, 144)}
    infos, offset = [], 0
    for count, (columns, rows, kind) in enumerate(tensors):
        block, size = blocks[kind]
        infos.append(tensor(f"t{count}", (columns * block, rows), kind, offset))
        offset += -(-columns * rows * size // alignment) * alignment
    content = gguf(
        [number("general.alignment", alignment)], infos, data=bytes(offset), alignment=alignment
    )
    header = header_from("right", len(content), io.BytesIO(content).read)
    assert len(header.tensors) == len(tensors)
    check_places(header, len(content))


def test_the_file_that_is_damaged_is_right(tmp_path: Path) -> None:
    """So that some damage leaves something to read."""
    path = tmp_path / "right.gguf"
    path.write_bytes(SENSIBLE)
    check_places(read_header(path), len(SENSIBLE))
