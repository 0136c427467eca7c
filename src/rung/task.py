"""What is asked, as a typed contract: `Task`, its `Contract`, and the `Request` that carries one input.

A task is one TOML file in the user's repository. Reading and validating that file is `tasks`'s business; this
module says what a valid task is and whether an output keeps its contract. It knows no engine and no ladder.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from typing import TYPE_CHECKING

import msgspec

from rung.errors import ConfigError
from rung.structured.calls import FIELDS as CALL_FIELDS
from rung.structured.calls import call_schema
from rung.structured.places import property_names
from rung.structured.validation import validator_of

if TYPE_CHECKING:
    import jsonschema_rs

    from rung.receipt import JsonValue


class Kind(enum.StrEnum):
    """The shapes of work Rung can hold to a contract."""

    CLASSIFY = "classify"
    EXTRACT = "extract"
    CALL = "call"
    SUMMARIZE = "summarize"
    ANSWER = "answer"
    CHAT = "chat"


RECORD_KINDS = frozenset({Kind.EXTRACT, Kind.CALL})
"""Kinds whose answer is a JSON value held to a schema."""


class Privacy(enum.StrEnum):
    """How far a text may travel, from least to most guarded."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PERSONAL = "personal"
    SECRET = "secret"  # noqa: S105 - a privacy label

    @property
    def rank(self) -> int:
        """0 for public to 3 for secret."""
        return list(Privacy).index(self)


class Label(msgspec.Struct, frozen=True):
    """One answer a `classify` task may give.

    Attributes:
        name: the exact string that is the answer.
        description: what it means, for the prompt of a language model.
    """

    name: str
    description: str = ""


NO_PARAMETERS = '{"additionalProperties":false,"properties":{},"type":"object"}'
"""The schema of the arguments of a tool that takes none."""


class Tool(msgspec.Struct, frozen=True):
    """One tool a `call` task may choose.

    Attributes:
        name: the exact string that names it in the answer.
        description: what it does, for the prompt of a language model.
        parameters: JSON Schema of its arguments, an object, as canonical JSON text.
    """

    name: str
    description: str = ""
    parameters: str = NO_PARAMETERS


class Quality(msgspec.Struct, frozen=True):
    """The quality bar: at most `max_error` of accepted answers wrong, with probability `confidence`."""

    max_error: float = 0.05
    confidence: float = 0.95


class Task(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What is asked.

    Attributes:
        name: letters, digits, `-` and `_`; the file's stem.
        kind: the shape of the work.
        instructions: what to do, in words; part of the prompt of a language model.
        labels: for `classify`, the answers allowed, in order.
        schema: for `extract`, the JSON Schema of the answer, as canonical JSON text; `output_schema` has it for every
            kind.
        tools: for `call`, the tools allowed, in order.
        allow_none: for `call`, whether "no tool" is an answer: `structured.calls.NO_CALL`.
        privacy: the least guarded label its inputs have; a request may raise it, never lower it.
        quality: the bar that certificates are made for.
        max_latency_ms: a rung that has not answered by then has timed out; None for the rung's own limit.
        ladder: the name of its ladder in `rung.toml`.
        max_output_tokens: longest answer a language model may write.
    """

    name: str
    kind: Kind
    instructions: str = ""
    labels: tuple[Label, ...] = ()
    schema: str | None = None
    tools: tuple[Tool, ...] = ()
    allow_none: bool = False
    privacy: Privacy = Privacy.PERSONAL
    quality: Quality = Quality()
    max_latency_ms: int | None = None
    ladder: str = "default"
    max_output_tokens: int = 512

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the task's order."""
        return tuple(label.name for label in self.labels)

    @functools.cached_property
    def output_schema(self) -> str | None:
        """The JSON Schema of the answer as JSON text; None for labels and free text."""
        if self.kind is not Kind.CALL:
            return self.schema
        tools = {tool.name: msgspec.json.decode(tool.parameters) for tool in self.tools}
        return msgspec.json.encode(call_schema(tools, allow_none=self.allow_none)).decode()

    @functools.cached_property
    def field_names(self) -> tuple[str, ...]:
        """The top-level members of the answer's record, in the schema's order; none for labels and free text."""
        if self.kind is Kind.CALL:
            return CALL_FIELDS
        schema = msgspec.json.decode(self.schema or "{}")
        return tuple(schema.get("properties", ())) if isinstance(schema, dict) else ()

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of everything that changes what is asked (not the quality bar, privacy or ladder)."""
        asked: tuple[object, ...] = (
            self.name,
            self.kind,
            self.instructions,
            self.labels,
            self.schema,
        )
        if self.kind is Kind.CALL:
            asked += (self.tools, self.allow_none)
        return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()

    @functools.cached_property
    def contract(self) -> Contract:
        """The checks an output must pass before it can be an answer."""
        return Contract(self)


class Contract:
    """What an output must be to count as an answer at all; being right is another question.

    Args:
        task: the task whose outputs are checked.

    Raises:
        ConfigError: the task's JSON Schema is not a valid schema, or names a format that nothing checks.
    """

    def __init__(self, task: Task) -> None:
        schema = task.output_schema
        self._kind = task.kind
        self._labels = frozenset(task.label_names)
        self._tools = frozenset(tool.name for tool in task.tools)
        self._validator = _compile_schema(task.name, schema) if schema is not None else None
        self._named = frozenset(property_names(msgspec.json.decode(schema or "{}")))

    def violation(self, value: JsonValue) -> str | None:
        """Why `value` is not an answer, in a sentence without the value's text; None when it is one."""
        if self._kind is Kind.CLASSIFY:
            return None if value in self._labels else "the answer is not one of the task's labels"
        if self._kind is Kind.CALL and self._unknown_tool(value):
            return "the answer names no tool of the task"
        if self._validator is not None:
            error = next(iter(self._validator.iter_errors(value)), None)
            if error is None:
                return None
            place = "/".join(map(self._shown, error.instance_path)) or "the answer"
            return f"{place} does not match the schema ({'/'.join(map(str, error.schema_path))})"
        if not isinstance(value, str) or not value.strip():
            return "the answer is empty"
        return None

    def _unknown_tool(self, value: JsonValue) -> bool:
        """Whether a call names a tool there is none of; what else is wrong with it, its schema says."""
        name = value.get("name") if isinstance(value, dict) else None
        return isinstance(name, str) and name not in self._tools

    def _shown(self, part: str | int) -> str:
        """A step on the way to a value; a name that is not the schema's was written by a model and is not repeated."""
        return str(part) if isinstance(part, int) or part in self._named else "…"


def _compile_schema(task: str, schema: str) -> jsonschema_rs.Validator:
    """Compile a task's schema, formats included; remote references are never fetched."""
    try:
        return validator_of(msgspec.json.decode(schema))
    except ConfigError as error:
        raise ConfigError(f"task {task!r}: {error.message}", hint=error.hint) from error


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A single text: what `classify`, `extract`, `call` and `summarize` work on."""

    text: str


class Passage(msgspec.Struct, frozen=True, tag="passage"):
    """A question with the document it is to be answered from: what `answer` works on."""

    question: str
    document: str


class Conversation(msgspec.Struct, frozen=True, tag="conversation"):
    """Turns so far: what `chat` works on."""

    messages: tuple[Message, ...]


Input = Text | Passage | Conversation


def input_text(value: Input) -> str:
    """The input as one string: what is digested, measured for features, and shown to a student."""
    if isinstance(value, Text):
        return value.text
    if isinstance(value, Passage):
        return f"{value.question}\n\n{value.document}"
    return "\n".join(f"{message.role}: {message.content}" for message in value.messages)


class Request(msgspec.Struct, frozen=True, gc=False):
    """One input for one task.

    Attributes:
        task: the task's name.
        input: what the task works on; a plain string stands for `Text`.
        id: the caller's own name for it, repeated in the receipt.
        label: privacy label of this input; may only raise the task's.
        idempotency_key: sent to servers that honour it, so that a repeated call is not charged twice.
    """

    task: str
    input: Input | str
    id: str | None = None
    label: Privacy | None = None
    idempotency_key: str | None = None

    @property
    def typed_input(self) -> Input:
        """The input with plain strings wrapped as `Text`."""
        return Text(self.input) if isinstance(self.input, str) else self.input

    @property
    def text(self) -> str:
        """The input as one string."""
        return self.input if isinstance(self.input, str) else input_text(self.input)
