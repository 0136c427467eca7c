"""The header of a GGUF file that lies elsewhere, read as far as it reaches and hardly further.

The bytes are taken from the network only as the parser asks for them, and parsed once.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING

from rung.errors import SourceError
from rung.models.header import Header, header_from
from rung.models.sources.resolved import RemoteFile
from rung.models.sources.stream import check_plain, check_total, span_of, strong_etag
from rung.models.sources.web import LEAST_RATE, STALL_S, paced, said_plainly

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    import aiohttp

FIRST_RANGE = 8 * 1024 * 1024
"""Bytes that the first request asks for: few headers are longer, and a second request costs more than their rest."""
RANGE = 4 * 1024 * 1024
"""Bytes of each further request; what buffers on the way hold beyond the header is lost."""
PIECE = 1024 * 1024
"""Bytes that the parser gets at once: it waits in another thread, and each change of threads takes time."""


class RangeReader:
    """The first bytes of one file, as far as they were asked for.

    Args:
        file: the file.
        ask: a request for it with these headers; refusals raise.
        stall_s: seconds in which fewer bytes than the least rate brings count as none.
    """

    def __init__(
        self,
        file: RemoteFile,
        ask: Callable[[Mapping[str, str]], AbstractAsyncContextManager[aiohttp.ClientResponse]],
        stall_s: float = STALL_S,
    ) -> None:
        self.held = bytearray()
        self._size = file.size
        self._file = file
        self._ask = ask
        self._stall_s = stall_s
        self._etag: str | None = None
        self._fetching = asyncio.Lock()

    async def header(self) -> Header:
        """Read the header; it is parsed in a thread that waits for each piece.

        Raises:
            ModelError: it is no GGUF file, or it contradicts itself.
            SourceError: the server breaks off, or answers for another place or file.
        """
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as answers:
            pieces = self._pieces(answers)
            answers.push_async_callback(self._end, pieces)
            self.held += await self._next(pieces)  # the answer tells the size, too
            at = 0

            def read(count: int) -> bytes:
                nonlocal at
                if at == len(self.held):
                    self.held += asyncio.run_coroutine_threadsafe(self._next(pieces), loop).result()
                piece = bytes(self.held[at : at + count])
                at += len(piece)
                return piece

            return await asyncio.to_thread(header_from, self._file.name, self._size or 0, read)

    async def _next(self, pieces: AsyncGenerator[bytes, None]) -> bytes:
        """The next piece, no shorter than `PIECE` unless it is the last."""
        held = bytearray()
        async with self._fetching:
            while len(held) < PIECE and (piece := await anext(pieces, b"")):
                held += piece
        return bytes(held)

    async def _end(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """End the pieces, when the parser's thread is not in the midst of one; its answer is closed by now."""
        async with self._fetching:
            await pieces.aclose()

    async def _pieces(self, answers: AsyncExitStack) -> AsyncGenerator[bytes, None]:
        """The file's bytes in order, one request after the other; the last may stay half read."""
        at = 0
        while self._size is None or at < self._size:
            length = RANGE if at else FIRST_RANGE
            last = min(at + length, self._size or at + length) - 1
            response = await answers.enter_async_context(self._ask({"Range": f"bytes={at}-{last}"}))
            end = min(last + 1, self._check(response, at))
            async with aclosing(self._taken(response, at, end)) as taken:
                async for piece in taken:
                    at += len(piece)
                    yield piece
            if at < end:
                raise SourceError(
                    f"{response.url.host!r} breaks off after {at:,} bytes of {self._file.name!r}",
                    hint="run it again",
                )

    def _check(self, response: aiohttp.ClientResponse, start: int) -> int:
        """Compare an answer with what was asked for and known; gives the file's size."""
        name, etag = self._file.name, strong_etag(response)
        _, total = span_of(response, start, name)
        check_plain(response, name)
        check_total(total, self._size, name)
        if start and etag != self._etag:
            raise SourceError(f"{name!r} changed while its header was read", hint="run it again")
        self._etag = etag
        self._size = total if total is not None else self._size
        if self._size is None:
            raise SourceError(
                f"{response.url.host!r} does not say how large {name!r} is",
                hint="use another source for this model",
            )
        return self._size

    async def _taken(
        self, response: aiohttp.ClientResponse, start: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of an answer from `start` up to `end`; a server that knows no ranges begins at 0."""
        at = start if response.status == 206 else 0
        with said_plainly(str(response.url)):
            pieces = response.content.iter_chunked(PIECE)
            async with aclosing(paced(pieces, self._stall_s, LEAST_RATE)) as fast:
                async for piece in fast:
                    new = piece[max(0, start - at) : max(0, end - at)]
                    at += len(piece)
                    if new:
                        yield new
                    if at >= end:
                        return
