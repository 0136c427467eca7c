"""What crosses the network to an OpenAI-compatible server, as typed values.

Requests carry only fields this module names. Responses are read with tolerance for fields a server
adds or sets to null, and with none for wrong types: a body that does not fit is not this protocol.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rung.task import Message

_NULL = msgspec.Raw(b"null")


class StreamOptions(msgspec.Struct, frozen=True):
    """Asks for a last chunk with the token counts."""

    include_usage: bool = True


class JsonSchema(msgspec.Struct, frozen=True):
    """The schema an answer is to be held to."""

    name: str
    schema: msgspec.Raw
    strict: bool


class ResponseFormat(msgspec.Struct, frozen=True):
    """`response_format` of a request."""

    json_schema: JsonSchema
    type: str = "json_schema"


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of `POST /chat/completions`; absent fields are not sent."""

    model: str
    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    stop: tuple[str, ...] = ()


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    """Body of `POST /embeddings`."""

    model: str
    input: tuple[str, ...]
    encoding_format: str = "float"


class Alternative(msgspec.Struct, frozen=True):
    """A token that could have stood at a place."""

    token: str
    logprob: float | None


class TokenEntry(msgspec.Struct, frozen=True):
    """The token that stands at a place; servers that do not know its probability send null."""

    token: str
    logprob: float | None
    top_logprobs: tuple[Alternative, ...] | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """Token evidence of a chunk or of a whole answer."""

    content: tuple[TokenEntry, ...] | None = None


class Content(msgspec.Struct, frozen=True):
    """A `delta` of a stream or the `message` of a whole answer."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @property
    def speaks(self) -> bool:
        """Whether the model has produced something here; a role alone is sent before any work."""
        return self.spoken_chars > 0

    @property
    def spoken_chars(self) -> int:
        """Characters the model has produced here, thoughts included."""
        # Servers that send both reasoning fields send the same text in both.
        thought = self.reasoning or self.reasoning_content or ""
        return len(self.content or "") + len(self.refusal or "") + len(thought)


class Choice(msgspec.Struct, frozen=True):
    """One choice of a chunk (`delta`) or of a whole answer (`message`)."""

    index: int = 0
    delta: Content | None = None
    message: Content | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Chunk(msgspec.Struct, frozen=True):
    """An event of a stream, or a whole answer; `usage` and `error` vary and are read apart."""

    choices: tuple[Choice, ...] | None = None
    model: str | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class TokenCounts(msgspec.Struct, frozen=True):
    """What the server says it counted."""

    prompt_tokens: int
    completion_tokens: int = 0


class Embedding(msgspec.Struct, frozen=True):
    """The vector of one text."""

    embedding: tuple[float, ...]
    index: int


class Embeddings(msgspec.Struct, frozen=True):
    """Body of an embeddings answer."""

    data: tuple[Embedding, ...]


class Model(msgspec.Struct, frozen=True):
    """One entry of `GET /models`."""

    id: str
    owned_by: str | None = None


class Models(msgspec.Struct, frozen=True):
    """Body of `GET /models`; Ollama sends null for an empty list."""

    data: tuple[Model, ...] | None


class ErrorDetail(msgspec.Struct, frozen=True):
    """The usual inside of an error."""

    message: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The error shapes met: `{"error": {"message"}}`, `{"error": "…"}`, `{"message"}`,
    `{"detail"}`.
    """

    error: ErrorDetail | str | None = None
    message: str | None = None
    detail: Any = None  # FastAPI puts a sentence or a list of findings here

    @property
    def words(self) -> str:
        """What it says, or nothing."""
        if isinstance(self.error, str):
            return self.error
        if self.error is not None and self.error.message:
            return self.error.message
        if self.message:
            return self.message
        return self.detail if isinstance(self.detail, str) else ""


def response_format(name: str, schema: str) -> ResponseFormat:
    """Hold the answer to `schema` (JSON text); strict where the schema qualifies for it.

    Strict servers refuse schemas with optional or open properties, so those are sent as a wish; the
    task's contract checks every answer anyway.
    """
    strict = _closed(msgspec.json.decode(schema))
    return ResponseFormat(JsonSchema(name, msgspec.Raw(schema.encode()), strict))


def _closed(schema: Any) -> bool:  # any JSON value may stand inside a schema
    """Whether every object in `schema` forbids other properties and requires all of its own."""
    if isinstance(schema, list):
        return all(_closed(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        names = set(properties) if isinstance(properties, dict) else set()
        if schema.get("additionalProperties") is not False:
            return False
        if names != set(schema.get("required", ())):
            return False
    return all(_closed(part) for part in schema.values())
