"""Which quantisation of a model to take: Q4_K_M, Q3_K_M where that alone does not fit, and never less.

Below three bits a smaller model in four bits is the better use of the same memory, so the next step down is in size.
"""

from __future__ import annotations

import msgspec

from rung.models.catalog.entries import Entry

USUAL = "Q4_K_M"

WHY_USUAL = (
    "Q4_K_M by default: about 4.9 bits a weight, a third of F16's memory; the one clean series in the catalogue"
    " (Qwen3-4B-Instruct-2507, MMLU-Pro, mlx-lm) loses 3.3 of 64 points at 4 bit and 0.2 at 8 bit"
)
WHY_SMALLER = "Q3_K_M because Q4_K_M does not fit; below 4 bits answers change on hard cases first: evaluate on yours"
WHY_STOP = "below 3 bits a smaller model at 4 bits is the better use of the memory: step down in size instead"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One quantisation of a model.

    Attributes:
        name: of the file type.
        bytes: of its file; of another type than Q4_K_M by the usual bits a weight of both.
        why: it is looked at.
    """

    name: str
    bytes: int
    why: str


_BITS = {"Q4_K_M": 4.89, "Q3_K_M": 3.99}
"""Bits a weight in models of some billion parameters: the measured sizes of llama.cpp's 8 B reference model."""


def choices(entry: Entry) -> tuple[Choice, ...]:
    """The quantisations to look at, the one to prefer first."""
    smaller = round(entry.q4_k_m_bytes * _BITS["Q3_K_M"] / _BITS[USUAL])
    return (
        Choice(name=USUAL, bytes=entry.q4_k_m_bytes, why=WHY_USUAL),
        Choice(name="Q3_K_M", bytes=smaller, why=WHY_SMALLER),
    )
