"""The `replay` engine: another engine's answers, recorded to a file and given again exactly.

A call is known by the digest of everything its answer depends on, the recorded engine's own
identity included, so an answer is never given to a question that was not asked. Texts are recorded
one by one: how they are put in micro-batches does not matter. What was asked is not in the file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from rung.config import ReplayMode
from rung.engines.protocol import (
    Capabilities,
    Classification,
    ClassifyRequest,
    Engine,
    Finish,
    GenerateRequest,
    Generation,
    Health,
    KnowsTraining,
    State,
    Support,
)
from rung.engines.recording import (
    Answer,
    Classified,
    Embedded,
    Failed,
    Generated,
    Identified,
    Recording,
)
from rung.errors import EngineError
from rung.receipt import Usage
from rung.task import Kind, Task

_BATCH = (
    256  # looking an answer up is cheap: enough texts at once to make the calls around it cheap too
)
_NO_TASK = Task(name="none", kind=Kind.CHAT)
"""Stands for the task where a call has none: messages and vectors hold all that their answer
depends on.
"""


class ReplayEngine:
    """Gives recorded answers; depending on its mode it asks the recorded engine for them first.

    `record` asks for everything and records it. `fill` asks for what is not recorded, or recorded
    as a failure. `replay` asks for nothing. Nothing is opened before the first call; `aclose` makes
    everything durable.

    Args:
        inner: the engine that is recorded; may be None in mode `replay`, whose identity is then the
            recorded one.
        path: the recording.
        mode: what to do with a call.
    """

    def __init__(self, inner: Engine | None, path: Path, mode: ReplayMode) -> None:
        self._inner = inner
        self._path = path
        self._mode = mode
        self._recording: Recording | None = None

    @property
    def batch(self) -> int:
        """As many texts at once as the recorded engine likes; many where it is not asked."""
        asked = self._asked()
        return _BATCH if asked is None else asked.batch

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Label probabilities, bit for bit as recorded.

        Raises:
            EngineError: the recording cannot be used; a text that is not recorded is in `failures`.
        """
        recording = self._open(request.task)
        identity = self.identity(request.task)
        labels = request.task.label_names
        keys = [
            _key("classify", identity, request.task.digest, labels, text) for text in request.texts
        ]
        wanted = [index for index, key in enumerate(keys) if self._wanted(recording, key)]
        if wanted and (asked := self._asked()) is not None:
            part = _part(request, wanted)
            for index, answer in zip(wanted, await _classified(asked, part), strict=True):
                recording.append(msgspec.structs.replace(answer, key=keys[index]))
        return _classification(request, [self._answer(recording, key) for key in keys])

    def trained_on(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(texts,) whether the recorded engine's model is known to have been trained on each text."""
        inner: object = self._inner
        if isinstance(inner, KnowsTraining):
            return inner.trained_on(texts)
        return np.zeros(len(texts), dtype=np.bool_)

    async def generate(self, request: GenerateRequest) -> Generation:
        """One generation as recorded.

        Raises:
            EngineError: as recorded, or nothing is recorded for this request.
        """
        recording = self._open(_NO_TASK)
        asked_for = (
            request.messages,
            request.max_tokens,
            request.schema,
            request.schema_name,
            request.logprobs,
            *_further(request),
        )
        key = _key("generate", self.identity(_NO_TASK), *asked_for)
        if self._wanted(recording, key) and (asked := self._asked()) is not None:
            try:
                recording.append(Generated(key, await asked.generate(request)))
            except EngineError as error:
                recording.append(Failed.of(key, error))
        answer = self._answer(recording, key)
        if isinstance(answer, Generated):
            return answer.generation
        raise _error_of(answer)

    async def embed(self, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """(texts, dimensions) embeddings, bit for bit as recorded.

        Raises:
            EngineError: as recorded, or nothing is recorded for one of the texts.
        """
        recording = self._open(_NO_TASK)
        identity = self.identity(_NO_TASK)
        keys = [_key("embed", identity, text) for text in texts]
        wanted = [index for index, key in enumerate(keys) if self._wanted(recording, key)]
        if wanted and (asked := self._asked()) is not None:
            try:
                vectors = await asked.embed(tuple(texts[index] for index in wanted))
                for index, vector in zip(wanted, vectors, strict=True):
                    recording.append(Embedded(keys[index], tuple(map(float, vector))))
            except EngineError as error:
                for index in wanted:
                    recording.append(Failed.of(keys[index], error))
        rows: list[tuple[float, ...]] = []
        for key in keys:
            answer = self._answer(recording, key)
            if not isinstance(answer, Embedded):
                raise _error_of(answer)
            rows.append(answer.vector)
        return np.array(rows, dtype=np.float32).reshape(len(texts), -1 if texts else 0)

    async def health(self) -> Health:
        """The recorded engine's where it is asked, else the recording's own; never raises."""
        try:
            self._open(None)
        except EngineError as error:
            return Health(State.MISCONFIGURED, error.message, error.hint)
        asked = self._asked()
        if asked is not None:
            return await asked.health()
        return Health(State.READY, f"answers from {self._path}")

    async def capabilities(self) -> Capabilities:
        """The recorded engine's where it is asked, else what there are answers for.

        Raises:
            EngineError: the recording cannot be used.
        """
        asked = self._asked()
        if asked is not None:
            return await asked.capabilities()
        kinds = self._open(None).contents.kinds

        def there(kind: type[Answer]) -> Support:
            return Support.YES if kind in kinds else Support.NO

        return Capabilities(
            classify=there(Classified),
            generate=there(Generated),
            embed=there(Embedded),
            logprobs=Support.UNKNOWN,
            json_schema=Support.UNKNOWN,
        )

    def identity(self, task: Task) -> Mapping[str, str]:
        """The recorded engine's: its answers are what is given.

        Raises:
            EngineError: there is no engine to ask, and nothing is recorded for this task.
        """
        if self._inner is not None:
            return self._inner.identity(task)
        identity = self._open(None).contents.identities.get(task.digest)
        if identity is None:
            raise EngineError(
                f"{self._path} holds nothing for task {task.name!r} as it is now",
                hint='record it with mode = "fill"',
            )
        return identity

    async def aclose(self) -> None:
        """Make the recording durable and close it and the recorded engine; safe to call twice."""
        recording, self._recording = self._recording, None
        try:
            if recording is not None:
                recording.close()
        finally:
            if self._inner is not None:
                await self._inner.aclose()

    def _asked(self) -> Engine | None:
        """The engine to ask, None where only the recording answers."""
        return None if self._mode is ReplayMode.REPLAY else self._inner

    def _wanted(self, recording: Recording, key: str) -> bool:
        """Whether the mode says to ask for this call."""
        if self._mode is ReplayMode.RECORD:
            return True
        missing = key not in recording.contents or recording.contents.failed(key)
        return missing and self._mode is ReplayMode.FILL

    def _open(self, task: Task | None) -> Recording:
        """The recording; a written one holds the identity that answers to `task` are known by."""
        writing = self._mode is not ReplayMode.REPLAY
        if writing and self._inner is None:
            raise EngineError(
                f"there is no engine to record to {str(self._path)!r}",
                hint='name one in replays, or use mode = "replay"',
            )
        if self._recording is None:
            self._recording = Recording(self._path, writing=writing)
        recording = self._recording
        if writing and task is not None:
            identity = dict(self.identity(task))
            if recording.contents.identities.get(task.digest) != identity:
                recording.append(Identified(task.digest, identity))
        return recording

    def _answer(self, recording: Recording, key: str) -> Answer:
        """What is recorded; a call that is not recorded is a failure that says so."""
        answer = recording.find(key)
        if answer is not None:
            return answer
        missing = EngineError(
            f"{self._path} has no answer to this call by this engine as it is now",
            hint='record it with mode = "fill"',
        )
        return Failed.of(key, missing)


def _further(request: GenerateRequest) -> tuple[object, ...]:
    """What few requests ask for; left out of the key of those that do not, so that older recordings are found."""
    further = (request.grammar, request.adapter, request.stop)
    return further if any(further) else ()


def _key(*parts: object) -> str:
    """SHA-256 of a call's canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _part(request: ClassifyRequest, wanted: Sequence[int]) -> ClassifyRequest:
    """The request for some of its texts."""
    keys = request.idempotency_keys
    return msgspec.structs.replace(
        request,
        texts=tuple(request.texts[index] for index in wanted),
        idempotency_keys=tuple(keys[index] for index in wanted) if keys else (),
    )


async def _classified(engine: Engine, request: ClassifyRequest) -> list[Classified | Failed]:
    """The engine's answer to each text, keys still to be filled in.

    Raises:
        Exception: a failure that no engine raises on purpose is a defect, and is not recorded.
    """
    try:
        result = await engine.classify(request)
    except EngineError as error:
        return [Failed.of("", error)] * len(request.texts)
    return [_record(result, index) for index in range(len(request.texts))]


def _record(result: Classification, index: int) -> Classified | Failed:
    latency_ms = result.latencies_ms[index] if result.latencies_ms else 0.0
    usage = result.usages[index] if result.usages else Usage()
    failure = result.failures.get(index)
    if failure is not None:
        if not isinstance(failure, EngineError):
            raise failure
        return Failed.of("", failure, usage=usage, latency_ms=latency_ms)
    row = result.probabilities[index].tolist()
    return Classified(
        key="",
        probabilities=tuple(None if math.isnan(value) else value for value in row),
        chosen=int(result.chosen[index]),
        usage=usage,
        latency_ms=latency_ms,
        finish=result.finishes[index] if result.finishes else None,
    )


def _classification(request: ClassifyRequest, answers: Sequence[Answer]) -> Classification:
    """The recorded rows as one value."""
    count = len(answers)
    probabilities = np.full((count, len(request.task.labels)), np.nan)
    chosen = np.full(count, -1, dtype=np.int64)
    usages = [Usage()] * count
    latencies = [0.0] * count
    finishes: list[Finish | None] = [None] * count
    failures: dict[int, Exception] = {}
    for index, answer in enumerate(answers):
        if not isinstance(answer, Classified):
            failures[index] = _error_of(answer)
            if isinstance(answer, Failed):
                usages[index], latencies[index] = answer.usage, answer.latency_ms
            continue
        probabilities[index] = [
            math.nan if value is None else value for value in answer.probabilities
        ]
        chosen[index], usages[index] = answer.chosen, answer.usage
        latencies[index], finishes[index] = answer.latency_ms, answer.finish
    generated = any(finish is not None for finish in finishes)
    return Classification(
        probabilities=probabilities,
        chosen=chosen,
        usages=tuple(usages),
        failures=failures,
        latencies_ms=tuple(latencies),
        finishes=tuple(finish or Finish.STOP for finish in finishes) if generated else (),
    )


def _error_of(answer: Answer) -> EngineError:
    """The error a call ends with that has no answer of its kind."""
    if isinstance(answer, Failed):
        return answer.error()
    return EngineError("the recording holds another kind of answer for this call")
