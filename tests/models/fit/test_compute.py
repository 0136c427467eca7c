"""What computing takes: the rule against logs, and that it says where it is not to be trusted."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from fit_headers import MIB, Given, model, shape

from rung.models.fit.compute import compute, output_bytes
from rung.models.fit.rules import Doubt, rules
from rung.models.fit.run import Run
from rung.models.fit.shape import Shape

QWEN3_30B: Mapping[str, Given] = {
    "block_count": 48,
    "embedding_length": 2048,
    "feed_forward_length": 6144,
    "attention.head_count": 32,
    "attention.head_count_kv": 4,
    "attention.key_length": 128,
    "attention.value_length": 128,
    "vocab_size": 151_936,
}
GEMMA3: Mapping[str, Given] = {
    "block_count": 7,
    "embedding_length": 512,
    "feed_forward_length": 2048,
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.sliding_window": 512,
}
WEIGHTS = model().weights


def host(found: Shape, run: Run, engine: str | None = None) -> float:
    """MiB on a processor alone."""
    return compute(found, WEIGHTS, run, rules(engine)).host.bytes / MIB


@pytest.mark.parametrize(
    ("run", "logged"),
    [
        (Run(context=4096), 300.75),
        (Run(context=4096, flash_attention=False), 304.75),
        (Run(context=32768, flash_attention=False), 2136.01),
    ],
)
def test_the_rule_of_2025_is_within_a_tenth_of_what_was_logged(run: Run, logged: float) -> None:
    """Qwen3-30B-A3B on a processor; exact where logits are the most of it."""
    predicted = host(shape("qwen3moe", QWEN3_30B), run, "ik_llama.cpp")
    assert predicted == pytest.approx(logged, rel=0.02)


@pytest.mark.parametrize(
    ("architecture", "numbers", "run", "logged"),
    [
        ("llama", {}, Run(context=1024), 15.02),
        ("llama", {}, Run(context=4096), 18.02),
        ("llama", {}, Run(context=4096, slots=4), 15.02),
        ("llama", {}, Run(context=1024, ubatch=128), 3.75),
        ("llama", {}, Run(context=2048, type_k="q8_0", type_v="q8_0"), 16.05),
        ("gemma3", GEMMA3, Run(context=1024), 19.03),
        ("gemma3", GEMMA3, Run(context=4096), 22.03),
        ("gemma3", GEMMA3, Run(context=1024, ubatch=128), 4.69),
    ],
)
def test_the_embedded_engine_takes_what_its_own_log_says(
    architecture: str, numbers: Mapping[str, Given], run: Run, logged: float
) -> None:
    """Build b11549 on a processor, read from buffers of generated models."""
    assert host(shape(architecture, numbers), run) == pytest.approx(logged, abs=0.1)


def test_without_flash_attention_scores_are_kept() -> None:
    """Within a twentieth above what the embedded engine logs, never below."""
    predicted = host(shape("llama"), Run(context=4096, flash_attention=False))
    assert 78.51 <= predicted <= 78.51 * 1.05


def test_the_server_of_2026_has_room_for_logits_of_one_token_per_slot() -> None:
    """gemma3 4B at 131,072 tokens: 203 MiB were logged where the rule of 2025 says 516."""
    told: dict[str, Given] = {
        "block_count": 34,
        "embedding_length": 2560,
        "feed_forward_length": 10_240,
        "attention.head_count": 8,
        "attention.head_count_kv": 4,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.sliding_window": 1024,
        "vocab_size": 262_144,
    }
    found, run = shape("gemma3", told), Run(context=131_072)
    amount = compute(found, WEIGHTS, run, rules("ollama"), cards=1).card
    assert amount.bytes / MIB == pytest.approx(203, abs=64)
    assert amount.low_confidence
    old = compute(found, WEIGHTS, run, rules("ik_llama.cpp"), cards=1).card
    assert old.bytes / MIB > 500


def test_a_card_that_holds_no_output_takes_a_copy_of_it() -> None:
    """Llama-2-13B in Q8_0 with its output on the host: 72.5 + 166.0 + 10.0 MiB, 248.54 logged."""
    told: dict[str, Given] = {
        "block_count": 40,
        "embedding_length": 5120,
        "feed_forward_length": 13_824,
        "attention.head_count": 40,
        "attention.head_count_kv": 40,
        "vocab_size": 32_000,
    }
    weights = msgspec.structs.replace(WEIGHTS, output=32_000 * 5120 * 34 // 32)
    found = msgspec.structs.replace(shape("llama", told), tied=False)
    run = Run(context=512, flash_attention=False)
    card = compute(found, weights, run, rules("ik_llama.cpp"), cards=1, output_on_card=False).card
    assert card.bytes / MIB == pytest.approx(248.5, abs=0.1)


def test_the_host_hands_masks_and_embeddings_to_a_card() -> None:
    """Qwen3-30B-A3B at 32,768 tokens on CUDA: 68 MiB."""
    found = compute(
        shape("qwen3moe", QWEN3_30B), WEIGHTS, Run(context=32768), rules("ik_llama.cpp"), cards=1
    )
    assert found.host.bytes / MIB == 68.0


@pytest.mark.parametrize(
    ("architecture", "numbers", "run", "cards", "words"),
    [
        ("deepseek2", {"attention.kv_lora_rank": 512}, Run(context=512), 1, "latent attention"),
        (
            "qwen3moe",
            {"expert_count": 8},
            Run(context=512, experts_on_host=True),
            1,
            "kept on the host",
        ),
        ("llama", {}, Run(context=131_072), 0, "100,000 tokens"),
        ("llama", {}, Run(context=512), 2, "several cards"),
        ("llama", {}, Run(context=8192, flash_attention=False), 1, "scores in pools"),
        ("llama", {}, Run(context=512, slots=2), 1, "every slot"),
        ("mamba", {"ssm.inner_size": 64, "ssm.state_size": 16, "ssm.conv_kernel": 4}, Run(context=512), 0, "recurrent"),
    ],
)  # fmt: skip
def test_settings_in_which_the_rule_misses_are_of_low_confidence_and_say_why(
    architecture: str, numbers: Mapping[str, Given], run: Run, cards: int, words: str
) -> None:
    """Each kind of miss that the logs have."""
    found = compute(shape(architecture, numbers), WEIGHTS, run, rules(), cards=cards)
    amount = found.card if cards else found.host
    assert amount.low_confidence
    assert words in amount.note


def test_a_plain_run_is_sure_of_itself() -> None:
    """On a processor and on one card."""
    for cards in (0, 1):
        found = compute(shape("llama"), WEIGHTS, Run(context=4096), rules(), cards=cards)
        assert not found.host.low_confidence
        assert not found.card.low_confidence


def test_every_doubt_is_some_rule_sets() -> None:
    """Otherwise it would be dead."""
    used = {doubt for name in ("llama.cpp-2026", "llama.cpp-2025") for doubt in rules(name).doubts}
    assert used == set(Doubt)


@pytest.mark.parametrize(
    ("dim", "used", "inside", "logged"),
    [(256, 2, 256, 6.52), (256, 4, 1024, 27.52), (512, 8, 128, 20.02), (1024, 8, 384, 45.02)],
)
def test_experts_take_what_the_embedded_engine_logs(
    dim: int, used: int, inside: int, logged: float
) -> None:
    """Build b11549 on a processor; never less, and where experts' buffers share memory up to 0.4 times more."""
    told: dict[str, Given] = {
        "embedding_length": dim,
        "feed_forward_length": 2 * dim,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "expert_count": 8,
        "expert_used_count": used,
        "expert_feed_forward_length": inside,
    }
    predicted = host(shape("qwen3moe", told), Run(context=1024))
    assert logged - 0.1 <= predicted <= 1.4 * logged


def test_results_take_one_tokens_logits_per_slot() -> None:
    """0.14 MiB for four slots of 9,000 tokens, as the embedded engine logs it; embeddings where there are no logits."""
    assert (
        round(output_bytes(shape("llama"), Run(context=512, slots=4), rules()).bytes / MIB, 2)
        == 0.14
    )
    embeds = output_bytes(shape("bert"), Run(context=512), rules())
    assert embeds.bytes == 4 * 512
