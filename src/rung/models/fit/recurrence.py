"""What a layer keeps of a sequence instead of keys and values: Mamba, RWKV, linear attention, short convolution.

Formulas in floats per sequence and layer, as llama.cpp allocates them; `state` makes
bytes of them.
"""

from __future__ import annotations

from rung.models.fit.keys import Keys

_TOKEN_SHIFTS = 2  # that RWKV keeps where the header does not say


def state_elements(keys: Keys, embedding: int) -> int:
    """Floats that a recurrent layer keeps of one sequence; 0 where the header tells of no recurrence.

    Raises:
        ModelError: a number is missing or out of bounds.
    """
    if keys.has("ssm.inner_size"):
        return _selective(keys)
    if keys.has("wkv.head_size"):
        shifts = keys.count("token_shift_count", _TOKEN_SHIFTS)
        return embedding * (shifts + keys.count("wkv.head_size", 0))
    if keys.has("shortconv.l_cache"):
        return embedding * (keys.needed("shortconv.l_cache") - 1)
    return 0


def _selective(keys: Keys) -> int:
    """Mamba and gated linear attention: the convolution's last inputs, and the state itself."""
    inner, state = keys.needed("ssm.inner_size"), keys.needed("ssm.state_size")
    groups = keys.count("ssm.group_count", 0)
    convolved = (keys.needed("ssm.conv_kernel") - 1) * (inner + 2 * groups * state)
    return convolved + state * inner
