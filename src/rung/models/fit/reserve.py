"""What a process takes of a device beside its model's buffers: libraries, tokenizer, a driver's context, pools.

A rule until it was measured on the machine; `measured` keeps what was.
"""

from __future__ import annotations

from rung.models.fit.run import Run
from rung.models.fit.shape import Shape
from rung.models.fit.tags import Amount, Tag
from rung.models.hardware.machine import Device, DeviceKind

_MIB = 1024 * 1024
_HOST_MIB = 48
"""Of a process of the embedded engine with a tiny model: 41 to 46 MiB were measured, libraries included."""

_TOKEN, _MERGE = 460, 220
"""Bytes for each token and each merge of a vocabulary, as measured there: 200 of a token are the tokenizer's tables,
the rest is the index of all tokens that answers are held to a schema with."""

_ASKED = 760
"""Bytes for each token of an answer that tells the probability of all of them, which the engine is asked for once to
see whether it can. It is given back before a whole batch is computed, but the allocator was seen to hold on to up to
two thirds; half is counted on top of that."""

_CONTEXTS = {
    "cuda": (700, "context of the driver; 320 MiB were seen without a desktop, 700 are taken"),
    "rocm": (470, "context of the driver: 270 to 470 MiB were seen"),
    "metal": (400, "context of the driver: 200 to 400 MiB (recalled)"),
    "vulkan": (470, "context of the driver, taken to be that of ROCm"),
}
_UNKNOWN = (700, "context of the driver, taken to be that of CUDA")

_POOLED_SCORE = 18
"""Bytes for each attention score of a batch: the most that two models were short of, at 8,192 tokens with 32 heads."""


def reserve(
    device: Device, shape: Shape, run: Run, measured: int | None, *, working: int = 0
) -> Amount:
    """What the process takes of one device.

    Args:
        device: which; what computes there decides.
        shape: of the model: its tokenizer has tables, ROCm keeps a pool for one matrix in f16.
        run: without flash attention, cards keep scores that no log tells of.
        measured: bytes of a process with a tiny model, measured on this machine; None where there is no such figure.
        working: bytes that are counted elsewhere and taken only after the engine was asked what it can.
    """
    if device.kind is DeviceKind.GPU:
        return _card(device, shape, run)
    host = _host(shape, measured, working)
    return host if device.kind is DeviceKind.HOST else host + _card(device, shape, run)


def _host(shape: Shape, measured: int | None, working: int) -> Amount:
    tokenizer = _TOKEN * shape.vocabulary + _MERGE * shape.merges
    asked = _ASKED * shape.vocabulary
    tokenizer += max(asked - working, asked // 2)
    if measured is not None:
        return Amount(measured + tokenizer, Tag.MEASURED, "of a process on this machine; tokenizer")
    return Amount(_HOST_MIB * _MIB + tokenizer, Tag.RULE, "interpreter, libraries, tokenizer")


def _card(device: Device, shape: Shape, run: Run) -> Amount:
    mebibytes, note = _CONTEXTS.get(device.backend, _UNKNOWN)
    size = mebibytes * _MIB
    if device.backend in ("rocm", "vulkan"):
        size += 2 * shape.embedding * shape.feed_forward
        note += "; a pool for one matrix in f16"
    if run.flash_attention:
        return Amount(size, Tag.RULE, note)
    size += _POOLED_SCORE * shape.heads * run.context * run.tokens_at_once
    note += "; without flash attention, scores that no log tells of"
    return Amount(size, Tag.RULE, note, low_confidence=True)
