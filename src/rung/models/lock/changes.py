"""Which parts of a model are not what was pinned, and the sentence that says so.

It compares digests; where they come from, a file here or a publisher's, is `drift`'s and `outdated`'s.
"""

from __future__ import annotations

import enum

from rung.models.lock.identity import SLICES
from rung.models.lock.record import Artefact, Identity


class Part(enum.StrEnum):
    """What of a model changed."""

    TENSORS = "tensors"  # their names, shapes, types or places
    WEIGHTS = "weights"
    TEMPLATE = "template"
    TOKENIZER = "tokenizer"
    METADATA = "metadata"
    LAYOUT = "layout"  # nothing that the file says
    FILES = "files"  # beside the weights
    LICENCE = "licence"


_WORDS = {
    Part.TENSORS: "tensors (their types, shapes or order)",
    Part.WEIGHTS: "weights",
    Part.TEMPLATE: "chat template",
    Part.TOKENIZER: "tokenizer",
    Part.METADATA: "metadata",
    Part.LAYOUT: "order or padding of the file",
    Part.FILES: "files beside the weights",
    Part.LICENCE: "licence",
}
_HEADER = {Part.TEMPLATE, Part.TOKENIZER, Part.METADATA, Part.LAYOUT}


def changed_parts(artefact: Artefact, now: Identity, sample: str | None) -> tuple[Part, ...]:
    """What changed of a model whose file has another digest than is pinned.

    Args:
        artefact: as it is pinned.
        now: of the file's header.
        sample: of its weights; None where it was not taken.
    """
    pinned = artefact.identity
    header = [
        part
        for part, same in (
            (Part.TENSORS, pinned.tensor_table == now.tensor_table),
            (Part.TEMPLATE, pinned.template == now.template),
            (Part.TOKENIZER, pinned.tokenizer == now.tokenizer),
            (Part.METADATA, pinned.parameters == now.parameters),
        )
        if not same
    ]
    sampled = artefact.sample is not None and sample is not None
    if Part.TENSORS in header:
        return tuple(header)  # other tensors have other weights; slices of them are of other places
    if sampled and artefact.sample != sample:
        return (Part.WEIGHTS, *header)
    if header:
        return tuple(header)
    # Where the header is the same to the byte, a file of another digest has other weights beside the slices.
    moved = pinned.layout is not None and pinned.layout != now.layout
    return (Part.LAYOUT,) if moved else (Part.WEIGHTS,)


def in_words(parts: tuple[Part, ...], *, sampled: bool = True, places: int = SLICES) -> str:
    """`weights and tokenizer`, `chat template only (weights the same at 16 places)`: what changed.

    Args:
        parts: what did.
        sampled: whether slices of the weights were compared where only the header seems to have changed.
        places: how many.
    """
    words = [_WORDS[part] for part in parts]
    if not words:
        return "nothing"
    if len(words) == 1:
        alone = parts[0] in {*_HEADER, Part.LICENCE}
        text = f"{words[0]} only" if alone else words[0]
    else:
        text = f"{', '.join(words[:-1])} and {words[-1]}"
    if _HEADER & {*parts} and not {Part.WEIGHTS, Part.TENSORS} & {*parts}:
        text += f" (weights {f'the same at {places} places' if sampled else 'not compared'})"
    return text
