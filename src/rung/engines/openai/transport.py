"""One HTTP exchange with the server: connections, time limits, size limits.

Sends bytes and hands back bytes; what they mean is `wire`'s and `answer`'s business, when to send
again is `retry`'s. Redirects are never followed and proxies of the environment are not used: an
address that policy did not allow must not be reached by either.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import aiohttp
import msgspec
from yarl import URL

from rung.config import RungSettings, Timeouts
from rung.engines.openai import faults
from rung.engines.openai.limits import Watch
from rung.engines.openai.retry import Retryable, Timing, parse_retry_after
from rung.errors import ConfigError, EngineError, EngineRefused, InternalError
from rung.version import __version__

_BODY_BYTES = 16 * 1024 * 1024
_ERROR_BODY_BYTES = 64 * 1024
# Below the 5 s after which common servers hang up, so that few requests meet a closed door.
_KEEP_ALIVE_S = 4.0


class Sending(msgspec.Struct, frozen=True):
    """One request as it goes out.

    Attributes:
        path: below the base address, without a leading slash.
        body: JSON; None for a GET.
        texts: what must not be repeated in messages: all that was written into the body.
        idempotency_key: the same over all retries; None for none.
    """

    path: str
    body: bytes | None = None
    texts: tuple[str, ...] = ()
    idempotency_key: str | None = None


class Reply:
    """A 200 answer whose body is still coming.

    Args:
        response: the open response.
        url: where it came from.
        redactor: makes what the server says fit for messages.

    Attributes:
        limit_bytes: longest body accepted.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, url: URL, redactor: faults.Redactor
    ) -> None:
        self._response = response
        self._seen = 0
        self.url = url
        self.redactor = redactor
        self.limit_bytes = _BODY_BYTES

    async def read(self) -> bytes:
        """The next piece of the body, empty at its end.

        Raises:
            EngineTruncated: the connection ended inside it.
            EngineProtocolError: it is longer than `limit_bytes`.
        """
        try:
            piece = await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise faults.cut_off(self.url) from error
        self._seen += len(piece)
        if self._seen > self.limit_bytes:
            raise faults.not_the_protocol(self.url, f"more than {self.limit_bytes} bytes")
        return piece

    async def read_all(self) -> bytes:
        """The whole body; raises as `read` does."""
        pieces: list[bytes] = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)


class Transport:
    """The connections of one engine to its server.

    Args:
        settings: the rung; `base_url`, `api_key_env`, `timeouts` and `limits` are used.
        timing: wall clock for `Retry-After` dates.

    Raises:
        ConfigError: the rung has no usable `base_url`.
    """

    def __init__(self, settings: RungSettings, timing: Timing) -> None:
        self.base = _base_url(settings)
        self._key_env = settings.api_key_env
        self._timeouts: Timeouts = settings.timeouts
        self._connections = settings.limits.concurrency
        self._timing = timing
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def url(self, path: str) -> URL:
        """The address of `path` on the server."""
        return self.base.joinpath(*path.split("/")).with_query(self.base.query)

    @contextlib.asynccontextmanager
    async def exchange(self, sending: Sending, watch: Watch) -> AsyncIterator[Reply]:
        """Send and hand over the answer once its status is 200.

        Raises:
            Retryable: the failure allows to send the same request again.
            EngineError: it does not.
        """
        url = self.url(sending.path)
        key = self._key()
        redactor = faults.Redactor(key, sending.texts)
        response = await self._send(sending, url, key, watch)
        async with response:
            if response.status != 200:
                body = await _read_error(response)
                error = faults.fault_of_status(response.status, body, url, redactor, self._key_env)
                if not faults.is_retried(response.status):
                    raise error
                header = response.headers.get("Retry-After")
                raise Retryable(error, parse_retry_after(header, self._timing.now()))
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                # Plain bytes were asked for; unpacking anything else lets small bodies grow huge.
                raise faults.not_the_protocol(url, f"with Content-Encoding {encoding!r}")
            yield Reply(response, url, redactor)

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()

    async def _send(
        self, sending: Sending, url: URL, key: str | None, watch: Watch
    ) -> aiohttp.ClientResponse:
        """The response as soon as its headers are here."""
        watch.begin_try()
        try:
            return await self._open_session().request(
                "GET" if sending.body is None else "POST",
                url,
                data=sending.body,
                headers=_headers(sending, key),
                allow_redirects=False,
                trace_request_ctx=watch,
            )
        except aiohttp.ClientConnectorError as error:
            raise faults.fault_of_connecting(error, url) from error
        except aiohttp.ClientResponseError as error:
            raise faults.not_the_protocol(url, "something that is not HTTP") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            fault = faults.no_answer(url)
            raise Retryable(fault) if watch.met_closed_door else fault from error

    def _open_session(self) -> aiohttp.ClientSession:
        """The session of the running loop, opened on first use."""
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit_per_host=self._connections + 1,  # one more, for asking after its health
                    keepalive_timeout=_KEEP_ALIVE_S,
                ),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                trace_configs=[_tracing(self._timeouts)],
            )
        elif self._loop is not loop:
            raise EngineError(
                f"the connections to {self.base.host} belong to another event loop",
                hint="await aclose() before the loop that used the engine ends",
            )
        return self._session

    def _key(self) -> str | None:
        """The credential, from the environment at the moment of the call."""
        if self._key_env is None:
            return None
        key = os.environ.get(self._key_env, "").strip()
        if not key:
            raise EngineRefused(
                f"the environment variable {self._key_env!r} (api_key_env) is not set",
                hint=f"export {self._key_env}=…",
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise EngineRefused(
                f"the environment variable {self._key_env!r} (api_key_env) does not hold a key: "
                "it has spaces or characters no key has",
                hint=f"export {self._key_env} again, without quotes or line breaks inside",
            )
        return key


def _base_url(settings: RungSettings) -> URL:
    """The rung's address, checked for what would let a key out."""
    where = f"rungs.{settings.name}.base_url"
    url = URL(settings.base_url or "")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"{where}: {settings.base_url!r} is not an http:// or https:// address",
            hint='for example base_url = "http://127.0.0.1:11434/v1"',
        )
    if url.user is not None or url.password is not None:
        raise ConfigError(
            f"{where}: credentials stand in the address of {url.host!r}",
            hint="put the key in an environment variable and name it in api_key_env",
        )
    return url


def _headers(sending: Sending, key: str | None) -> dict[str, str]:
    headers = {
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"rung/{__version__}",
    }
    if sending.body is not None:
        headers["Content-Type"] = "application/json"
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    if sending.idempotency_key is not None:
        headers["Idempotency-Key"] = sending.idempotency_key
    return headers


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """The start of an error's body; one that breaks off is as good as one that ends."""
    body = bytearray()
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async for piece in response.content.iter_any():
            body += piece
            if len(body) >= _ERROR_BODY_BYTES:
                break
    return bytes(body[:_ERROR_BODY_BYTES])


def _tracing(timeouts: Timeouts) -> aiohttp.TraceConfig:
    """Moves a call's `Watch` along: connecting, then sent and waiting for the first token."""

    async def connecting(_session: object, context: object, _params: object) -> None:
        _watch_of(context).expect("connect", timeouts.connect)

    async def reusing(_session: object, context: object, _params: object) -> None:
        _watch_of(context).reused = True

    async def sent(_session: object, context: object, _params: object) -> None:
        watch = _watch_of(context)
        watch.sent = asyncio.get_running_loop().time()
        watch.expect("first_token", timeouts.first_token)

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(connecting)
    tracing.on_connection_reuseconn.append(reusing)
    tracing.on_request_headers_sent.append(sent)
    return tracing


def _watch_of(context: object) -> Watch:
    watch = getattr(context, "trace_request_ctx", None)
    if not isinstance(watch, Watch):
        raise InternalError("a request went out without its watch")
    return watch
