"""What a layer keeps of a sequence instead of keys and values: Mamba, RWKV, linear attention, short convolution.

Formulas in floats per sequence and layer, as llama.cpp allocates them; `state` makes
bytes of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rung.models.fit.keys import Keys
from rung.models.header import Header

_TOKEN_SHIFTS = 2  # that RWKV keeps where the header does not say

_RECURRENT = re.compile(
    r"(?:.*\.)?(?:ssm|kda|wkv|shortconv|rwkv|time_mix|linear_attention|delta_net)[._]|decoder_block_count"
)
"""Keys that tell of something kept beside keys and values."""

_READ = {
    "ssm.inner_size": ("ssm.",),
    "wkv.head_size": ("wkv.", "time_mix_", "rwkv."),
    "shortconv.l_cache": ("shortconv.",),
}
"""By the key that a formula begins with, what belongs to it."""

_RECURRENT_TENSOR = re.compile(r"blk\.\d+\.(?:ssm|time_mix|shortconv|kda)_?")


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


def unread_recurrence(keys: Keys, headers: Sequence[Header]) -> tuple[str, ...]:
    """What tells of a state that no formula here is for, by its names in the header; of an unknown family, no bound is
    known then.

    Args:
        keys: of the first part of the model.
        headers: of all parts, for what only the tensors tell.
    """
    read = next((prefixes for key, prefixes in _READ.items() if keys.has(key)), ())
    unread = [name for name in keys.names() if _RECURRENT.match(name) and not name.startswith(read)]
    if not unread and not read:
        tensors = (tensor.name for header in headers for tensor in header.tensors)
        unread = [name for name in tensors if _RECURRENT_TENSOR.match(name)][:1]
    return tuple(unread)
