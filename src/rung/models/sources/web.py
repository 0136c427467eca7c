"""Requests to servers that hold models: redirects looked at one by one, time limits, and errors in words.

Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`), certificates are always verified, nothing is
compressed on the way, and a token goes to the origin it is for and to no other. What is asked for is the callers'.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Self

from rung.errors import RungError, SourceError
from rung.models.addresses import (
    host_of,
    is_here,
    is_private,
    origin_of,
    redirect_problem,
    without_query,
)
from rung.models.names import masked
from rung.version import __version__

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 10.0
STALL_S = 60.0
LEAST_RATE = 50_000
"""Bytes per second below which listings, manifests and headers are given up: somebody waits for them."""
LEAST_STREAM_RATE = 1_000
"""The same of whole files, which go on from where they broke off."""
MOST_REDIRECTS = 5
MOST_DOCUMENT_BYTES = 32 * 1024 * 1024
"""Longest listing or manifest that is read; a repository of ten thousand files has a tenth of it."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRY = "check the network (behind a proxy set HTTPS_PROXY) and run it again"


class Web:
    """One HTTP session, for as long as its block lasts.

    Args:
        stall_s: seconds without a byte, or with fewer than the least rate brings, after which an answer counts as
            broken off.
    """

    def __init__(self, *, stall_s: float = STALL_S) -> None:
        self.stall_s = stall_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def get(
        self, url: str, *, headers: Mapping[str, str] = {}, token: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for an address and follow its redirects; the answer may be a refusal.

        Args:
            url: the address.
            headers: to send with every request.
            token: to send to this origin.

        Raises:
            SourceError: no server answers in time, or it redirects where it may not.
        """
        with said_plainly(url):
            response = await self._followed(url, headers, token)
        try:
            yield response
        finally:
            response.close()

    async def document(
        self, url: str, *, accept: str, token: str | None = None
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """An answer and its whole body, for listings and manifests.

        Raises:
            SourceError: as of `get`; or the body is longer than such documents are.
        """
        async with self.get(url, headers={"Accept": accept}, token=token) as response:
            body = bytearray()
            with said_plainly(url):
                pieces = response.content.iter_any()
                async with aclosing(paced(pieces, self.stall_s, LEAST_RATE)) as fast:
                    async for piece in fast:
                        body += piece
                        if len(body) > MOST_DOCUMENT_BYTES:
                            raise SourceError(
                                f"{without_query(url)!r} answers with more than {MOST_DOCUMENT_BYTES:,} bytes",
                                hint="check the address",
                            )
            return response, bytes(body)

    async def _followed(
        self, url: str, headers: Mapping[str, str], token: str | None
    ) -> aiohttp.ClientResponse:
        import yarl  # noqa: PLC0415

        first, owner = url, origin_of(url)
        for _ in range(MOST_REDIRECTS + 1):
            if origin_of(url) != owner:
                token = None  # for good: a later redirect back does not earn it again
            own = {"Authorization": f"Bearer {token}"} if token else {}
            async with asyncio.timeout(
                CONNECT_S + self.stall_s
            ):  # its headers may come in drips, too
                response = await self._opened().get(
                    yarl.URL(url, encoded=True),
                    headers={**headers, **own},
                    allow_redirects=False,
                    proxy=_proxy(url),
                )
            if response.status not in _REDIRECTS:
                return response
            response.close()
            url = urllib.parse.urljoin(url, response.headers.get("Location", ""))
            await _check_redirect(first, url)
        raise SourceError(
            f"{without_query(first)!r} redirects more than {MOST_REDIRECTS} times",
            hint="check the address",
        )

    def _opened(self) -> aiohttp.ClientSession:
        """The session, made when first needed: importing it takes a third of a second."""
        import aiohttp  # noqa: PLC0415

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=CONNECT_S, sock_read=self.stall_s
                ),
                headers={"Accept-Encoding": "identity", "User-Agent": f"rung/{__version__}"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # it would also send the passwords of ~/.netrc
            )
        return self._session


async def paced(
    pieces: AsyncIterator[bytes], window_s: float, least: float
) -> AsyncGenerator[bytes, None]:
    """The same pieces, as long as they come fast enough.

    A server that sends a byte now and then never stalls, and would hold us for ever.

    Args:
        pieces: as they arrive, whatever their length.
        window_s: seconds of waiting over which the rate is taken; what is done with the pieces does not count.
        least: bytes per second.

    Raises:
        TimeoutError: fewer came.
    """
    waited, came = 0.0, 0
    while True:
        asked = time.monotonic()
        piece = await anext(pieces, b"")
        waited, came = waited + time.monotonic() - asked, came + len(piece)
        if not piece:
            return
        yield piece
        if waited >= window_s:
            if came < least * waited:
                raise TimeoutError
            waited, came = 0.0, 0


def refusal(response: aiohttp.ClientResponse, what: str) -> RungError:
    """The error for an answer with a status from 400 on that means nothing special.

    Args:
        response: the answer.
        what: was asked for.
    """
    host = response.url.host
    if response.status == 429:
        wait = response.headers.get("Retry-After", "")
        return SourceError(
            f"{host!r} takes no more requests for now (429)",
            hint=f"run it again in {wait} s" if wait.isdigit() else "run it again later",
        )
    if response.status >= 500:
        return SourceError(
            f"{host!r} failed with status {response.status}", hint="run it again later"
        )
    return SourceError(f"{host!r} refuses {what} with status {response.status}", hint=_RETRY)


@contextmanager
def said_plainly(url: str) -> Iterator[None]:
    """Turn what goes wrong between two machines into one `SourceError`."""
    import aiohttp  # noqa: PLC0415

    host = host_of(url)
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise SourceError(
            f"the certificate of {host!r} is not valid: {error.certificate_error}",
            hint="nothing was read; set SSL_CERT_FILE if your network has an authority of its own",
        ) from error
    except (TimeoutError, aiohttp.ServerTimeoutError) as error:
        raise SourceError(f"{host!r} does not answer in time", hint=_RETRY) from error
    except aiohttp.ClientPayloadError as error:
        raise SourceError(f"the answer of {host!r} breaks off", hint=_RETRY) from error
    except aiohttp.ClientConnectorError as error:
        raise SourceError(
            f"{host!r} cannot be reached: {_plain(error.os_error)}", hint=_RETRY
        ) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise SourceError(
            f"{host!r} cannot be reached: {masked(str(error))}", hint=_RETRY
        ) from error


def _plain(error: OSError) -> str:
    """What the system calls it; errors of names have numbers of their own and their words with them."""
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror})"
    return os.strerror(error.errno).lower() if error.errno else masked(str(error))


async def _check_redirect(first: str, target: str) -> None:
    problem = redirect_problem(first, target)
    if problem is None and _proxy(target) is None and await _leads_within(first, target):
        problem = "leads into a private network"
    if problem is not None:
        raise SourceError(
            f"{host_of(first)!r} redirects to {masked(target)[:200]!r}, which {problem}",
            hint="nothing was fetched; use another address for this model",
        )


async def _leads_within(first: str, target: str) -> bool:
    """Whether a redirect goes from the public network into a private one, as far as names tell."""
    before, after = host_of(first), host_of(target)
    if before == after or is_private(before):
        return False
    return await _is_within(after) and not await _is_within(before)


async def _is_within(host: str) -> bool:
    """Whether a host's name resolves to a number of this machine or of a private network."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # connecting will say so
    return any(is_private(str(address[0])) for *_, address in found)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address; none for this machine."""
    host = host_of(url)
    if is_here(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(urllib.parse.urlsplit(url).scheme)
