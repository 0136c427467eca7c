"""The one async protocol every engine speaks, and the values that cross it.

An engine runs a model. It knows tasks and prompts as values; it knows nothing of ladders, policy, confidence or
the ledger. Failures are `EngineError`s, each carrying the verdict its attempt ends with.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from rung.receipt import Usage
from rung.task import Message, Task

Probabilities = npt.NDArray[np.float64]


class Support(enum.StrEnum):
    """Whether an engine can do a thing: probed, not assumed."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Capabilities(msgspec.Struct, frozen=True):
    """What an engine was found able to do.

    Attributes:
        logprobs: whether token log-probabilities really come back.
        json_schema: whether a `response_format` schema is really honoured.
    """

    classify: Support = Support.NO
    generate: Support = Support.NO
    embed: Support = Support.NO
    logprobs: Support = Support.NO
    json_schema: Support = Support.NO


class State(enum.StrEnum):
    """How an engine is."""

    READY = "ready"
    COLD = "cold"
    DOWN = "down"
    MISCONFIGURED = "misconfigured"


class Health(msgspec.Struct, frozen=True):
    """How an engine is, with one sentence and one fix for people."""

    state: State
    detail: str = ""
    hint: str | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """One generated token.

    Attributes:
        token: its text.
        logprob: natural log of its probability.
        alternatives: the most likely tokens at this place, itself included, with their log-probabilities.
    """

    token: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


class Finish(enum.StrEnum):
    """Why generation ended."""

    STOP = "stop"
    LENGTH = "length"
    REFUSAL = "refusal"


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One generation.

    Attributes:
        messages: the prompt.
        max_tokens: longest answer.
        schema: JSON Schema the answer must keep, canonical JSON text; None for free text.
        schema_name: a name for the schema, for servers that ask for one.
        logprobs: ask for token log-probabilities where the engine has them.
        grammar: a grammar in place of a schema, for engines that take one.
        adapter: name of the LoRA adapter to apply, for engines that hold some; None for the rung's own.
        stop: texts that end the answer.
        timeout_s: ends the attempt earlier than the rung's own total; None for that.
        idempotency_key: sent along so that a repeated call is not charged twice.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    schema: str | None = None
    schema_name: str = "answer"
    logprobs: bool = False
    grammar: str | None = None
    adapter: str | None = None
    stop: tuple[str, ...] = ()
    timeout_s: float | None = None
    idempotency_key: str | None = None


class Generation(msgspec.Struct, frozen=True):
    """One generated answer.

    Attributes:
        text: what the model wrote.
        finish: why it stopped.
        usage: tokens; `usage.estimated` when the server did not say.
        tokens: per-token evidence, None when the server gave none.
        first_token_ms: time to the first token, None when not streamed.
        model: what the server says answered.
        relaxed: parts of the schema that decoding could not enforce, as JSON pointers with a reason; the finished
            answer is still held to them.
    """

    text: str
    finish: Finish
    usage: Usage
    tokens: tuple[TokenLogprob, ...] | None = None
    first_token_ms: float | None = None
    model: str = ""
    relaxed: tuple[str, ...] = ()


class ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A micro-batch for one `classify` task.

    Attributes:
        task: supplies labels and instructions.
        texts: the inputs.
        timeout_s, idempotency_keys: as in `GenerateRequest`; keys are one per text, or empty.
    """

    task: Task
    texts: tuple[str, ...]
    timeout_s: float | None = None
    idempotency_keys: tuple[str, ...] = ()


class Classification(msgspec.Struct, frozen=True):
    """Label probabilities of one micro-batch.

    Attributes:
        probabilities: (texts, labels) float64, columns in the task's label order; a row of NaN where the
            engine chose a label without giving evidence. Rows need not sum to 1: the rest is "something else".
        chosen: (texts,) index of the chosen label, -1 where the output was no label.
        usages: tokens of each text.
        failures: index of a text to the error that ended its attempt; its row is NaN and -1.
        latencies_ms: wall time of each text, its share of a call that answers several.
        finishes: for engines that generate the label: why each text's generation ended; empty otherwise.
    """

    probabilities: Probabilities
    chosen: npt.NDArray[np.int64]
    usages: tuple[Usage, ...]
    failures: Mapping[int, Exception] = {}
    latencies_ms: tuple[float, ...] = ()
    finishes: tuple[Finish, ...] = ()


class Engine(Protocol):
    """Runs one model. Methods may be called concurrently; every one raises only `EngineError`s."""

    @property
    def batch(self) -> int:
        """How many inputs `classify` likes at once; 1 for engines that take one call an input."""
        ...

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Label probabilities for a micro-batch; a failed text is in `failures`, not raised."""
        ...

    async def generate(self, request: GenerateRequest) -> Generation:
        """One generation."""
        ...

    async def embed(self, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """(texts, dimensions) embeddings."""
        ...

    async def health(self) -> Health:
        """How the engine is now; never raises."""
        ...

    async def capabilities(self) -> Capabilities:
        """What it can do: probed on first use, then remembered."""
        ...

    def identity(self, task: Task) -> Mapping[str, str]:
        """What the answers depend on (model digest, build, decoding), for the certificate's fingerprint."""
        ...

    async def aclose(self) -> None:
        """Release connections and memory; safe to call twice."""
        ...


@runtime_checkable
class KnowsTraining(Protocol):
    """An engine that knows which texts its model was trained on."""

    def trained_on(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(texts,) whether each text, normalised, was a training row."""
        ...


@runtime_checkable
class FindsEvidence(Protocol):
    """An engine that says for one task what its confidence is made from, without finding out all that it can do."""

    async def evidence(self, task: Task) -> str:
        """A few words that change when confidences are made otherwise; asked for before `identity`.

        Raises:
            EngineError: the engine cannot be asked.
        """
        ...
