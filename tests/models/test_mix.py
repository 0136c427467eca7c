"""Which tensor gets which type, against what llama.cpp's documentation and its own quantiser say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dense_models import weights, write_model

from rung.errors import ModelError
from rung.models.filetypes import FileType
from rung.models.header import read_header
from rung.models.mix import ARCHITECTURES, Target, plan, use_more_bits
from rung.models.quantize import quantize


def planned(path: Path, kind: FileType) -> dict[str, Target]:
    """The plan of a file, by tensor."""
    return {target.tensor.name: target for target in plan(read_header(path), kind)}


def types(path: Path, kind: FileType, matrix: str, layers: int) -> list[str]:
    """The type of one matrix in every layer."""
    found = planned(path, kind)
    return [found[f"blk.{layer}.{matrix}.weight"].type.name for layer in range(layers)]


def refusal(path: Path, kind: FileType = FileType.Q4_K_M) -> ModelError:
    """The error that a model is refused with."""
    with pytest.raises(ModelError) as caught:
        plan(read_header(path), kind)
    return caught.value


def test_more_bits_go_to_the_first_and_last_eighth_and_every_third_between() -> None:
    """Written out for the layer counts of known models."""
    chosen = {n: [i for i in range(n) if use_more_bits(i, n)] for n in (1, 2, 4, 8, 16, 22, 32)}
    assert chosen == {
        1: [0],
        2: [1],
        4: [2, 3],
        8: [0, 3, 6, 7],
        16: [0, 1, 4, 7, 10, 13, 14, 15],
        22: [0, 1, 4, 7, 10, 13, 16, 19, 20, 21],
        32: [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31],
    }


@pytest.mark.parametrize(
    ("kind", "usual", "differing"),
    [
        (FileType.Q8_0, "Q8_0", {}),
        (FileType.Q6_K, "Q6_K", {}),
        (FileType.Q5_K_S, "Q5_K", {}),
        (FileType.Q3_K_S, "Q3_K", {}),
        (
            FileType.Q3_K_L,
            "Q3_K",
            {name: ["Q5_K"] * 16 for name in ("attn_v", "attn_output", "ffn_down")},
        ),
        (
            FileType.Q3_K_M,
            "Q3_K",
            {
                "attn_v": ["Q5_K"] * 2 + ["Q4_K"] * 14,
                "attn_output": ["Q4_K"] * 16,
                "ffn_down": ["Q5_K"] + ["Q4_K"] * 15,
            },
        ),
        (
            FileType.Q4_K_S,
            "Q4_K",
            {
                "attn_v": ["Q5_K"] * 4 + ["Q4_K"] * 12,
                "ffn_down": ["Q5_K"] * 2 + ["Q4_K"] * 14,
            },
        ),
    ],
)
def test_the_mix_of_sixteen_layers(
    tmp_path: Path, kind: FileType, usual: str, differing: Mapping[str, list[str]]
) -> None:
    """Every matrix of every layer; the output is Q6_K or better, the embedding the usual type."""
    path = write_model(tmp_path / "m.gguf", weights(layers=16, rows=2))
    for matrix in (
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_up",
        "ffn_gate",
        "ffn_down",
    ):
        assert types(path, kind, matrix, 16) == differing.get(matrix, [usual] * 16)
    found = planned(path, kind)
    assert found["output.weight"].type.name == ("Q8_0" if kind is FileType.Q8_0 else "Q6_K")
    assert found["token_embd.weight"].type.name == usual


@pytest.mark.parametrize(("kind", "usual"), [(FileType.Q4_K_M, "Q4_K"), (FileType.Q5_K_M, "Q5_K")])
@pytest.mark.parametrize("layers", [1, 2, 4, 8, 22, 32])
def test_the_medium_mixes_follow_the_rule_at_every_depth(
    tmp_path: Path, kind: FileType, usual: str, layers: int
) -> None:
    """Values and `ffn_down` get Q6_K where it matters, everything else the usual type."""
    path = write_model(tmp_path / "m.gguf", weights(layers=layers, rows=2))
    better = ["Q6_K" if use_more_bits(layer, layers) else usual for layer in range(layers)]
    assert types(path, kind, "attn_v", layers) == better
    assert types(path, kind, "ffn_down", layers) == better
    assert types(path, kind, "attn_k", layers) == [usual] * layers


def test_a_shared_embedding_is_treated_as_the_output(tmp_path: Path) -> None:
    """Without `output.weight` the embedding does both, and gets the output's type."""
    path = write_model(tmp_path / "m.gguf", weights(tied=True))
    assert planned(path, FileType.Q4_K_M)["token_embd.weight"].type.name == "Q6_K"


def test_fused_attention_counts_as_values(tmp_path: Path) -> None:
    """One matrix for queries, keys and values gets what values get."""
    path = write_model(tmp_path / "m.gguf", weights(layers=8, fused=True), arch="phi3")
    assert types(path, FileType.Q3_K_M, "attn_qkv", 8) == ["Q5_K"] * 2 + ["Q4_K"] * 6


@pytest.mark.parametrize(
    ("arch", "heads", "values"),
    [("llama", (8, 8), "Q3_K"), ("llama", (8, 1), "Q5_K"), ("qwen2", (8, 8), "Q5_K")],
)
def test_a_70b_models_values_get_more(
    tmp_path: Path, arch: str, heads: tuple[int, int], values: str
) -> None:
    """Eighty layers whose heads share their values."""
    path = write_model(tmp_path / "m.gguf", weights(layers=80, rows=2), arch=arch, heads=heads)
    assert types(path, FileType.Q3_K_S, "attn_v", 80) == [values] * 80


def test_norms_and_biases_stay_as_they_are(tmp_path: Path) -> None:
    """Only matrices are rounded."""
    found = planned(write_model(tmp_path / "m.gguf", weights()), FileType.Q3_K_S)
    kept = {name for name, target in found.items() if target.type is target.tensor.type}
    assert kept == {name for name in found if "norm" in name or name.endswith("bias")}


@pytest.mark.parametrize(
    ("columns", "kind", "wanted", "got"),
    [
        (288, FileType.Q3_K_S, "Q3_K", "Q4_0"),
        (288, FileType.Q4_K_S, "Q4_K", "Q5_0"),
        (288, FileType.Q5_K_S, "Q5_K", "Q5_1"),
        (288, FileType.Q6_K, "Q6_K", "Q8_0"),
        (40, FileType.Q4_K_S, "Q4_K", "F16"),
        (40, FileType.Q8_0, "Q8_0", "F16"),
    ],
)
def test_rows_that_do_not_divide_into_blocks_get_the_next_type(
    tmp_path: Path, columns: int, kind: FileType, wanted: str, got: str
) -> None:
    """With the type they should have had on record."""
    path = write_model(tmp_path / "m.gguf", weights(columns=columns))
    target = planned(path, kind)["blk.1.attn_q.weight"]
    assert (target.wanted and target.wanted.name, target.type.name) == (wanted, got)


def test_other_architectures_are_refused_with_those_that_are_not(tmp_path: Path) -> None:
    """The hint lists every architecture that works."""
    for arch in ("falcon", "mamba", "bert", "qwen3moe", ""):
        error = refusal(write_model(tmp_path / "m.gguf", weights(), arch=arch))
        assert repr(arch) in error.message
        assert error.hint is not None
        assert all(name in error.hint for name in ARCHITECTURES)


def test_experts_are_refused(tmp_path: Path) -> None:
    """By the number in the metadata, and by their tensors."""
    path = tmp_path / "m.gguf"
    error = refusal(write_model(path, weights(), extra={"llama.expert_count": 8}))
    assert "8 experts" in error.message
    for name, shape in (
        ("blk.0.ffn_up_exps.weight", (2, 4, 256)),
        ("blk.0.ffn_gate_inp.weight", (2, 256)),
        ("v.blk.0.attn_q.weight", (4, 256)),
    ):
        tensors = {**weights(), name: np.ones(shape, np.float32)}
        assert name in refusal(write_model(path, tensors)).message


def test_what_is_rounded_already_is_refused(tmp_path: Path) -> None:
    """Rounding twice loses twice; the hint says where to start."""
    rounded = np.zeros((4, 34 * 8), np.uint8)
    tensors = {**weights(), "blk.0.attn_q.weight": rounded}
    path = write_model(tmp_path / "m.gguf", tensors, raw={"blk.0.attn_q.weight": 8})
    error = refusal(path)
    assert "'blk.0.attn_q.weight' has the type Q8_0" in error.message
    assert error.hint == "start from the model's F32, F16 or BF16 file"


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"general.type": "adapter"}, "holds no model but 'adapter'"),
        ({"split.count": 3}, "one of 3 parts"),
    ],
)
def test_files_that_are_no_whole_model_are_refused(
    tmp_path: Path, extra: Mapping[str, object], sentence: str
) -> None:
    """An adapter, and a part of a split model."""
    assert sentence in refusal(write_model(tmp_path / "m.gguf", weights(), extra=extra)).message


@pytest.mark.parametrize("names", [(), ("output_norm.weight",)])
def test_a_model_without_matrices_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A file with a vocabulary alone has nothing to round; nothing is written for it."""
    tensors = {name: tensor for name, tensor in weights().items() if name in names}
    path = write_model(tmp_path / "m.gguf", tensors)
    with pytest.raises(ModelError, match="no matrix among them"):
        quantize(path, tmp_path / "q.gguf", FileType.Q8_0, threads=1)
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]
