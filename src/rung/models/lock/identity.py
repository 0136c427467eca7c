"""Digests of the parts of a model's header, and of slices of its weights: what tells which part of a file changed.

A digest of the whole file only says that something did. Publishers often mend a chat template and upload the file
again, which is another file with the same weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from rung.models.header import Header
from rung.models.lock.record import Identity

TEMPLATE = "tokenizer.chat_template"
"""Key of the chat template; further ones follow it, as `tokenizer.chat_template.NAME`."""
SLICES = 16
"""Slices taken of a model's weights: another quantisation run changes nearly every block of them."""
SLICE_BYTES = 4096

_TOKENIZER = "tokenizer."
_SPLIT = "split."


class Slice(msgspec.Struct, frozen=True):
    """Some bytes of a model's weights.

    Attributes:
        part: which file of the model, from 0.
        start: where in it.
        length: bytes.
    """

    part: int
    start: int
    length: int


def identity_of(headers: Sequence[Header]) -> Identity:
    """The digests of a model's header parts.

    Args:
        headers: of all its files, in order.
    """
    text = template_of(headers)
    return Identity(
        tensor_table=_hex(_table(header) for header in headers),
        tokenizer=_hex(_entries(header, _is_tokenizer) for header in headers),
        template=None if text is None else hashlib.sha256(text.encode()).hexdigest(),
        parameters=_hex(_entries(header, _is_parameter) for header in headers),
        layout=_hex(_layout(header) for header in headers),
    )


def template_of(headers: Sequence[Header]) -> str | None:
    """The chat template; where a model has several, each of the others under a line with its key."""
    texts = [
        (key, text)
        for header in headers
        for key in sorted(header.metadata)
        if _is_template(header, key) and (text := header.text(key)) is not None
    ]
    if not texts:
        return None
    return "\n".join(text if key == TEMPLATE else f"{{# {key} #}}\n{text}" for key, text in texts)


def slices_of(headers: Sequence[Header]) -> tuple[Slice, ...]:
    """Slices of the weights, evenly spread over each file: the same ones however long its metadata is."""
    each = max(1, SLICES // max(1, len(headers)))
    return tuple(
        piece for part, header in enumerate(headers) for piece in _spread(part, header, each)
    )


def sample_of(headers: Sequence[Header], read: Callable[[Slice], bytes]) -> str | None:
    """SHA-256 of a model's `slices_of`; None for a model without weights.

    Args:
        headers: of all its files, in order.
        read: gives the bytes of a slice.
    """
    slices = slices_of(headers)
    return digest_of_slices([read(piece) for piece in slices]) if slices else None


def digest_of_slices(pieces: Sequence[bytes]) -> str:
    """What `sample_of` makes of the bytes of a model's slices, in order."""
    return _hex(pieces)


def _spread(part: int, header: Header, count: int) -> list[Slice]:
    if not header.tensors:
        return []
    first = min(tensor.start for tensor in header.tensors)
    end = max(tensor.start + tensor.size for tensor in header.tensors)
    length = min(SLICE_BYTES, end - first)
    room = end - first - length
    starts = {first + room * number // max(1, count - 1) for number in range(count)}
    return [Slice(part, start, length) for start in sorted(starts)]


def _table(header: Header) -> bytes:
    """Name, shape, type and place of every tensor, counted from where the data starts."""
    first = min((tensor.start for tensor in header.tensors), default=0)
    rows = [
        (tensor.name, tensor.shape, tensor.type.name, tensor.start - first)
        for tensor in header.tensors
    ]
    return msgspec.json.encode(rows)


def _layout(header: Header) -> bytes:
    """What a file can differ in while it says the same: its entries in their order, and where the data starts."""
    start = min((tensor.start for tensor in header.tensors), default=0)
    return b"".join(e.digest for e in header.metadata.values()) + start.to_bytes(8, "little")


def _entries(header: Header, chosen: Callable[[Header, str], bool]) -> bytes:
    """The digests of entries by key; which place an entry has in the file does not count."""
    kept = [entry for key, entry in sorted(header.metadata.items()) if chosen(header, key)]
    return b"".join(entry.digest for entry in kept)


def _is_template(header: Header, key: str) -> bool:
    """Whether an entry is a text that `template_of` gives; an array of the templates' names is none."""
    named = key == TEMPLATE or key.startswith((f"{TEMPLATE}.", f"{TEMPLATE}s"))
    return named and header.text(key) is not None


def _is_tokenizer(header: Header, key: str) -> bool:
    return key.startswith(_TOKENIZER) and not _is_template(header, key)


def _is_parameter(_: Header, key: str) -> bool:
    return not key.startswith((_TOKENIZER, _SPLIT))


def _hex(pieces: Iterable[bytes]) -> str:
    """SHA-256 over pieces and where each ends."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)
    return digest.hexdigest()
