"""What the header of a model file says, and the memory that follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from supervised import parameters

from gguf_models import CHATML, tiny_model, vocabulary
from rung.config import KvType
from rung.engines.llama_cpp.footprint import Footprint
from rung.engines.llama_cpp.model_file import read_model_file
from rung.errors import ModelError
from rung.models.fingerprint import Fingerprint
from rung.models.hardware.memory import read_memory
from rung.models.shards import read_model

MIB = 1024 * 1024


def test_a_header_is_read(tiny: Path) -> None:
    """Numbers, texts and lengths; the fingerprint is the file's."""
    file = read_model_file(tiny)
    facts = tiny.stat()
    assert file.architecture == "llama"
    assert file.number("context_length") == 2048
    assert file.number("no_such_key", 7) == 7
    assert file.metadata["tokenizer.chat_template"] == CHATML
    assert file.metadata["tokenizer.ggml.add_bos_token"] is False
    assert file.lengths["tokenizer.ggml.tokens"] == len(vocabulary()[0])
    assert file.fingerprint == Fingerprint(
        facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
    )


def test_long_arrays_are_stepped_over(tmp_path: Path) -> None:
    """Only their length is kept; what comes behind them is read."""
    path = tiny_model(
        tmp_path / "long.gguf",
        extra={
            "test.texts": ["é"] * 5000,
            "test.numbers": [1] * 5000,
            "test.short": [1, 2],
            "test.end": 3,
        },
    )
    file = read_model_file(path)
    assert file.lengths["test.texts"] == file.lengths["test.numbers"] == 5000
    assert "test.texts" not in file.metadata
    assert file.metadata["test.short"] == (1, 2)
    assert file.metadata["test.end"] == 3


def test_every_cut_inside_the_header_is_noticed(tiny: Path, tmp_path: Path) -> None:
    """At any length, and never by anything but a `ModelError`."""
    whole = tiny.read_bytes()
    end = whole.index(b"token_embd.weight") - 8
    path = tmp_path / "cut.gguf"
    for length in range(0, end, 211):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="ends inside its header"):
            read_model_file(path)


def needed(path: Path, **others: object) -> int:
    """Bytes that a model is thought to take."""
    return Footprint(read_model(path), parameters(path, **others)).needed


def test_the_footprint_counts_weights_cache_and_working_memory(tiny: Path) -> None:
    """The cache grows with context and slots, and shrinks with its type."""
    whole = needed(tiny, context=256, slots=1)
    per_token = 2 * 4 * 64 * 2 * 2  # layers, heads, their size, keys and values, bytes
    logits, mask = 511 * 4, 2 * 256 * 256
    assert needed(tiny, context=256, slots=2) - whole - logits >= 256 * per_token
    more = needed(tiny, context=1024, slots=2) - needed(tiny, context=512, slots=2)
    assert more == 1024 * per_token + 2 * 512 * 512  # and a longer mask
    assert needed(tiny, context=300, slots=1) >= whole + 256 * per_token  # rounded up
    assert needed(tiny, context=2048, kv_type=KvType.Q8_0) < needed(tiny, context=2048) - 4 * mask
    assert tiny.stat().st_size + 40 * MIB < whole < tiny.stat().st_size + 70 * MIB


def test_layers_may_differ_in_their_heads(tmp_path: Path) -> None:
    """A file that gives key-value heads for each layer is added up."""
    same = tiny_model(tmp_path / "same.gguf")
    each = tiny_model(tmp_path / "each.gguf", extra={"llama.attention.head_count_kv": [4, 2]})
    assert needed(same, slots=1) - needed(each, slots=1) == 512 * 2 * 64 * 2 * 2


def test_the_machine_has_memory() -> None:
    """What is available is a part of all there is."""
    memory = read_memory()
    assert 0 < memory.available <= memory.total
