"""What weights take by group, and what decoding reads of them; models without a header."""

from __future__ import annotations

from pathlib import Path

import pytest
from fit_headers import header, model

from gguf_models import tiny_model
from rung.models.fit.catalogued import Hyperparameters, model_from, shape_from
from rung.models.fit.model import model_of
from rung.models.fit.weights import weights_of
from rung.models.header import read_header
from rung.models.tensortypes import TensorType

TABLE = 1000 * 210
NORM = 4 * 256
SQUARE, WIDE = 256 * 144, 3 * 256 * 144


def test_groups_add_up_to_the_whole() -> None:
    """A table, an output with its norm, and blocks."""
    weights = model(layers=3).weights
    table = -(-TABLE // 32) * 32
    assert weights.embedding == table
    assert weights.output == table + NORM
    assert weights.per_layer == (SQUARE + NORM + WIDE,) * 3
    assert weights.total == weights.embedding + weights.output + sum(weights.per_layer)
    assert weights.experts_per_layer == (0, 0, 0)


def test_a_tied_output_is_its_norm_alone_and_decoding_reads_the_table() -> None:
    """An untied table is only looked up."""
    tied, untied = model(tied=True).weights, model().weights
    assert tied.output == NORM
    assert tied.active_bytes == tied.total
    assert untied.active_bytes == untied.total - untied.embedding


def test_decoding_reads_the_experts_that_a_token_uses() -> None:
    """Two of eight."""
    found = model("qwen3moe", experts=8)
    assert found.weights.experts_per_layer == (8 * WIDE,) * 2
    unread = 2 * 6 * WIDE
    assert found.weights.active_bytes == found.weights.total - found.weights.embedding - unread


def test_matrices_are_counted_by_type_for_engines_that_copy_some() -> None:
    """The table of tokens is one of them only where it is the output as well."""
    assert model(layers=2).weights.matrices_by_type == {"Q6_K": TABLE, "Q4_K": 2 * (SQUARE + WIDE)}
    assert model(layers=2, tied=True).weights.matrices_by_type["Q6_K"] == TABLE


def test_tables_of_layers_are_not_read_as_a_whole() -> None:
    """Gemma's embeddings per layer stay in the host's memory."""
    tensors = {
        "token_embd.weight": ((512, 100), TensorType.F16),
        "per_layer_token_embd.weight": ((1024, 100), TensorType.F16),
    }
    weights = weights_of([header("gemma3n", {}, tensors)])
    assert weights.host_tables == 1024 * 100 * 2
    assert weights.active_bytes == 512 * 100 * 2


def test_tensors_that_are_not_of_a_block_count_in_the_whole() -> None:
    """Such as the rotation factors of Llama 3."""
    tensors = {
        "rope_freqs.weight": ((64,), TensorType.F32),
        "token_embd.weight": ((512, 100), TensorType.F16),
    }
    weights = weights_of([header("llama", {}, tensors)])
    assert weights.total == 64 * 4 + 512 * 100 * 2
    assert weights.parameters == 64 + 512 * 100


def test_parts_of_a_split_model_are_added_up() -> None:
    """The first part alone has the metadata."""
    first = header("llama", {}, {"blk.0.attn_q.weight": ((512, 512), TensorType.F16)})
    second = header("llama", {}, {"blk.3.attn_q.weight": ((512, 512), TensorType.F16)})
    weights = weights_of([first, second])
    assert weights.per_layer == (512 * 1024, 0, 0, 512 * 1024)
    assert weights.total == 2 * 512 * 1024


def test_a_real_file_is_read_as_it_is(tmp_path: Path) -> None:
    """All tensors of a written model, which fill the file but for its header."""
    path = tiny_model(tmp_path / "tiny.gguf", layers=2)
    found = model_of([read_header(path)], "tiny")
    assert (found.file_type, found.exact, found.shape.tied) == ("F16", True, False)
    data = path.stat().st_size - min(tensor.start for tensor in read_header(path).tensors)
    assert abs(found.weights.total - data) < 32


QWEN3_4B = Hyperparameters(
    architecture="qwen3",
    layers=36,
    heads=32,
    kv_heads=8,
    head_width=128,
    embedding=2560,
    feed_forward=9728,
    vocabulary=151_936,
    tied=True,
)


def test_a_catalogued_model_has_the_shape_that_its_header_would_give() -> None:
    """Explicit heads of 128, as the catalogue says them."""
    found = shape_from(QWEN3_4B, "Qwen3-4B")
    assert [layer.width_k for layer in found.layers] == [1024] * 36
    assert (found.vocabulary, found.tied, found.known) == (151_936, True, True)


def test_a_catalogued_models_weights_are_a_division_of_its_file() -> None:
    """Not exact, and nothing is lost or added but for rounding."""
    found = model_from(
        QWEN3_4B,
        name="Qwen3-4B",
        file_type="Q4_K_M",
        file_bytes=2_497_280_256,
        parameters=4_022_468_096,
    )
    weights = found.weights
    assert not found.exact
    assert weights.embedding == 151_936 * 2560 // 256 * 210  # tied: the larger type of an output
    assert weights.total == 2_497_280_256
    assert weights.total - weights.embedding - sum(weights.per_layer) < 36


@pytest.mark.parametrize("file_type", ["Q8_0", "F16", "unknown", ""])
def test_any_mix_gives_groups_within_the_file(file_type: str) -> None:
    """An unknown one is taken to be even."""
    found = model_from(
        QWEN3_4B, name="x", file_type=file_type, file_bytes=10**9, parameters=4_022_468_096
    )
    assert 0 < found.weights.embedding <= 10**9 // 3
    assert all(size > 0 for size in found.weights.per_layer)
