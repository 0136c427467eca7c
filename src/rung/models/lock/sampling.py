"""Slices of weights that lie elsewhere, read without the rest of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rung.errors import first_of
from rung.models.lock.identity import Slice, digest_of_slices
from rung.models.sources.resolved import RemoteFile

if TYPE_CHECKING:
    from rung.models.sources.opening import Sources


async def remote_sample(
    slices: Sequence[Slice], weights: Sequence[RemoteFile], sources: Sources
) -> str | None:
    """The digest of slices of a model's weights at their source, as `identity.sample_of` makes it of a file here.

    Args:
        slices: of the weights.
        weights: the files they are of.
        sources: where to read.

    Returns:
        None where the server gives no parts of files, or there are no slices.

    Raises:
        ModelError: a file may not be read, or is gone.
        SourceError: the source cannot be reached.
    """
    try:
        async with asyncio.TaskGroup() as group:
            reading = [
                group.create_task(_read(weights[each.part], each, sources)) for each in slices
            ]
    except BaseExceptionGroup as errors:
        raise first_of(errors) from errors
    pieces = [task.result() for task in reading]
    if any(len(piece) != each.length for piece, each in zip(pieces, slices, strict=True)):
        return None
    return digest_of_slices(pieces) if slices else None


async def _read(file: RemoteFile, piece: Slice, sources: Sources) -> bytes:
    """The bytes of a slice; fewer where the server does not give them."""
    found = bytearray()
    async with sources.stream(file, start=piece.start, length=piece.length) as stream:
        if stream.start == piece.start:
            async for chunk in stream.chunks:
                found += chunk
                if len(found) >= piece.length:
                    break
    return bytes(found[: piece.length])
