"""A server's answer, streamed or whole, assembled into a `Generation`.

Tolerant where servers differ without harm (streams without `[DONE]`, whole bodies where a stream
was asked for, wrong content types), strict where harm would follow: a cut answer is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from rung.engines.openai import faults, wire
from rung.engines.openai.limits import Watch
from rung.engines.openai.sse import EventStream
from rung.engines.openai.transport import Reply
from rung.engines.protocol import Finish, Generation, TokenLogprob
from rung.errors import EngineError, EngineTruncated
from rung.receipt import Usage

_DONE = b"[DONE]"
_NULL = msgspec.Raw(b"null")
_TAIL_S = 2.0  # after the last token: how long to wait for the token counts
_CLOSE_S = 0.1  # after [DONE]: how long to wait for the body's end, to keep the connection
_MOST_TOKENS = 10_000_000  # no model has such a context: a count beyond it is a server's mistake
_CHARS_PER_TOKEN = 4
_BOM_AND_BLANKS = b"\xef\xbb\xbf \t\r\n"
_FINISHES = {
    "stop": Finish.STOP,
    "eos": Finish.STOP,
    "eos_token": Finish.STOP,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "content_filter": Finish.REFUSAL,
}


class Expected(msgspec.Struct, frozen=True):
    """What the answer is read against.

    Attributes:
        prompt_chars: length of the prompt, for an estimate where the server counts nothing.
        max_bytes: longest body.
        between_s: seconds allowed between two tokens.
        started: loop time of the request, for the time to the first token.
    """

    prompt_chars: int
    max_bytes: int
    between_s: float
    started: float


async def read_answer(reply: Reply, watch: Watch, expected: Expected) -> Generation:
    """Read the body to its end.

    Raises:
        EngineTruncated: it ended before the answer did.
        EngineProtocolError: it is not an answer.
    """
    reply.limit_bytes = expected.max_bytes
    reading = _Reading(reply, watch, expected)
    head = b""
    while not head:
        piece = await reply.read()
        if not piece:
            raise faults.not_the_protocol(reply.url, "with an empty body")
        head = piece.lstrip(_BOM_AND_BLANKS)
    if head[:1] == b"<":
        raise faults.not_the_protocol(reply.url, "an HTML page")
    if head[:1] in (b"{", b"["):
        await reading.whole(head)
    else:
        await reading.stream(head)
    return reading.generation()


class _Reading:
    """The state of one answer being read."""

    def __init__(self, reply: Reply, watch: Watch, expected: Expected) -> None:
        self._reply = reply
        self._watch = watch
        self._expected = expected
        self._events = EventStream()
        self._seen = self._done = False
        self._text: list[str] = []
        self._tokens: list[TokenLogprob] = []
        self._finish: Finish | None = None
        self._refused = False
        self._spoken_chars = 0
        self._usage: Usage | None = None
        self._first_token_ms: float | None = None
        self._model = ""

    async def whole(self, head: bytes) -> None:
        """A server that does not stream: one JSON body."""
        chunk = self._decode(head + await self._reply.read_all())
        self._take(chunk)
        if not chunk.choices:
            raise faults.not_the_protocol(self._reply.url, "without any choice")
        self._first_token_ms = None

    async def stream(self, head: bytes) -> None:
        """Events up to the finish, then whatever of the token counts comes soon."""
        self._process(self._events.feed(head))
        while self._finish is None and not self._done:
            piece = await self._reply.read()
            if not piece:
                self._process(self._events.close())
                break
            self._process(self._events.feed(piece))
        if self._finish is None:
            if not self._seen:
                raise faults.not_the_protocol(
                    self._reply.url, "something that is not a chat answer"
                )
            raise faults.cut_off(self._reply.url)
        await self._tail()

    async def _tail(self) -> None:
        """The answer is complete: a failure from here on only costs the exact token counts."""
        self._watch.rest()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError, EngineError):
            async with asyncio.timeout(_CLOSE_S if self._done else _TAIL_S) as timer:
                while piece := await self._reply.read():
                    self._process(self._events.feed(piece))
                    if self._done:
                        timer.reschedule(loop.time() + _CLOSE_S)

    def _process(self, events: list[bytes]) -> None:
        for event in events:
            if event == _DONE:
                self._done = True
            elif not self._done:
                self._take(self._decode(event))

    def _decode(self, body: bytes) -> wire.Chunk:
        try:
            return msgspec.json.decode(body, type=wire.Chunk)
        except (ValueError, RecursionError) as error:
            if self._finish is not None:
                return wire.Chunk()
            raise faults.not_the_protocol(
                self._reply.url, "JSON that is broken or has another shape"
            ) from error

    def _take(self, chunk: wire.Chunk) -> None:
        """Add one chunk; what comes after the finish is only asked for token counts."""
        if chunk.usage != _NULL:
            self._usage = _usage(chunk.usage) or self._usage
        if self._finish is not None:
            return
        if chunk.error != _NULL:
            raise self._reported(chunk.error)
        self._model = chunk.model or self._model
        for choice in chunk.choices or ():
            if choice.index == 0:
                self._seen = True
                self._take_choice(choice)

    def _take_choice(self, choice: wire.Choice) -> None:
        content = choice.delta or choice.message or wire.Content()
        if content.speaks or choice.finish_reason:
            self._progress()
        if content.content:
            self._text.append(content.content)
        self._refused = self._refused or bool(content.refusal)
        self._spoken_chars += content.spoken_chars
        if choice.logprobs is not None:
            self._tokens.extend(
                _token(entry, entry.logprob)
                for entry in choice.logprobs.content or ()
                if entry.logprob is not None
            )
        if choice.finish_reason:
            self._finish = self._finish_of(choice.finish_reason)

    def _progress(self) -> None:
        if self._first_token_ms is None:
            elapsed = asyncio.get_running_loop().time() - self._expected.started
            self._first_token_ms = elapsed * 1000
        self._watch.expect("between_tokens", self._expected.between_s)

    def _finish_of(self, reason: str) -> Finish:
        finish = _FINISHES.get(reason)
        if finish is None:
            raise faults.not_the_protocol(
                self._reply.url,
                f"with finish_reason {reason[:40]!r}, which a text answer never has",
            )
        return Finish.REFUSAL if self._refused else finish

    def _reported(self, error: msgspec.Raw) -> EngineError:
        """The error for a failure the server reports inside a 200 answer."""
        said = self._reply.redactor.excerpt(faults.words_of(b'{"error":' + bytes(error) + b"}"))
        if self._text:
            return EngineTruncated(
                f"{faults.place(self._reply.url)} broke off with an error: {said}", charged=True
            )
        return faults.not_the_protocol(self._reply.url, f"HTTP 200 with an error: {said}")

    def generation(self) -> Generation:
        """What was read, as the engine's answer."""
        if self._finish is None:
            raise faults.not_the_protocol(self._reply.url, "without a finish_reason")
        estimated = Usage(
            _tokens_in(self._expected.prompt_chars), _tokens_in(self._spoken_chars), estimated=True
        )
        return Generation(
            text="".join(self._text),
            finish=self._finish,
            usage=self._usage or estimated,
            tokens=tuple(self._tokens) or None,
            first_token_ms=self._first_token_ms,
            model=self._model,
        )


def _usage(raw: msgspec.Raw) -> Usage | None:
    """The server's counts, None where they are missing or cannot be."""
    try:
        counts = msgspec.json.decode(raw, type=wire.TokenCounts | None)
    except ValueError:
        return None
    if counts is None:
        return None
    if not all(0 <= n <= _MOST_TOKENS for n in (counts.prompt_tokens, counts.completion_tokens)):
        return None
    return Usage(counts.prompt_tokens, counts.completion_tokens)


def _tokens_in(chars: int) -> int:
    """Tokens in so many characters, by the rule of thumb of four characters a token, rounded up."""
    return -(-chars // _CHARS_PER_TOKEN)


def _token(entry: wire.TokenEntry, logprob: float) -> TokenLogprob:
    """The entry as evidence; rounding on the server's side may leave a logarithm just above 0."""
    alternatives = tuple(
        (other.token, min(other.logprob, 0.0))
        for other in entry.top_logprobs or ()
        if other.logprob is not None
    )
    return TokenLogprob(entry.token, min(logprob, 0.0), alternatives)
