"""Asking `Sources` one thing, blocking, for tests."""

from __future__ import annotations

import asyncio

from rung.models.header import Header
from rung.models.reference import parse_reference
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import RemoteFile, Resolved


def resolve(text: str, *, stores: bool = True, offline: bool = False) -> Resolved:
    """What a reference names."""

    async def ask() -> Resolved:
        async with Sources(stores=stores, offline=offline) as sources:
            return await sources.resolve(parse_reference(text))

    return asyncio.run(ask())


def read_headers(text: str, *, stall_s: float = 5.0) -> tuple[Header, ...]:
    """The headers of what a reference names."""

    async def ask() -> tuple[Header, ...]:
        async with Sources(stall_s=stall_s) as sources:
            return await sources.headers(await sources.resolve(parse_reference(text)))

    return asyncio.run(ask())


def read_file(
    file: RemoteFile, *, start: int = 0, etag: str | None = None, stall_s: float = 5.0
) -> tuple[int, int | None, str | None, bytes]:
    """Start, total, entity tag and bytes of a stream."""

    async def ask() -> tuple[int, int | None, str | None, bytes]:
        async with (
            Sources(stall_s=stall_s) as sources,
            sources.stream(file, start=start, etag=etag) as stream,
        ):
            content = b"".join([piece async for piece in stream.chunks])
            return stream.start, stream.total, stream.etag, content

    return asyncio.run(ask())
