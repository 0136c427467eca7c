"""The caller's side of the scoring child: one connection a request.

Hanging up is how a request is given up: the child notices within a fraction of a second and stops computing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from rung.engines.llama_cpp.lease import Lease
from rung.engines.llama_cpp.scoring import wire
from rung.engines.llama_cpp.scoring.availability import ScorerUnavailable
from rung.engines.llama_cpp.scoring.wire import Fault, FaultKind, ModelFacts, ScoreRequest
from rung.engines.protocol import Probabilities
from rung.errors import (
    EngineError,
    EngineProtocolError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    EngineUnsupported,
)

_LOOKS = 20
_BETWEEN_LOOKS_S = 0.05

_T = TypeVar("_T", wire.Tokens, wire.ModelFacts, wire.Scored)

_FAULTS: dict[FaultKind, type[EngineError]] = {
    FaultKind.UNAVAILABLE: ScorerUnavailable,
    FaultKind.UNSUPPORTED: EngineUnsupported,
    FaultKind.REFUSED: EngineRefused,
    FaultKind.FAILED: EngineUnavailable,
}


class ScoreReply(msgspec.Struct, frozen=True):
    """Label probabilities of the texts of a request.

    Attributes:
        probabilities: (texts, labels) float64; a row sums to at most 1, and is NaN for a text with a problem.
        prompt_tokens: tokens of each text's whole prompt, 0 where they were not counted.
        problems: index of a text to why it could not be scored, such as a prompt longer than the context.
    """

    probabilities: Probabilities
    prompt_tokens: tuple[int, ...]
    problems: dict[int, str]


class ScoringClient:
    """Talks to one scoring child.

    Args:
        lease: of the child.
        epitaph: why the child is gone, None while it lives; makes the message of a broken connection.
    """

    def __init__(self, lease: Lease, *, epitaph: Callable[[], str | None]) -> None:
        self._lease = lease
        self._epitaph = epitaph

    async def tokenize(
        self, texts: Sequence[str], *, parse_special: bool, timeout_s: float = 30.0
    ) -> list[list[int]]:
        """The tokens of some texts, without any that mark a beginning or an end.

        Args:
            texts: any texts.
            parse_special: whether text that spells a control token becomes one; never for what a user wrote.
            timeout_s: limit of the whole call.

        Raises:
            ScorerUnavailable: labels cannot be scored with this model or library.
            EngineError: no answer: timeout, dead child, refusal.
        """
        request = wire.TokenizeRequest(tuple(texts), parse_special)
        return _expect(await self._ask(request, timeout_s), wire.Tokens).tokens

    async def model_facts(self, *, timeout_s: float = 30.0) -> ModelFacts:
        """What the loaded model is; raises as `tokenize` does."""
        return _expect(await self._ask(wire.FactsRequest(), timeout_s), ModelFacts)

    async def score(self, request: ScoreRequest, *, timeout_s: float) -> ScoreReply:
        """Label probabilities; raises as `tokenize` does, and for labels that cannot be told apart."""
        scored = _expect(await self._ask(request, timeout_s), wire.Scored)
        shape = (len(request.texts), len(request.surfaces))
        numbers = np.frombuffer(scored.probabilities, dtype="<f8")
        if numbers.size != shape[0] * shape[1] or len(scored.prompt_tokens) != shape[0]:
            raise EngineProtocolError("the scoring process answered another number of texts")
        rows = numbers.reshape(shape).astype(np.float64)
        return ScoreReply(rows, scored.prompt_tokens, scored.problems)

    async def _ask(self, request: wire.Request, timeout_s: float) -> wire.Reply:
        try:
            message = wire.encode(request)
        except UnicodeEncodeError as error:
            raise EngineRefused(
                "a text holds half of a surrogate pair, which is no character"
            ) from error
        if len(message) > wire.REQUEST_BYTES:
            raise EngineRefused(
                f"a scoring request of {len(message):,} bytes is larger than the {wire.REQUEST_BYTES:,} allowed",
                hint="send fewer or shorter texts at once",
            )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(message)
        except TimeoutError as error:
            raise EngineTimeout(f"labels were not scored within {timeout_s:g} s") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise EngineUnavailable(f"labels were not scored: {await self._why()}") from error

    async def _why(self) -> str:
        """Why the connection broke; that a process ended is often seen a moment later than its connections' end."""
        for _ in range(_LOOKS):
            if (why := self._epitaph()) is not None:
                return why
            await asyncio.sleep(_BETWEEN_LOOKS_S)
        return "the engine process hung up"

    async def _exchange(self, message: bytes) -> wire.Reply:
        reader, writer = await asyncio.open_unix_connection(self._lease.socket)
        try:
            writer.write(wire.frame(self._lease.key.encode()) + message)
            await writer.drain()
            (length,) = wire.HEADER.unpack(await reader.readexactly(wire.HEADER.size))
            if length > wire.REPLY_BYTES:
                raise EngineProtocolError(f"the scoring process announced {length:,} bytes")
            return wire.decode_reply(await reader.readexactly(length))
        finally:
            writer.close()


def _expect(reply: wire.Reply, kind: type[_T]) -> _T:
    if isinstance(reply, Fault):
        raise _FAULTS[reply.kind](reply.message, hint=reply.hint)
    if not isinstance(reply, kind):
        raise EngineProtocolError(f"the scoring process answered a {type(reply).__name__}")
    return reply
