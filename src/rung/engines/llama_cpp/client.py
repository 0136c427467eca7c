"""Requests to the child of one lease, over its Unix socket.

Text is always asked for as a stream: closing the connection is then how a request is given up, and the child's slot is
free a moment later. What may be asked is `guard`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import aiohttp
import msgspec

from rung.config import Timeouts
from rung.engines.llama_cpp.answer import Event, Events, Fault, FaultBody, fault_of
from rung.engines.llama_cpp.guard import AdapterScale, Bounds, Completion, body_of
from rung.engines.llama_cpp.lease import Lease
from rung.engines.llama_cpp.patience import Deadline, Patience
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.engines.llama_cpp.template import ChatFormat, Tokens
from rung.errors import (
    EngineError,
    EngineProtocolError,
    EngineRefused,
    EngineTimeout,
    EngineTruncated,
    EngineUnavailable,
)

_SHORT_S = 30.0
"""For requests that evaluate nothing; the child answers them beside its work."""

_HOST = "http://engine"
_BODY_BYTES = 256 * 1024 * 1024

T = TypeVar("T")


class _Tokenized(msgspec.Struct, frozen=True):
    tokens: Tokens


class _Props(msgspec.Struct, frozen=True):
    chat_template: str | None = None
    bos_token: str = ""
    eos_token: str = ""


class _Meta(msgspec.Struct, frozen=True):
    n_vocab: int


class _Model(msgspec.Struct, frozen=True):
    meta: _Meta


class _Models(msgspec.Struct, frozen=True):
    data: tuple[_Model, ...]


class _Vector(msgspec.Struct, frozen=True):
    embedding: tuple[float, ...]
    index: int = 0


class _Vectors(msgspec.Struct, frozen=True):
    data: tuple[_Vector, ...]


class ServerClient:
    """Talks to one SERVER child; a context that owns its connections.

    Args:
        supervisor: of the child.
        lease: the slot in whose name it asks; must stay open.
        timeouts: the rung's.
    """

    def __init__(self, supervisor: Supervisor, lease: Lease, timeouts: Timeouts) -> None:
        self._supervisor = supervisor
        self._lease = lease
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """The model's file, for messages."""
        return Path(self._supervisor.parameters.path).name

    @property
    def generation(self) -> int:
        """Which start of the child this talks to."""
        return self._lease.generation

    async def __aenter__(self) -> ServerClient:
        """Open no connection yet."""
        self._session = aiohttp.ClientSession(
            # The child hangs up on a kept connection when it likes; a new one costs 50 µs.
            connector=aiohttp.UnixConnector(path=self._lease.socket, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"Authorization": f"Bearer {self._lease.key}"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections, and with them what is still being worked on."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def tokenize(
        self, texts: Sequence[str], *, parse_special: bool, add_special: bool = False
    ) -> list[Tokens]:
        """The tokens of each text.

        Args:
            texts: any texts.
            parse_special: whether text that spells a control token becomes one; never for what a user wrote.
            add_special: add the tokens that the model wants around every text.

        Raises:
            EngineError: no answer.
        """
        return [await self._tokens(text, parse_special, add_special) for text in texts]

    async def chat_format(self) -> ChatFormat:
        """How the model wants conversations written.

        Raises:
            EngineError: no answer.
        """
        props = self._decoded(await self._fetch("props"), _Props)
        (around,) = await self.tokenize(["a"], parse_special=False, add_special=True)
        (alone,) = await self.tokenize(["a"], parse_special=False)
        start = next((i for i in range(len(around)) if around[i : i + len(alone)] == alone), 0)
        named = await self.tokenize([props.bos_token, props.eos_token], parse_special=True)
        bos, eos = (tokens[0] if len(tokens) == 1 else None for tokens in named)
        return ChatFormat(props.chat_template or None, bos, eos, prefix=around[:start])

    async def vocabulary(self) -> int:
        """How many tokens the model knows.

        Raises:
            EngineError: no answer.
        """
        models = self._decoded(await self._fetch("v1/models"), _Models).data
        if len(models) != 1:
            raise EngineProtocolError(
                f"{self.name}: the engine process serves {len(models)} models"
            )
        return models[0].meta.n_vocab

    async def embed(self, prompts: Sequence[Tokens], patience: Patience) -> list[tuple[float, ...]]:
        """One vector a prompt.

        Raises:
            EngineError: no answer.
        """
        body = msgspec.json.encode({"input": prompts, "encoding_format": "float"})
        raw = await patience.wait(self._fetch("v1/embeddings", body, limit_s=None))
        data = self._decoded(raw, _Vectors).data
        if sorted(entry.index for entry in data) != list(range(len(prompts))):
            raise EngineProtocolError(f"{self.name} gave other than one embedding for each text")
        return [entry.embedding for entry in sorted(data, key=lambda entry: entry.index)]

    async def complete(
        self, completion: Completion, bounds: Bounds, patience: Patience
    ) -> AsyncGenerator[Event, None]:
        """The events of one completion; close the iterator to give the request up.

        Raises:
            EngineRefused: the guard does not let it pass, or the child does not take it.
            EngineTimeout: a limit passed.
            EngineUnavailable: the child died.
            EngineTruncated: the stream ended before the answer did.
        """
        body = body_of(completion, bounds)
        events = Events()
        async with self._asked("completion", body, patience) as response:
            while True:
                piece = await patience.wait(self._read(response))
                for event in events.feed(piece):
                    if event.tokens_predicted:
                        patience.progress()
                    if event.stop:
                        self._supervisor.answered_in(self._lease, event.timings)
                    yield event
                    if event.stop:
                        return
                if not piece:
                    raise await self._broken(
                        EngineTruncated(f"{self.name} broke off before the answer was whole")
                    )

    async def ends(
        self, adapters: tuple[AdapterScale, ...], bounds: Bounds, deadline: Deadline
    ) -> Tokens:
        """The tokens that end an answer: those that the child holds back when it is told to go on.

        Raises:
            EngineError: no answer.
        """
        prompt = Completion(prompt=(0,), max_tokens=1, adapters=adapters, ignore_end=True)
        patience = Patience(self._timeouts, deadline)
        async with contextlib.aclosing(self.complete(prompt, bounds, patience)) as events:
            held = [event.generation_settings.logit_bias async for event in events if event.stop]
        return tuple(bias.token for bias in held[0])

    async def turning(self) -> bool:
        """Whether the child's working loop still turns: false when one step of it takes `between_tokens`.

        Raises:
            EngineError: the child is gone.
        """
        try:
            await self._fetch("slots", limit_s=self._timeouts.between_tokens)
        except EngineTimeout:
            return False
        return True

    async def _tokens(self, text: str, parse_special: bool, add_special: bool) -> Tokens:
        if not text:
            return ()
        try:
            body = msgspec.json.encode(
                {"content": text, "parse_special": parse_special, "add_special": add_special}
            )
        except UnicodeEncodeError as error:
            raise EngineRefused(
                "a text holds half of a surrogate pair, which is no character"
            ) from error
        return self._decoded(await self._fetch("tokenize", body), _Tokenized).tokens

    def _decoded(self, raw: bytes, kind: type[T]) -> T:
        """An answer of the child; a model whose numbers overflow writes null where a number belongs."""
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EngineProtocolError(
                f"{self.name}: the engine process answered something that is not its protocol: {error}"
            ) from error

    async def _fetch(
        self, path: str, body: bytes | None = None, *, limit_s: float | None = _SHORT_S
    ) -> bytes:
        """The whole of a short answer."""
        try:
            async with asyncio.timeout(limit_s), self._asked(path, body) as response:
                return await _whole(response)
        except TimeoutError as error:
            raise EngineTimeout(f"{self.name} did not answer within {limit_s:g} s") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise await self._broken(None) from error

    @contextlib.asynccontextmanager
    async def _asked(
        self, path: str, body: bytes | None, patience: Patience | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer once its status is 200."""
        if self._session is None:
            raise EngineUnavailable(f"the connections to {self.name} are closed")
        asking = self._session.request(
            "GET" if body is None else "POST",
            f"{_HOST}/{path}",
            data=body,
            headers={"Content-Type": "application/json"} if body is not None else None,
            allow_redirects=False,
        )
        try:
            response = await (asking if patience is None else patience.wait(asking))
        except (aiohttp.ClientError, ConnectionError) as error:
            raise await self._broken(None) from error
        try:
            if response.status != 200:
                raise _refusal(response.status, await _whole(response))
            yield response
        finally:
            response.close()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise await self._broken(None) from error

    async def _broken(self, alive: EngineError | None) -> EngineError:
        """Why the connection ended: the child's death, or `alive` when it goes on living."""
        why = await self._supervisor.death(self._lease)
        if why is None and alive is not None:
            return alive
        return EngineUnavailable(f"{self.name}: {why or 'the engine process hung up'}")


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _BODY_BYTES:
            raise EngineProtocolError(f"the engine process wrote more than {_BODY_BYTES:,} bytes")
    return bytes(body)


def _refusal(status: int, body: bytes) -> EngineError:
    try:
        fault = msgspec.json.decode(body, type=FaultBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fault = Fault("without saying why")
    return fault_of(msgspec.structs.replace(fault, code=status))
