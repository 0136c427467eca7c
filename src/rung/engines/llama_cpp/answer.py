"""What the engine's child writes while it generates, read into a `Generation`.

The child sends one event for each piece of text; a token that ends inside a character is not sent on its own, and its
log-probability never is.
"""

from __future__ import annotations

import msgspec

from rung.engines.protocol import Finish, Generation, TokenLogprob
from rung.errors import EngineError, EngineProtocolError, EngineRefused, EngineUnavailable
from rung.receipt import Usage

MOST_EVENT_BYTES = 256 * 1024 * 1024
"""An event with the log-probability of every token of a large vocabulary has tens of megabytes."""

_DATA = b"data: "
_FINISHES = {"eos": Finish.STOP, "word": Finish.STOP, "limit": Finish.LENGTH}
_SAID_CHARS = 300


class Alternative(msgspec.Struct, frozen=True):
    """A token that could have stood at a place."""

    id: int
    token: str
    logprob: float | None = None  # null for minus infinity


class Entry(msgspec.Struct, frozen=True):
    """The token that stands at a place, with the most likely ones there."""

    id: int
    token: str
    logprob: float | None = None
    top_logprobs: tuple[Alternative, ...] = ()


class Fault(msgspec.Struct, frozen=True):
    """An error as the child words it."""

    message: str = ""
    type: str = ""
    code: int = 0


class FaultBody(msgspec.Struct, frozen=True):
    """Body of an answer that is an error."""

    error: Fault = Fault()


class Bias(msgspec.Struct, frozen=True):
    """A token whose chances a request changed."""

    token: int


class Decoding(msgspec.Struct, frozen=True):
    """How an answer was decoded, as far as it is read."""

    logit_bias: tuple[Bias, ...] = ()


class Timings(msgspec.Struct, frozen=True):
    """How long an answer took, as the child's own clock has it; tokens, and milliseconds."""

    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class Event(msgspec.Struct, frozen=True):
    """One event of a stream; the last one has `stop`."""

    content: str = ""
    stop: bool = False
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    completion_probabilities: tuple[Entry, ...] = ()
    stop_type: str = ""
    truncated: bool = False
    generation_settings: Decoding = Decoding()
    timings: Timings = Timings()
    error: Fault | None = None


class Events:
    """Events out of the child's bytes: each is one line that begins with `data: `, as llama.cpp writes them."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes.

        Raises:
            EngineProtocolError: a line is no event, or has no end.
        """
        self._rest += piece
        if b"\n" not in piece:
            if len(self._rest) > MOST_EVENT_BYTES:
                raise EngineProtocolError(
                    f"the engine process wrote an event of more than {MOST_EVENT_BYTES:,} bytes"
                )
            return []
        *lines, self._rest = self._rest.split(b"\n")
        return [_decoded(bytes(line[len(_DATA) :])) for line in lines if line.startswith(_DATA)]


def _decoded(line: bytes) -> Event:
    try:
        return msgspec.json.decode(line, type=Event)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineProtocolError(f"the engine process wrote a broken event: {error}") from error


class Assembly:
    """One answer as it comes.

    Args:
        model: what answers, for `Generation.model`.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._text: list[str] = []
        self._entries: list[Entry] = []
        self._counted = 0
        self._gap = False
        self.last: Event | None = None

    def take(self, event: Event) -> str:
        """The text that an event adds.

        Raises:
            EngineError: the event is an error.
        """
        if event.error is not None:
            raise fault_of(event.error)
        if event.stop:
            self.last = event
        elif event.tokens_predicted:
            self._entries += event.completion_probabilities
            self._counted += 1
            self._gap |= event.tokens_predicted != self._counted
        self._text.append(event.content)
        return event.content

    def generation(
        self, *, first_token_ms: float | None, relaxed: tuple[str, ...] = ()
    ) -> Generation:
        """The whole answer, once `last` is there.

        Raises:
            EngineProtocolError: it ended in a way that is not known.
        """
        last = self.last
        finish = None if last is None else _FINISHES.get(last.stop_type)
        if last is None or finish is None:
            raise EngineProtocolError(
                f"the engine process ended an answer with {last.stop_type if last else 'nothing'!r}"
            )
        return Generation(
            text="".join(self._text),
            finish=Finish.LENGTH if last.truncated else finish,
            usage=Usage(last.tokens_evaluated, last.tokens_predicted),
            tokens=self._evidence(last),
            first_token_ms=first_token_ms,
            model=self._model,
            relaxed=relaxed,
        )

    def _evidence(self, last: Event) -> tuple[TokenLogprob, ...] | None:
        """The tokens, when every one that was generated is known; those of a stop text count for nothing."""
        whole = last.stop_type == "word" or last.tokens_predicted == self._counted
        if self._gap or not whole or len(self._entries) != self._counted:
            return None
        return tuple(map(_token, self._entries)) or None


def fault_of(fault: Fault) -> EngineError:
    """The error that the child reports; its requests hold token numbers only, so its words repeat no text."""
    said = " ".join(fault.message.split())[:_SAID_CHARS]
    if fault.code >= 500:
        return EngineUnavailable(f"the engine process failed: {said}")
    return EngineRefused(f"the engine process refused the request: {said}")


def _token(entry: Entry) -> TokenLogprob:
    """An entry as evidence; rounding may leave a logarithm just above 0, and minus infinity is written as null."""
    alternatives = tuple(
        (other.token, min(other.logprob, 0.0))
        for other in entry.top_logprobs
        if other.logprob is not None
    )
    logprob = -1e4 if entry.logprob is None else min(entry.logprob, 0.0)
    return TokenLogprob(entry.token, logprob, alternatives)
