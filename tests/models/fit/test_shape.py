"""What a header says of layers: each trap that estimators fall into, on a header that has it."""

from __future__ import annotations

import contextlib

import pytest
from fit_headers import Given, header, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.errors import ModelError
from rung.models.fit.families import Recurrent, family
from rung.models.fit.shape import shape_of
from rung.models.tensortypes import TensorType


def windows(architecture: str, **numbers: Given | None) -> list[int]:
    """The window of each layer."""
    told = {
        "attention.sliding_window": 512,
        **{k.replace("__", "."): v for k, v in numbers.items()},
    }
    return [layer.window for layer in shape(architecture, told).layers]


def test_a_stated_head_size_wins_over_the_embedding_divided_by_heads() -> None:
    """Qwen3-4B has heads of 128 though 2560 / 32 is 80."""
    told = {"embedding_length": 2560, "attention.head_count": 32, "attention.head_count_kv": 8}
    stated = {**told, "attention.key_length": 128, "attention.value_length": 128}
    assert shape("qwen3", stated).layers[0].width_k == 1024
    assert shape("qwen3", told).layers[0].width_k == 640


def test_without_heads_of_keys_and_values_there_are_as_many_as_of_queries() -> None:
    """The key is left out of models whose heads share nothing."""
    found = shape("llama", {"attention.head_count_kv": None})
    assert [layer.kv_heads for layer in found.layers] == [8] * 4


def test_heads_may_differ_by_layer_and_none_means_no_cache() -> None:
    """Nemotron's deci: a layer without attention keeps nothing at all."""
    layers = shape("deci", {"attention.head_count_kv": (8, 0, 4, 0)}).layers
    assert [layer.owns_cache for layer in layers] == [True, False, True, False]
    assert [layer.width_k for layer in layers] == [512, 0, 256, 0]
    assert not any(layer.state for layer in layers)


def test_an_array_longer_than_the_layers_is_read_as_far_as_there_are_layers() -> None:
    """The engine allows it, too."""
    layers = shape("deci", {"attention.head_count_kv": (8, 0, 4, 0, 4, 4)}).layers
    assert [layer.kv_heads for layer in layers] == [8, 0, 4, 0]


def test_gemma3_attends_to_everything_in_every_sixth_layer() -> None:
    """Of 26 layers four, not five: the last of each group is the dense one."""
    found = windows("gemma3", block_count=26)
    assert [n for n, window in enumerate(found) if not window] == [5, 11, 17, 23]


def test_gpt_oss_and_gemma2_have_a_window_in_every_other_layer() -> None:
    """Of 128 and 4,096 tokens, where the header does not say."""
    assert windows("gpt-oss", attention__sliding_window=None) == [128, 0, 128, 0]
    assert windows("gemma2", attention__sliding_window=None) == [4096, 0, 4096, 0]


def test_smallthinker_begins_with_a_layer_that_attends_to_everything() -> None:
    """The first of each group is the dense one."""
    assert windows("smallthinker", block_count=8) == [0, 512, 512, 512, 0, 512, 512, 512]


def test_a_window_that_the_engine_does_not_use_counts_for_nothing() -> None:
    """Phi-4-mini's header has one of 262,144 tokens."""
    found = shape("phi3", {"attention.sliding_window": 262_144})
    assert [layer.window for layer in found.layers] == [0] * 4
    assert "does not use" in found.notes[0]


def test_olmo2_without_a_window_attends_to_everything() -> None:
    """Olmo 3 shares its name and has one."""
    assert windows("olmo2", attention__sliding_window=None) == [0] * 4


def test_gemma4_lists_its_windows_and_has_other_heads_inside_them() -> None:
    """The last layers use the cache of earlier ones."""
    found = shape(
        "gemma4",
        {
            "attention.sliding_window": 1024,
            "attention.sliding_window_pattern": (1, 1, 0, 1),
            "attention.head_count_kv": (8, 8, 1, 8),
            "attention.key_length": 512,
            "attention.value_length": 512,
            "attention.key_length_swa": 256,
            "attention.value_length_swa": 256,
            "attention.shared_kv_layers": 1,
        },
    )
    assert [layer.width_k for layer in found.layers] == [2048, 2048, 512, 0]
    assert [layer.owns_cache for layer in found.layers] == [True, True, True, False]


def test_gemma4_without_its_list_is_taken_to_attend_to_everything_and_says_so() -> None:
    """An upper bound instead of a guess."""
    found = shape("gemma4", {"attention.sliding_window": 1024})
    assert [layer.window for layer in found.layers] == [0] * 4
    assert "which layers have a window" in found.notes[0]


def test_gemma3n_owns_a_cache_in_its_first_twenty_layers() -> None:
    """The other layers use theirs."""
    found = shape("gemma3n", {"block_count": 30, "attention.sliding_window": 512})
    assert sum(layer.owns_cache for layer in found.layers) == 20


def test_blocks_for_further_tokens_keep_nothing() -> None:
    """Qwen3.6 with one such block: 65 blocks, 16 of them attending, 48 with a state."""
    told: dict[str, Given] = {
        "block_count": 65,
        "nextn_predict_layers": 1,
        "full_attention_interval": 4,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 6144,
        "ssm.state_size": 128,
        "ssm.group_count": 16,
    }
    found = shape("qwen35", told)
    assert sum(layer.owns_cache for layer in found.layers) == 16
    assert sum(layer.state > 0 for layer in found.layers) == 48
    assert not found.layers[64].owns_cache
    assert "predict further tokens" in found.notes[0]


def test_lfm2_keeps_a_short_convolution_where_it_does_not_attend() -> None:
    """Two inputs of 512 elements, for a convolution over three."""
    found = shape("lfm2", {"attention.head_count_kv": (0, 8, 0, 8), "shortconv.l_cache": 3})
    assert [layer.state for layer in found.layers] == [1024, 0, 1024, 0]
    assert [layer.owns_cache for layer in found.layers] == [False, True, False, True]


def test_falcon_h1_keeps_both_in_every_layer() -> None:
    """The state of the 1.5B model."""
    told = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 3072,
        "ssm.state_size": 256,
        "ssm.group_count": 1,
    }
    found = shape("falcon-h1", told)
    assert all(layer.owns_cache and layer.state == 10_752 + 786_432 for layer in found.layers)


def test_nemotron_h_keeps_a_state_only_where_it_has_neither_heads_nor_a_feed_forward_part() -> None:
    """Its second layer is a feed-forward part alone."""
    told: dict[str, Given] = {
        "attention.head_count_kv": (0, 0, 2, 0),
        "feed_forward_length": (0, 1024, 0, 0),
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 64,
        "ssm.state_size": 16,
    }
    assert [layer.state > 0 for layer in shape("nemotron_h", told).layers] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("architecture", ["mamba", "rwkv7"])
def test_models_without_attention_keep_a_state_alone(architecture: str) -> None:
    """Mamba 1.4B's state, and RWKV's two shifted tokens and matrix per head."""
    told: dict[str, Given | None] = {
        "attention.head_count": None,
        "attention.head_count_kv": None,
        "ssm.conv_kernel": 4 if architecture == "mamba" else None,
        "ssm.inner_size": 4096 if architecture == "mamba" else None,
        "ssm.state_size": 16 if architecture == "mamba" else None,
        "wkv.head_size": 64 if architecture == "rwkv7" else None,
    }
    found = shape(architecture, told)
    expected = 12_288 + 65_536 if architecture == "mamba" else 512 * (2 + 64)
    assert [layer.state for layer in found.layers] == [expected] * 4
    assert not any(layer.owns_cache for layer in found.layers)


def test_models_that_embed_keep_no_cache() -> None:
    """Their layers attend within a step."""
    found = shape("nomic-bert", {"attention.causal": 0})
    assert not found.causal
    assert not any(layer.owns_cache for layer in found.layers)


def test_a_decoder_that_is_not_causal_keeps_one_all_the_same() -> None:
    """As the embedded engine does: the architecture decides."""
    found = shape("llama", {"attention.causal": 0})
    assert all(layer.owns_cache for layer in found.layers)


def test_latent_attention_has_a_rank_and_a_part_with_positions() -> None:
    """Files made for keeping the latent have a key of their own."""
    told = {"attention.kv_lora_rank": 512, "rope.dimension_count": 64}
    plain = shape("deepseek2", told).mla
    absorbed = shape("deepseek2", {**told, "attention.key_length_mla": 192}).mla
    assert plain is not None
    assert (plain.width, plain.absorbed) == (576, False)
    assert absorbed is not None
    assert absorbed.absorbed


def test_only_layers_with_the_tensor_have_a_key_for_choosing_what_to_attend_to() -> None:
    """GLM 5 has it in 21 of its layers."""
    tensors = {"blk.2.indexer.attn_k.weight": ((512, 128), TensorType.F16)}
    found = shape_of([header("glm-dsa", {"attention.indexer.key_length": 128}, tensors)])
    assert [layer.indexer for layer in found.layers] == [0, 0, 128, 0]


def test_the_vocabulary_is_that_of_the_matrix_which_may_be_padded() -> None:
    """Gemma 3 has 262,144 tokens and 262,208 rows."""
    tensors = {"token_embd.weight": ((512, 9064), TensorType.F16)}
    found = shape_of([header("gemma3", {}, tensors, tokenizer={"tokens": 9000, "merges": 77})])
    assert (found.vocabulary, found.tied, found.merges) == (9064, True, 77)
    alone = shape_of([header("gemma3", {"vocab_size": None}, tokenizer={"tokens": 9000})])
    assert alone.vocabulary == 9000


def test_an_unknown_architecture_is_an_upper_bound_that_says_so() -> None:
    """Most heads everywhere, no window, nothing shared."""
    told: dict[str, Given] = {
        "attention.head_count_kv": (8, 0, 2, 0),
        "attention.sliding_window": 64,
    }
    found = shape("brandnew", told)
    assert not found.known
    assert [layer.kv_heads for layer in found.layers] == [8] * 4
    assert [layer.window for layer in found.layers] == [0] * 4
    assert found.unread == ()


def test_heads_of_layers_with_a_window_count_where_nobody_knows_which_those_are() -> None:
    """The wider of both kinds, in every layer; a block for further tokens keeps as much as any."""
    told: dict[str, Given] = {
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.key_length_swa": 128,
        "attention.value_length_swa": 32,
        "nextn_predict_layers": 1,
    }
    found = shape("brandnew", told)
    assert {(layer.width_k, layer.width_v) for layer in found.layers} == {(2 * 128, 2 * 64)}
    assert all(layer.owns_cache for layer in found.layers)


@pytest.mark.parametrize(
    ("told", "unread"),
    [
        ({"kda.head_dim": 128, "ssm.conv_kernel": 4}, ("kda.head_dim", "ssm.conv_kernel")),
        ({"ssm.inner_size": 64, "ssm.state_size": 16, "ssm.conv_kernel": 4}, ()),
        (
            {"ssm.inner_size": 64, "ssm.state_size": 16, "ssm.conv_kernel": 4, "kda.head_dim": 8},
            ("kda.head_dim",),
        ),
        ({"decoder_block_count": 4}, ("decoder_block_count",)),
    ],
)
def test_a_state_without_a_formula_is_named_where_the_architecture_is_not_known(
    told: dict[str, Given], unread: tuple[str, ...]
) -> None:
    """Then there is no upper bound; a known family may have the same keys."""
    assert shape("kimi-linear", told).unread == unread
    assert shape("llama", told).unread == ()


def test_tensors_tell_of_a_state_as_well_as_keys() -> None:
    """Where no key does."""
    made = header("brandnew", {}, {"blk.0.ssm_conv1d.weight": ((4, 64), TensorType.F32)})
    assert shape_of([made]).unread == ("blk.0.ssm_conv1d.weight",)


def test_heads_without_elements_keep_nothing() -> None:
    """A model with keys and values of no width is refused, not said to take nothing."""
    with pytest.raises(ModelError, match="none of its layers keeps anything"):
        shape("llama", {"attention.head_count": 0, "attention.head_count_kv": 2})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_count", 0),
        ("block_count", None),
        ("block_count", 1 << 40),
        ("embedding_length", -1),
        ("embedding_length", 3.5),
        ("attention.head_count", 1 << 62),
        ("attention.head_count_kv", (2, 2)),
        ("attention.head_count_kv", (2, -2, 2, 2)),
        ("attention.key_length", -64),
        ("attention.head_count", "eight"),
        ("context_length", -1),
    ],
)
def test_numbers_that_no_model_can_have_are_refused_in_a_sentence(
    key: str, value: Given | None
) -> None:
    """Naming the key."""
    with pytest.raises(ModelError, match=f"'llama.{key}'") as caught:
        shape("llama", {key: value})
    assert caught.value.hint


def test_a_header_without_heads_is_refused() -> None:
    """Nothing could be estimated from it."""
    with pytest.raises(ModelError, match="none of its layers keeps anything"):
        shape("llama", {"attention.head_count": None, "attention.head_count_kv": None})


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["llama", "gemma3", "qwen35", "lfm2", "deepseek2", "brandnew"]),
    st.dictionaries(
        st.sampled_from(
            [
                "block_count",
                "embedding_length",
                "attention.head_count",
                "attention.head_count_kv",
                "attention.key_length",
                "attention.sliding_window",
                "attention.sliding_window_pattern",
                "attention.shared_kv_layers",
                "nextn_predict_layers",
                "full_attention_interval",
                "ssm.inner_size",
                "shortconv.l_cache",
                "expert_count",
            ]
        ),
        st.one_of(
            st.integers(-(1 << 63), 1 << 64),
            st.integers(0, 8),
            st.floats(),
            st.text(max_size=3),
            st.lists(st.integers(-1, 9), max_size=6),
        ),
        max_size=5,
    ),
)
def test_any_numbers_give_a_shape_or_a_sentence(
    architecture: str, numbers: dict[str, Given]
) -> None:
    """Never another error, and never a negative size."""
    with contextlib.suppress(ModelError):
        found = shape(architecture, numbers)
        assert all(layer.width_k >= 0 and layer.state >= 0 for layer in found.layers)


def test_every_family_that_keeps_states_in_intervals_says_how_long_they_are() -> None:
    """Headers may leave the interval out."""
    for name in ("qwen3next", "qwen35", "qwen35moe"):
        found = family(name)
        assert found is not None
        assert (found.recurrent, found.interval) == (Recurrent.INTERVAL, 4)
