"""The header of a GGUF file that lies elsewhere, read piece by piece until it is whole and no further."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rung.errors import SourceError
from rung.models.header import Header, header_from
from rung.models.sources.resolved import RemoteFile
from rung.models.sources.stream import check_plain, check_total, span_of, strong_etag
from rung.models.sources.web import said_plainly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    import aiohttp

PIECE = 4 * 1024 * 1024
"""Bytes a request: most headers with the vocabulary of a large model take one or two."""


class RangeReader:
    """The first bytes of one file, as far as they were asked for.

    Args:
        file: the file.
        ask: a request for it with these headers; refusals raise.
    """

    def __init__(
        self,
        file: RemoteFile,
        ask: Callable[[Mapping[str, str]], AbstractAsyncContextManager[aiohttp.ClientResponse]],
    ) -> None:
        self.held = bytearray()
        self.size = file.size
        self._file = file
        self._ask = ask
        self._etag: str | None = None

    async def header(self) -> Header:
        """Read the header; it is parsed once, in a thread that waits for each piece.

        Raises:
            ModelError: it is no GGUF file, or it contradicts itself.
            SourceError: the server breaks off, or answers for another place or file.
        """
        await self.more()
        loop = asyncio.get_running_loop()
        at = 0

        def read(count: int) -> bytes:
            nonlocal at
            if at == len(self.held):
                asyncio.run_coroutine_threadsafe(self.more(), loop).result()
            piece = bytes(self.held[at : at + count])
            at += len(piece)
            return piece

        return await asyncio.to_thread(header_from, self._file.name, self.size or 0, read)

    async def more(self) -> None:
        """Fetch the next piece.

        Raises:
            SourceError: as of `header`.
        """
        name, start = self._file.name, len(self.held)
        last = start + PIECE - 1 if self.size is None else min(start + PIECE, self.size) - 1
        if last < start:
            return
        headers = {"Range": f"bytes={start}-{last}"}
        async with self._ask(headers) as response:
            begins, total = span_of(response, start, name)
            check_plain(response, name)
            check_total(total, self.size, name)
            self._check_same(response)
            self.size = total if total is not None else self.size
            if self.size is None:
                raise SourceError(
                    f"{response.url.host!r} does not say how large {name!r} is",
                    hint="use another source for this model",
                )
            await self._take(response, begins, min(last + 1, self.size))

    async def _take(self, response: aiohttp.ClientResponse, at: int, end: int) -> None:
        """Take what is new of an answer that starts at `at`, up to `end`; the rest is never read."""
        with said_plainly(str(response.url)):
            async for piece in response.content.iter_any():
                new = piece[max(0, len(self.held) - at) :]
                self.held += new[: end - len(self.held)]
                at += len(piece)
                if at >= end:
                    return
        raise SourceError(
            f"{response.url.host!r} breaks off after {len(self.held):,} bytes of {self._file.name!r}",
            hint="run it again",
        )

    def _check_same(self, response: aiohttp.ClientResponse) -> None:
        etag = strong_etag(response)
        if self.held and etag != self._etag:
            raise SourceError(
                f"{self._file.name!r} changed while its header was read", hint="run it again"
            )
        self._etag = etag
