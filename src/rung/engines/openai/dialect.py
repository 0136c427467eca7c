"""What one server really does of the API: found out by asking, remembered while the engine is open.

Servers accept fields they ignore, and refuse fields they need not know. A capability is what comes
back: token probabilities that are there, an answer that keeps a schema against its prompt.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Coroutine

import msgspec

from rung.config import RungSettings
from rung.engines.openai import wire
from rung.engines.openai.faults import RequestRefused
from rung.engines.protocol import Generation, TokenLogprob
from rung.task import Message

_TOP_LOGPROBS = (20, 5)  # OpenAI's and vLLM's most; some servers allow five
_PROBE_SCHEMA = (
    '{"type":"object","properties":{"label":{"type":"string","enum":["kestrel","walnut"]}},'
    '"required":["label"],"additionalProperties":false}'
)


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One generation before it is put in a server's dialect.

    Attributes:
        messages: the prompt.
        max_tokens: longest answer.
        response_format: schema to hold the answer to, None for free text.
        top_logprobs: alternatives to ask for at each token, 0 for no token evidence.
        stop: texts that end the answer.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    response_format: wire.ResponseFormat | None = None
    top_logprobs: int = 0
    stop: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """What the messages say."""
        return tuple(message.content for message in self.messages)


class Dialect(msgspec.Struct, frozen=True):
    """The optional fields a server takes.

    Attributes:
        completion_limit: the length limit is called `max_completion_tokens`.
        seed: `seed` is taken.
        usage: `stream_options` is taken.
    """

    completion_limit: bool = False
    seed: bool = True
    usage: bool = True

    def body(self, settings: RungSettings, ask: Ask) -> bytes:
        """`ask` as this server's JSON."""
        return msgspec.json.encode(
            wire.ChatRequest(
                model=settings.model,
                messages=ask.messages,
                temperature=settings.temperature,
                max_tokens=None if self.completion_limit else ask.max_tokens,
                max_completion_tokens=ask.max_tokens if self.completion_limit else None,
                seed=settings.seed if self.seed else None,
                stream=True,
                stream_options=wire.StreamOptions() if self.usage else None,
                response_format=ask.response_format,
                logprobs=ask.top_logprobs > 0,
                top_logprobs=ask.top_logprobs or None,
                stop=ask.stop,
            )
        )

    def after(self, refusal: RequestRefused) -> Dialect | None:
        """The dialect without the field that `refusal` names; None where it names none that can go.

        The temperature never goes: it is part of what a certificate is about.
        """
        named = set(re.findall(r"\w+", refusal.words))
        if not self.completion_limit and "max_completion_tokens" in named:
            return msgspec.structs.replace(self, completion_limit=True)
        if self.usage and "stream_options" in named:
            return msgspec.structs.replace(self, usage=False)
        if self.seed and "seed" in named:
            return msgspec.structs.replace(self, seed=False)
        return None


class Probes:
    """Asks a server what it can do, each question at most once and only when it matters.

    Whoever needs an answer waits for the same question. It goes on when they give up: a model that
    is loading would otherwise be interrupted by everyone's patience and never be loaded.

    Args:
        ask: sends one generation; the probes go the same way as any other.
    """

    def __init__(self, ask: Callable[[Ask], Awaitable[Generation]]) -> None:
        self._ask = ask
        self._top_logprobs: int | None = None
        self._json_schema: bool | None = None
        self._asking: dict[str, asyncio.Task[int]] = {}

    async def top_logprobs(self) -> int:
        """How many alternatives a token to ask for; 0 where no token probabilities come back.

        Raises:
            EngineError: the server could not be asked; nothing is remembered.
        """
        if self._top_logprobs is None:
            self._top_logprobs = await self._shared("logprobs", self._find_top_logprobs)
        return self._top_logprobs

    async def json_schema(self) -> bool:
        """Whether an answer is held to a schema.

        Raises:
            EngineError: as for `top_logprobs`.
        """
        if self._json_schema is None:
            self._json_schema = bool(await self._shared("json_schema", self._find_json_schema))
        return self._json_schema

    async def aclose(self) -> None:
        """Stop asking."""
        running = list(self._asking.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _shared(self, name: str, find: Callable[[], Coroutine[None, None, int]]) -> int:
        """The answer to a question that is asked once, however many wait for it."""
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(find())
            self._asking[name] = task
            task.add_done_callback(functools.partial(self._asked, name))
        return await asyncio.shield(task)

    def _asked(self, name: str, task: asyncio.Task[int]) -> None:
        del self._asking[name]
        if not task.cancelled():
            task.exception()  # taken note of, also when nobody waits any more

    async def _find_top_logprobs(self) -> int:
        for count in _TOP_LOGPROBS:
            ask = Ask(
                messages=(Message("user", "Name any animal."),), max_tokens=4, top_logprobs=count
            )
            try:
                generation = await self._ask(ask)
            except RequestRefused:
                continue
            return count if _is_evidence(generation.tokens or ()) else 0
        return 0

    async def _find_json_schema(self) -> bool:
        """The prompt asks for one thing, the schema allows another: enforcing it shows."""
        ask = Ask(
            messages=(Message("user", "Reply with the single word: hello"),),
            max_tokens=32,  # the whole object has to fit, or its end could not be seen
            response_format=wire.response_format("probe", _PROBE_SCHEMA),
        )
        try:
            generation = await self._ask(ask)
        except RequestRefused:
            return False
        try:
            value = msgspec.json.decode(generation.text, type=dict[str, str])
        except ValueError:
            return False
        return value in ({"label": "kestrel"}, {"label": "walnut"})


def _is_evidence(tokens: tuple[TokenLogprob, ...]) -> bool:
    """Whether the tokens tell of any doubt; certainty of everything is what a server makes up."""
    return any(token.logprob < 0.0 or len(token.alternatives) > 1 for token in tokens)
