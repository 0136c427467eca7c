"""What is said over the scoring child's socket: one request a connection, then one reply.

Both are frames: four bytes of length, then MessagePack. Before the request comes a frame with the key; a connection
that does not know it is closed without a word. Sizes are bounded before anything is allocated.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from rung.engines.llama_cpp.labels import SLACK
from rung.errors import EngineProtocolError

HEADER = struct.Struct(">I")
KEY_BYTES = 256
REQUEST_BYTES = 64 * 1024 * 1024
REPLY_BYTES = 256 * 1024 * 1024


class TokenizeRequest(msgspec.Struct, frozen=True, tag="tokenize"):
    """The tokens of some texts.

    Attributes:
        texts: any texts.
        parse_special: whether text that spells a control token becomes one.
    """

    texts: tuple[str, ...]
    parse_special: bool


class FactsRequest(msgspec.Struct, frozen=True, tag="facts"):
    """What the loaded model is."""


class ScoreRequest(msgspec.Struct, frozen=True, tag="score"):
    """Label probabilities of texts that stand between the same two pieces of prompt.

    Attributes:
        before: tokens before each text; evaluated once and kept while the next request has the same.
        texts: tokenised as plain text: what spells a control token stays text.
        after: tokens after each text.
        surfaces: for each label the token sequences that spell it.
        adapter: name of the LoRA adapter to apply, None for none.
        slack: share of a row's mass that need not be asked about; see `labels.SLACK`.
    """

    before: tuple[int, ...]
    texts: tuple[str, ...]
    after: tuple[int, ...]
    surfaces: tuple[tuple[tuple[int, ...], ...], ...]
    adapter: str | None = None
    slack: float = SLACK


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """The answer to a `TokenizeRequest`, one list a text."""

    tokens: list[list[int]]


class ModelFacts(msgspec.Struct, frozen=True, tag="facts"):
    """The answer to a `FactsRequest`.

    Attributes:
        template: the chat template, None for none.
        n_vocab: tokens of the vocabulary.
        ends: end-of-generation tokens.
        bos: the token that texts begin with, -1 for none.
        add_bos: whether prompts should begin with it.
        context_train: tokens of context the model was trained for.
        context: tokens that a prompt and its label may take together.
        metadata: the file's scalar `general.` and `rung.` entries.
    """

    template: str | None
    n_vocab: int
    ends: tuple[int, ...]
    bos: int
    add_bos: bool
    context_train: int
    context: int
    metadata: dict[str, str]


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """The answer to a `ScoreRequest`.

    Attributes:
        probabilities: (texts, labels) float64, row by row, little-endian.
        prompt_tokens: tokens of each text's whole prompt, 0 where it was not tokenised.
        problems: index of a text to why its row is NaN.
    """

    probabilities: bytes
    prompt_tokens: tuple[int, ...]
    problems: dict[int, str]


class FaultKind(enum.StrEnum):
    """Whose fault it is that there is no answer."""

    UNAVAILABLE = "unavailable"  # scoring cannot be used here at all
    UNSUPPORTED = "unsupported"  # not with these labels
    REFUSED = "refused"  # the request is wrong
    FAILED = "failed"


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """Why there is no answer, in one sentence, and what to do."""

    kind: FaultKind
    message: str
    hint: str | None = None


Request = TokenizeRequest | FactsRequest | ScoreRequest
Reply = Tokens | ModelFacts | Scored | Fault

_REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_REPLY: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def frame(body: bytes) -> bytes:
    """A body with its length before it."""
    return HEADER.pack(len(body)) + body


def encode(message: Request | Reply) -> bytes:
    """A message as a frame.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    return frame(msgspec.msgpack.encode(message))


def decode_request(body: bytes) -> Request:
    """A request out of a frame's body.

    Raises:
        EngineProtocolError: it is none.
    """
    try:
        return _REQUEST.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineProtocolError(f"not a scoring request: {error}") from error


def decode_reply(body: bytes) -> Reply:
    """A reply out of a frame's body.

    Raises:
        EngineProtocolError: it is none.
    """
    try:
        return _REPLY.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineProtocolError(f"the scoring process answered nonsense: {error}") from error
