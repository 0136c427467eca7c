"""One call to the server with everything around it: a slot, limits, retries, its dialect."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import uuid
from collections.abc import AsyncIterator

from rung.config import Limits, RungSettings
from rung.engines.openai import faults
from rung.engines.openai.answer import Expected, read_answer
from rung.engines.openai.dialect import Ask, Dialect
from rung.engines.openai.limits import Watch, watched
from rung.engines.openai.retry import Timing, with_retries
from rung.engines.openai.transport import Sending, Transport
from rung.engines.protocol import Generation

# A streamed token with twenty alternatives is about 2 KiB; there is room for wordy servers.
_BYTES_PER_TOKEN = 16 * 1024
_SPARE_BYTES = 1024 * 1024


class Calls:
    """Calls one server, `limits.concurrency` at a time.

    Args:
        settings: the rung.
        timing: clock, dice and sleep of the retries.

    Attributes:
        slots: held by the caller around each call; waiting for one is on nobody's clock.

    Raises:
        ConfigError: the rung has no usable `base_url`.
    """

    def __init__(self, settings: RungSettings, timing: Timing) -> None:
        self.transport = Transport(settings, timing)
        self.slots = asyncio.Semaphore(settings.limits.concurrency)
        self._settings = settings
        self._timing = timing
        self._dialect = Dialect()

    async def chat(
        self, ask: Ask, *, timeout_s: float | None = None, idempotency_key: str | None = None
    ) -> Generation:
        """One answer, retried and re-worded as the server needs, inside one total limit.

        Raises:
            EngineError: the attempt failed.
        """
        key = idempotency_key or uuid.uuid4().hex
        async with watched(self._total(timeout_s), self._where("chat/completions")) as watch:
            dialect = self._dialect
            while True:
                body = dialect.body(self._settings, ask)
                sending = Sending("chat/completions", body, ask.texts, key)
                try:
                    return await with_retries(
                        functools.partial(self._try_chat, sending, ask, watch),
                        self._settings.limits,
                        self._timing,
                        before_wait=watch.rest,
                    )
                except faults.RequestRefused as refusal:
                    simpler = dialect.after(refusal)
                    if simpler is None:
                        raise
                    self._dialect = dialect = simpler

    @contextlib.asynccontextmanager
    async def asking(self, timeout_s: float | None) -> AsyncIterator[None]:
        """Wait inside for what the server can do, no longer than a call itself may take.

        Raises:
            EngineTimeout: the limit passed.
        """
        where = f"{faults.place(self.transport.base)}, asked what it can do"
        async with watched(self._total(timeout_s), where):
            yield

    async def fetch(
        self, sending: Sending, *, total_s: float, limit_bytes: int, limits: Limits | None = None
    ) -> bytes:
        """The whole body of another answer than a chat, retried.

        Args:
            sending: the request.
            total_s: seconds for all of it.
            limit_bytes: longest body.
            limits: retries other than the rung's.

        Raises:
            EngineError: the attempt failed.
        """
        async with watched(total_s, self._where(sending.path)) as watch:

            async def send() -> bytes:
                async with self.transport.exchange(sending, watch) as reply:
                    reply.limit_bytes = limit_bytes
                    watch.expect("between_tokens", self._settings.timeouts.between_tokens)
                    return await reply.read_all()

            return await with_retries(
                send, limits or self._settings.limits, self._timing, before_wait=watch.rest
            )

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        await self.transport.aclose()

    async def _try_chat(self, sending: Sending, ask: Ask, watch: Watch) -> Generation:
        expected = Expected(
            prompt_chars=sum(map(len, ask.texts)),
            max_bytes=_SPARE_BYTES + ask.max_tokens * _BYTES_PER_TOKEN,
            between_s=self._settings.timeouts.between_tokens,
            started=asyncio.get_running_loop().time(),
        )
        async with self.transport.exchange(sending, watch) as reply:
            return await read_answer(reply, watch, expected)

    def _total(self, timeout_s: float | None) -> float:
        """The rung's total limit, or what the request narrows it to."""
        return min(self._settings.timeouts.total, math.inf if timeout_s is None else timeout_s)

    def _where(self, path: str) -> str:
        return faults.place(self.transport.url(path))
