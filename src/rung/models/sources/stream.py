"""The bytes of one file as they arrive, never more or fewer than announced.

Where they come from is `opening`'s, keeping them `models.pull`'s.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from rung.errors import SourceError
from rung.models.bounded import facts_of
from rung.models.sources.web import LEAST_STREAM_RATE, STALL_S, paced, said_plainly

if TYPE_CHECKING:
    import aiohttp

PIECE = 1024 * 1024

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_AGAIN = "run it again; if it stays so, use another source for this model"


class Stream:
    """A file that is being read.

    Attributes:
        start: where the bytes really start: 0 when the server does not continue, or the file is another one by now.
        total: bytes of the whole file; None when the server does not say.
        etag: the strong entity tag to continue with, None when there is none.
        host: which machine serves the bytes; empty for this one.
        chunks: the bytes from `start` to the end; raises `SourceError` when they break off or are too many.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        start: int,
        total: int | None,
        etag: str | None = None,
        host: str = "",
    ) -> None:
        self.chunks = chunks
        self.start = start
        self.total = total
        self.etag = etag
        self.host = host


def local_stream(path: Path, start: int) -> Stream:
    """A file of this machine from `start` on.

    Raises:
        ModelError: it cannot be read.
    """
    total = facts_of(path).st_size
    return Stream(_from_disk(path, start), start=start, total=total)


def answered_stream(
    response: aiohttp.ClientResponse,
    *,
    start: int,
    length: int | None = None,
    size: int | None,
    name: str,
    stall_s: float = STALL_S,
) -> Stream:
    """A server's answer as a stream.

    Args:
        response: with status 200 or 206.
        start: the first byte that was asked for.
        length: bytes that were asked for, None for all that follow.
        size: of the whole file as its publisher says, None where that is not known.
        name: of the file, for messages.
        stall_s: seconds in which fewer bytes than the least rate brings count as none.

    Raises:
        SourceError: the answer is of another place or size than it should be, or is no file.
    """
    begins, total = span_of(response, start, name)
    check_plain(response, name)
    check_total(total, size, name)
    expected = total if total is not None else size
    part = length is not None and response.status == 206
    end = start + (length or 0) if part else expected
    return Stream(
        _from_network(response, begins, end, name, stall_s),
        start=begins,
        total=expected,
        etag=strong_etag(response),
        host=response.url.host or "",
    )


def span_of(response: aiohttp.ClientResponse, start: int, name: str) -> tuple[int, int | None]:
    """Where an answer starts and how long the whole file is.

    Raises:
        SourceError: the range is not the one that was asked for.
    """
    if response.status == 200:
        return 0, response.content_length
    said = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(said)
    if match is None:
        raise _wrong(response, f"answers for {name!r} with the unreadable range {said!r}")
    first, last, total = (int(digits) for digits in match.groups())
    if first != start or not first <= last < total:
        raise _wrong(
            response, f"answers for {name!r} with the range {said!r}, asked from byte {start}"
        )
    if response.content_length not in (None, last - first + 1):
        raise _wrong(response, f"answers for {name!r} with a length that is not its range's")
    return first, total


def check_plain(response: aiohttp.ClientResponse, name: str) -> None:
    """Refuse an answer that is packed, or a page for people.

    Raises:
        SourceError: it is.
    """
    packed = response.headers.get("Content-Encoding", "identity").lower()
    if packed != "identity":
        raise _wrong(response, f"packs {name!r} as {packed!r}, which was not asked for")
    if response.content_type == "text/html":
        raise _wrong(response, f"answers for {name!r} with a web page")


def check_total(total: int | None, size: int | None, name: str) -> None:
    """Compare the size a server announces with the one that is published.

    Raises:
        SourceError: they differ.
    """
    if total is not None and size is not None and total != size:
        raise SourceError(
            f"the server announces {total:,} bytes for {name!r}, its publisher {size:,}",
            hint=_AGAIN,
        )


def strong_etag(response: aiohttp.ClientResponse) -> str | None:
    """The entity tag of an answer, None when it has none that stands for the very bytes."""
    etag = response.headers.get("ETag", "")
    return etag if len(etag) > 2 and etag[0] == etag[-1] == '"' else None


async def _from_disk(path: Path, start: int) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece


async def _from_network(
    response: aiohttp.ClientResponse, start: int, total: int | None, name: str, stall_s: float
) -> AsyncGenerator[bytes, None]:
    at = start
    with said_plainly(str(response.url)):
        pieces = response.content.iter_chunked(PIECE)
        async with aclosing(paced(pieces, stall_s, LEAST_STREAM_RATE)) as fast:
            async for piece in fast:
                at += len(piece)
                if total is not None and at > total:
                    raise _wrong(response, f"sends more than the {total:,} bytes of {name!r}")
                yield piece
    if total is not None and at < total:
        raise _wrong(response, f"sends {at:,} of the {total:,} bytes of {name!r}")


def _wrong(response: aiohttp.ClientResponse, what: str) -> SourceError:
    return SourceError(f"{response.url.host!r} {what}", hint=_AGAIN)
