"""The `openai` engine: the engine protocol over any OpenAI-compatible server.

Composes what its neighbours do: prompts from `rung.prompts`, calls with their limits and retries,
what the server was found able to do, and label probabilities read from tokens.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rung import prompts
from rung.config import Limits, RungSettings
from rung.engines.openai import faults, wire
from rung.engines.openai.calls import Calls
from rung.engines.openai.dialect import Ask, Probes
from rung.engines.openai.labels import LabelReader
from rung.engines.openai.retry import Timing
from rung.engines.openai.transport import Sending
from rung.engines.protocol import (
    Capabilities,
    Classification,
    ClassifyRequest,
    Finish,
    GenerateRequest,
    Generation,
    Health,
    Probabilities,
    State,
    Support,
)
from rung.errors import (
    EngineCold,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineTimeout,
    EngineUnavailable,
    EngineUnsupported,
)
from rung.receipt import Usage
from rung.task import Task, Text

BUILD = "openai/1"
"""Names how this engine asks and reads. Part of the fingerprint: raised when answers could change.
"""

_EMBED_BATCH = 128
_EMBED_BYTES = 64 * 1024 * 1024
_MODELS_BYTES = 16 * 1024 * 1024
_HEALTH_S = 10.0
_ONCE = Limits(retries=0)


class _Row(msgspec.Struct, frozen=True):
    """One text classified, or the error that ended it."""

    probabilities: Probabilities | None = None
    chosen: int = -1
    usage: Usage = Usage()
    finish: Finish = Finish.STOP
    latency_ms: float = 0.0
    failure: EngineError | None = None


class _Form(msgspec.Struct, frozen=True):
    """What all texts of one `classify` call have in common."""

    reader: LabelReader
    prompt: prompts.Form
    response_format: wire.ResponseFormat | None
    top_logprobs: int


class OpenAIEngine:
    """A model behind an OpenAI-compatible server.

    The connections belong to the event loop of the first call, until `aclose`.

    Args:
        settings: the rung.
        timing: clock, dice and sleep of the retries; the real ones when None.

    Raises:
        ConfigError: the rung has no usable `base_url`.
    """

    def __init__(self, settings: RungSettings, *, timing: Timing | None = None) -> None:
        self._settings = settings
        self._timing = timing or Timing()
        self._open()

    def _open(self) -> None:
        """Fresh state for one life, from the first use to `aclose`."""
        self._calls = Calls(self._settings, self._timing)
        self._probes = Probes(self._chat)
        self._embeds = Support.UNKNOWN

    @property
    def batch(self) -> int:
        """One: every text is a call of its own."""
        return 1

    async def generate(self, request: GenerateRequest) -> Generation:
        """One generation, held to its schema where the server does that.

        Raises:
            EngineUnsupported: a grammar or an adapter is asked for, which this protocol has no word for.
            EngineError: the attempt failed; see `rung.errors` for the kinds.
        """
        _check_supported(request)
        held, top = None, 0
        async with self._calls.asking(request.timeout_s):
            if request.schema is not None and await self._probes.json_schema():
                held = wire.response_format(request.schema_name, request.schema)
            if request.logprobs:
                top = await self._probes.top_logprobs()
        ask = Ask(
            messages=request.messages,
            max_tokens=request.max_tokens,
            response_format=held,
            top_logprobs=top,
            stop=request.stop,
        )
        async with self._calls.slots:
            return await self._calls.chat(
                ask, timeout_s=request.timeout_s, idempotency_key=request.idempotency_key
            )

    async def classify(self, request: ClassifyRequest) -> Classification:
        """One generation a text, as many at once as `limits.concurrency` allows.

        `finishes` has an entry for every text; that of a failed text means nothing.
        """
        try:
            async with self._calls.asking(request.timeout_s):
                form = await self._form(request.task)
        except EngineError as error:
            return _classification(request, [_Row(failure=error)] * len(request.texts))
        async with asyncio.TaskGroup() as group:
            rows = [
                group.create_task(self._classify_one(request, index, form))
                for index in range(len(request.texts))
            ]
        return _classification(request, [row.result() for row in rows])

    async def embed(self, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """(texts, dimensions) embeddings.

        Raises:
            EngineUnsupported: the server has no embeddings for this model.
            EngineError: the attempt failed.
        """
        parts = [
            await self._embed_batch(texts[start : start + _EMBED_BATCH])
            for start in range(0, len(texts), _EMBED_BATCH)
        ]
        if not parts:
            return np.zeros((0, 0), dtype=np.float32)
        if len({part.shape[1] for part in parts}) > 1:
            url = self._calls.transport.url("embeddings")
            raise faults.not_the_protocol(url, "with vectors of several lengths")
        return np.concatenate(parts)

    async def health(self) -> Health:
        """How the server is, from its list of models, which no server bills; never raises."""
        sending = Sending("models")
        try:
            raw = await self._calls.fetch(
                sending, total_s=_HEALTH_S, limit_bytes=_MODELS_BYTES, limits=_ONCE
            )
            models = _decode_models(raw, faults.place(self._calls.transport.url(sending.path)))
        except (EngineUnavailable, EngineTimeout, EngineOverloaded) as error:
            return Health(State.DOWN, error.message, error.hint)
        except EngineCold as error:
            return Health(State.COLD, error.message, error.hint)
        except EngineError as error:
            return Health(State.MISCONFIGURED, error.message, error.hint)
        return _health_of(self._settings, models)

    async def capabilities(self) -> Capabilities:
        """What the server was found able to do; unknown while it cannot be asked."""
        try:
            logprobs = await self._probes.top_logprobs() > 0
            json_schema = await self._probes.json_schema()
        except EngineError:
            unknown = Support.UNKNOWN
            return Capabilities(unknown, unknown, self._embeds, unknown, unknown)
        return Capabilities(
            classify=Support.YES,
            generate=Support.YES,
            embed=self._embeds,
            logprobs=Support.YES if logprobs else Support.NO,
            json_schema=Support.YES if json_schema else Support.NO,
        )

    def identity(self, task: Task) -> Mapping[str, str]:
        """Server, model, decoding, prompt; what stands behind the name only the server knows."""
        base = self._calls.transport.base
        return {
            "engine": BUILD,
            "endpoint": f"{base.host}:{base.port}{base.path}",
            "model": self._settings.model,
            "temperature": repr(self._settings.temperature),
            "seed": str(self._settings.seed),
            "max_output_tokens": str(task.max_output_tokens),
            "prompt": prompts.prompt_digest(task),
        }

    async def aclose(self) -> None:
        """Close the connections and forget what was probed; safe to call twice."""
        await self._probes.aclose()
        await self._calls.aclose()
        self._open()

    async def _chat(self, ask: Ask) -> Generation:
        async with self._calls.slots:
            return await self._calls.chat(ask)

    async def _form(self, task: Task) -> _Form:
        """How this server is best asked for one of the task's labels."""
        schema = prompts.answer_schema(task)
        held = schema is not None and await self._probes.json_schema()
        return _Form(
            reader=LabelReader(task.label_names),
            prompt=prompts.Form.JSON if held else prompts.Form.BARE,
            response_format=wire.response_format("label", schema) if held and schema else None,
            top_logprobs=await self._probes.top_logprobs(),
        )

    async def _classify_one(self, request: ClassifyRequest, index: int, form: _Form) -> _Row:
        task = request.task
        ask = Ask(
            messages=prompts.messages(task, Text(request.texts[index]), form=form.prompt),
            max_tokens=task.max_output_tokens,
            response_format=form.response_format,
            top_logprobs=form.top_logprobs,
        )
        key = request.idempotency_keys[index] if request.idempotency_keys else None
        loop = asyncio.get_running_loop()
        async with self._calls.slots:
            started = loop.time()
            try:
                generation = await self._calls.chat(
                    ask, timeout_s=request.timeout_s, idempotency_key=key
                )
            except EngineError as error:
                return _Row(failure=error, latency_ms=(loop.time() - started) * 1000)
            latency_ms = (loop.time() - started) * 1000
        return _read_row(form, generation, latency_ms)

    async def _embed_batch(self, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        body = msgspec.json.encode(wire.EmbeddingsRequest(self._settings.model, texts))
        sending = Sending("embeddings", body, texts, uuid.uuid4().hex)
        try:
            async with self._calls.slots:
                raw = await self._calls.fetch(
                    sending, total_s=self._settings.timeouts.total, limit_bytes=_EMBED_BYTES
                )
        except faults.RequestRefused as refusal:
            self._embeds = Support.NO
            raise EngineUnsupported(refusal.message, hint=refusal.hint) from refusal
        vectors = _decode_vectors(raw, len(texts))
        if vectors is None:
            url = self._calls.transport.url(sending.path)
            raise faults.not_the_protocol(url, "with other than one embedding for each text")
        self._embeds = Support.YES
        return vectors


def _check_supported(request: GenerateRequest) -> None:
    for what, value in (("a grammar", request.grammar), ("an adapter", request.adapter)):
        if value is not None:
            raise EngineUnsupported(
                f"{what} is asked for, and an OpenAI-compatible server is not told of one",
                hint="ask with a JSON Schema, or let an embedded model answer",
            )


def _read_row(form: _Form, generation: Generation, latency_ms: float) -> _Row:
    """Label and evidence of one answer."""
    row = _Row(usage=generation.usage, finish=generation.finish, latency_ms=latency_ms)
    # A label cut short can be another label: only an answer that ended by itself is read.
    stopped = generation.finish is Finish.STOP
    spelled = form.reader.find(generation.text) if stopped else None
    if spelled is None:
        return row
    masses = None
    if form.top_logprobs:
        masses = form.reader.probabilities(generation.text, generation.tokens, spelled)
    return msgspec.structs.replace(row, chosen=spelled.index, probabilities=masses)


def _classification(request: ClassifyRequest, rows: Sequence[_Row]) -> Classification:
    """The rows as one value; without evidence a row is NaN."""
    probabilities = np.full((len(rows), len(request.task.labels)), np.nan)
    for index, row in enumerate(rows):
        if row.probabilities is not None:
            probabilities[index] = row.probabilities
    return Classification(
        probabilities=probabilities,
        chosen=np.array([row.chosen for row in rows], dtype=np.int64),
        usages=tuple(row.usage for row in rows),
        failures={i: row.failure for i, row in enumerate(rows) if row.failure is not None},
        latencies_ms=tuple(row.latency_ms for row in rows),
        finishes=tuple(row.finish for row in rows),
    )


def _decode_vectors(raw: bytes, count: int) -> npt.NDArray[np.float32] | None:
    """(count, dimensions) vectors in the order of the texts; None where there are none."""
    try:
        data = msgspec.json.decode(raw, type=wire.Embeddings).data
    except (ValueError, RecursionError):
        return None
    in_order = sorted(data, key=lambda entry: entry.index)
    if [entry.index for entry in in_order] != list(range(count)):
        return None
    if len({len(entry.embedding) for entry in in_order}) != 1:
        return None
    with np.errstate(over="ignore"):
        vectors = np.array([entry.embedding for entry in in_order], dtype=np.float32)
    return vectors if np.isfinite(vectors).all() else None


def _decode_models(raw: bytes, where: str) -> tuple[wire.Model, ...]:
    try:
        return msgspec.json.decode(raw, type=wire.Models).data or ()
    except (ValueError, RecursionError) as error:
        raise EngineProtocolError(
            f"{where} did not answer with a list of models",
            hint="check that base_url ends where the server's API begins, usually with /v1",
        ) from error


def _health_of(settings: RungSettings, models: tuple[wire.Model, ...]) -> Health:
    """Ready when the rung's model is among `models`."""
    names = {model.id for model in models}
    # llama-server answers for its one model whatever name it is asked by; Ollama leaves ":latest"
    # out.
    any_name = any(model.owned_by == "llamacpp" for model in models)
    if any_name or settings.model in names or f"{settings.model}:latest" in names:
        return Health(State.READY, f"{settings.model} is served")
    offered = ", ".join(sorted(names)[:8]) or "none"
    return Health(
        State.MISCONFIGURED,
        f"rungs.{settings.name}.model: {settings.model!r} is not among the server's models",
        f"the server has: {offered}",
    )
