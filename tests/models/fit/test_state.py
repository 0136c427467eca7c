"""What recurrent layers keep, against logs of engines."""

from __future__ import annotations

import pytest
from fit_headers import MIB, Given, shape

from rung.models.fit.rules import rules
from rung.models.fit.run import Run
from rung.models.fit.state import state_bytes

QWEN35: dict[str, Given] = {
    "block_count": 64,
    "full_attention_interval": 4,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 6144,
    "ssm.state_size": 128,
    "ssm.group_count": 16,
}
MAMBA: dict[str, Given] = {
    "block_count": 48,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 4096,
    "ssm.state_size": 16,
}
FALCON_H1: dict[str, Given] = {
    "block_count": 24,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 3072,
    "ssm.state_size": 256,
    "ssm.group_count": 1,
}


@pytest.mark.parametrize(
    ("architecture", "numbers", "slots", "logged"),
    [
        ("qwen35", QWEN35, 4, 598.5),
        ("qwen35", {**QWEN35, "block_count": 65, "nextn_predict_layers": 1}, 3, 448.875),
        ("mamba", MAMBA, 1, 14.25),
        ("falcon-h1", FALCON_H1, 1, 72.984375),
    ],
)
def test_states_take_what_engines_log(
    architecture: str, numbers: dict[str, Given], slots: int, logged: float
) -> None:
    """Qwen3.6-27B with and without a block for further tokens, mamba-1.4b, Falcon-H1-1.5B."""
    per_layer, amount = state_bytes(
        shape(architecture, numbers), Run(context=32768, slots=slots), rules()
    )
    assert amount.bytes / MIB == logged
    assert sum(per_layer) == amount.bytes


def test_a_state_does_not_grow_with_the_context() -> None:
    """Nor does it depend on the types of keys and values."""
    small, large = Run(context=256, type_k="q8_0"), Run(context=1 << 20)
    sizes = [state_bytes(shape("mamba", MAMBA), run, rules())[1].bytes for run in (small, large)]
    assert sizes[0] == sizes[1]


def test_models_that_attend_keep_no_state() -> None:
    """Every layer's is 0."""
    per_layer, amount = state_bytes(shape("llama"), Run(context=512), rules())
    assert (per_layer, amount.bytes) == ((0,) * 4, 0)
