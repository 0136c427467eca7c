"""The types a whole model file is called by: the ones Rung writes, and the name of every one it may meet.

A file type is a mix: most matrices have the tensor type it is named after, `mix` says which have another.
"""

from __future__ import annotations

import enum


class FileType(enum.Enum):
    """A file type that `rung quantize` writes; the value is its number in `general.file_type`."""

    Q8_0 = 7
    Q6_K = 18
    Q5_K_M = 17
    Q5_K_S = 16
    Q4_K_M = 15
    Q4_K_S = 14
    Q3_K_L = 13
    Q3_K_M = 12
    Q3_K_S = 11


def file_type_name(number: int | None) -> str:
    """What people call a file with this `general.file_type`: `Q4_K_M`; `unknown` when it says none."""
    if number is None:
        return "unknown"
    return _NAMES.get(number, f"type {number}")


_NAMES = {member.value: member.name for member in FileType} | {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
