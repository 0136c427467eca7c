"""What keys and values take: windows, slots, types and latent attention, against logs of engines."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from fit_headers import MIB, Given, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.errors import InputError
from rung.models.fit.cache import cache_bytes
from rung.models.fit.rules import rule_names, rules
from rung.models.fit.run import CACHE_TYPES, Run, cached_bytes
from rung.models.fit.tags import Tag

GEMMA3_270M: Mapping[str, Given] = {
    "block_count": 18,
    "embedding_length": 640,
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.sliding_window": 512,
}
DEEPSEEK: Mapping[str, Given] = {
    "block_count": 61,
    "embedding_length": 7168,
    "attention.head_count": 128,
    "attention.head_count_kv": 128,
    "attention.key_length": 192,
    "attention.value_length": 128,
    "attention.kv_lora_rank": 512,
}
ABSORBED: Mapping[str, Given] = {
    **DEEPSEEK,
    "attention.head_count_kv": 1,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "rope.dimension_count": 64,
}


def mebibytes(
    architecture: str, numbers: Mapping[str, Given], run: Run, engine: str | None = None
) -> float:
    """The whole cache."""
    return cache_bytes(shape(architecture, numbers), run, rules(engine))[1].bytes / MIB


@pytest.mark.parametrize(
    ("context", "slots", "unified", "logged"),
    [
        (8192, 1, False, 39.0),
        (8192, 2, False, 54.0),
        (8192, 4, False, 84.0),
        (8192, 2, True, 46.5),
        (8192, 4, True, 61.5),
        (1024, 3, False, 27.0),
        (1024, 4, False, 18.0),
    ],
)
def test_windows_grow_with_slots_as_the_server_logs_them(
    context: int, slots: int, unified: bool, logged: float
) -> None:
    """gemma-3-270m under llama.cpp b10107; a third of 1,024 tokens is rounded up to 512 cells."""
    run = Run(context=context, slots=slots, unified=unified)
    assert mebibytes("gemma3", GEMMA3_270M, run) == logged


def test_an_engine_without_caches_for_windows_keeps_everything() -> None:
    """ik_llama.cpp, and every engine that is told to."""
    run = Run(context=8192)
    whole = mebibytes("gemma3", GEMMA3_270M, run, "ik_llama.cpp")
    assert whole == 18 * 8192 * 2 * 256 * 2 / MIB
    assert mebibytes("gemma3", GEMMA3_270M, Run(context=8192, swa_full=True)) == whole


@pytest.mark.parametrize(
    ("engine", "numbers", "run", "logged"),
    [
        ("llama.cpp-2024", DEEPSEEK, Run(context=512, flash_attention=False), 2440.0),
        ("ik_llama.cpp-mla0", DEEPSEEK, Run(context=512, flash_attention=False), 2440.0),
        ("ik_llama.cpp", DEEPSEEK, Run(context=32768, type_k="q8_0", type_v="q8_0"), 1166.625),
        ("llama.cpp-2025", ABSORBED, Run(context=16384), 2074.0),
        ("llama.cpp-2026", ABSORBED, Run(context=16384), 1098.0),
        ("llama.cpp-2026", DEEPSEEK, Run(context=512), 2440.0),
    ],
)
def test_latent_attention_takes_what_the_engine_of_the_time_keeps(
    engine: str, numbers: Mapping[str, Given], run: Run, logged: float
) -> None:
    """DeepSeek V3: heads, the latent and its value, or the latent alone."""
    assert mebibytes("deepseek2", numbers, run, engine) == logged


def test_a_quantised_cache_takes_its_scales_as_well() -> None:
    """34 bytes for 32 elements of q8_0, 18 of q4_0."""
    assert [cached_bytes(kind, 64) for kind in ("f16", "q8_0", "q4_0", "iq4_nl")] == [
        128,
        68,
        36,
        36,
    ]
    assert cached_bytes("q8_0", 33) == 68


def test_keys_and_values_may_have_different_types() -> None:
    """Qwen3-235B with q8_0 keys and f16 values, as ik_llama.cpp logs it."""
    told: dict[str, Given] = {
        "block_count": 94,
        "attention.head_count": 64,
        "attention.head_count_kv": 4,
        "attention.key_length": 128,
        "attention.value_length": 128,
    }
    assert mebibytes("qwen3moe", told, Run(context=8192, type_k="q8_0"), "ik_llama.cpp") == 1151.5


def test_contexts_are_rounded_up_to_whole_pieces_of_256_tokens() -> None:
    """300 tokens take 512 cells, as the embedded engine logs it."""
    assert mebibytes("llama", {}, Run(context=300)) == mebibytes("llama", {}, Run(context=512))


def test_an_unknown_architecture_is_no_exact_amount() -> None:
    """The amount says so itself."""
    amount = cache_bytes(shape("brandnew"), Run(context=4096), rules())[1]
    assert (amount.tag, amount.low_confidence) == (Tag.UNKNOWN, True)
    assert "upper bound" in amount.note
    assert cache_bytes(shape("llama"), Run(context=4096), rules())[1].tag is Tag.EXACT


@pytest.mark.parametrize(
    "wrong",
    [
        {"context": 0},
        {"context": 1 << 40},
        {"context": 512, "slots": 0},
        {"context": 512, "type_k": "q9_0"},
        {"context": 512, "ubatch": -1},
        {"context": 512, "gpu_layers": -1},
        {"context": 512, "type_v": "q8_0", "flash_attention": False},
    ],
)
def test_a_run_that_no_engine_would_start_is_refused(wrong: dict[str, int]) -> None:
    """With what is wrong, before anything is computed."""
    with pytest.raises(InputError):
        Run(**wrong)  # type: ignore[arg-type]  # which is the point


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(rule_names()),
    st.integers(1, 1 << 20),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from(CACHE_TYPES),
)
def test_more_context_or_more_precise_types_never_take_less(
    engine: str, context: int, slots: int, unified: bool, kind: str
) -> None:
    """For every engine, and every way to share."""
    run = Run(context=context, slots=slots, unified=unified, type_k=kind)
    more = Run(context=context + 256 * slots, slots=slots, unified=unified, type_k=kind)
    precise = Run(context=context, slots=slots, unified=unified, type_k="f32")
    sizes = [mebibytes("gemma3", GEMMA3_270M, one, engine) for one in (run, more, precise)]
    assert sizes[0] <= sizes[1]
    assert sizes[0] <= sizes[2]
