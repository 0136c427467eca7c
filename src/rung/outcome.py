"""One rung's work on a micro-batch: run the engine, hold the output to its contract, read its signals.

Every failure becomes an outcome with a verdict; nothing is raised for one bad row. Whether an outcome is good
enough is decided elsewhere (`trust.acceptance`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from rung.egress import EgressGate
from rung.engines.protocol import (
    Classification,
    ClassifyRequest,
    Finish,
    GenerateRequest,
    Generation,
)
from rung.errors import EngineError
from rung.policy import AllowedSet
from rung.project import OpenRung
from rung.prompts import messages
from rung.receipt import JsonValue, Usage, Verdict
from rung.task import Kind, Request, Task
from rung.trust.confidence import confidence_of
from rung.trust.signals import (
    classification_signals,
    extraction_signals,
    leaf_strings,
    share_in_source,
)


class Outcome(msgspec.Struct, frozen=True):
    """What came of one row on one rung.

    Attributes:
        value: the output, None when there is none.
        verdict: why there is nothing to judge, None when `value` keeps the contract.
        reason: one sentence for people, without the row's text.
        confidence: calibrated P(correct), None without evidence.
    """

    value: JsonValue = None
    verdict: Verdict | None = None
    reason: str = ""
    confidence: float | None = None
    usage: Usage = Usage()
    latency_ms: float = 0.0
    first_token_ms: float | None = None


async def perform(
    rung: OpenRung,
    task: Task,
    allowed: AllowedSet,
    requests: Sequence[Request],
    *,
    gate: EgressGate,
    receipts: Sequence[str],
) -> list[Outcome]:
    """Outcomes of `requests` on `rung`, in order. The only place where an engine is given a text.

    Args:
        rung: what runs.
        task: what is asked.
        allowed: what policy decided for these requests.
        requests: the texts, all of one task and label.
        gate: every text passes it first.
        receipts: the receipt id of each request.

    Raises:
        PolicyError, StorageError: from the gate; nothing was sent.
    """
    await gate.check(rung.settings, task, allowed, requests, receipts)
    if task.kind is Kind.CLASSIFY:
        return await _classify(rung, task, requests)
    return list(await asyncio.gather(*(_generate(rung, task, request) for request in requests)))


def failed(error: Exception, latency_ms: float) -> Outcome:
    """The outcome of an attempt that ended in an engine error; anything else is a defect and is raised."""
    if not isinstance(error, EngineError):
        raise error
    return Outcome(verdict=Verdict(error.verdict), reason=error.message, latency_ms=latency_ms)


async def _classify(rung: OpenRung, task: Task, requests: Sequence[Request]) -> list[Outcome]:
    texts = tuple(request.text for request in requests)
    started = time.perf_counter()
    try:
        result = await rung.engine.classify(
            ClassifyRequest(
                task=task,
                texts=texts,
                timeout_s=_seconds(task),
                idempotency_keys=_keys(requests),
            )
        )
    except EngineError as error:
        return [failed(error, _ms(started)) for _ in requests]
    share = _ms(started) / len(requests)
    signals = classification_signals(result.probabilities, texts)
    confidences = confidence_of(rung.calibrator, signals)
    confidences[signals.predicted != result.chosen] = np.nan  # the evidence is for another label
    return [
        _classified(result, index, task, float(confidences[index]), share)
        for index in range(len(requests))
    ]


def _classified(
    result: Classification, index: int, task: Task, confidence: float, share_ms: float
) -> Outcome:
    latency = result.latencies_ms[index] if result.latencies_ms else share_ms
    if index in result.failures:
        return failed(result.failures[index], latency)
    usage = result.usages[index] if result.usages else Usage()
    chosen = int(result.chosen[index])
    if chosen < 0:
        finish = result.finishes[index] if result.finishes else Finish.STOP
        verdict, reason = _unfinished(finish) or (
            Verdict.INVALID,
            "the answer is not one of the task's labels",
        )
        return Outcome(verdict=verdict, reason=reason, usage=usage, latency_ms=latency)
    return Outcome(
        value=task.labels[chosen].name,
        confidence=_known(confidence),
        usage=usage,
        latency_ms=latency,
    )


async def _generate(rung: OpenRung, task: Task, request: Request) -> Outcome:
    started = time.perf_counter()
    try:
        result = await rung.engine.generate(
            GenerateRequest(
                messages=messages(task, request.typed_input),
                max_tokens=task.max_output_tokens,
                schema=task.schema,
                schema_name=task.name,
                logprobs=True,
                timeout_s=_seconds(task),
                idempotency_key=request.idempotency_key,
            )
        )
    except EngineError as error:
        return failed(error, _ms(started))
    return _generated(rung, task, request, result, _ms(started))


def _generated(
    rung: OpenRung, task: Task, request: Request, result: Generation, latency_ms: float
) -> Outcome:
    """Judge one generation against the task's contract, and read its signals when it keeps it."""
    outcome = Outcome(
        usage=result.usage, latency_ms=latency_ms, first_token_ms=result.first_token_ms
    )
    unfinished = _unfinished(result.finish)
    if unfinished is not None:
        verdict, reason = unfinished
        return msgspec.structs.replace(outcome, verdict=verdict, reason=reason)
    value, problem = _parse(task, result.text)
    problem = problem or task.contract.violation(value)
    if problem is not None:
        return msgspec.structs.replace(outcome, verdict=Verdict.INVALID, reason=problem)
    confidence = None
    if task.kind is Kind.EXTRACT:
        grounded = share_in_source(leaf_strings(value), request.text)
        signals = extraction_signals([True], [grounded], texts=[request.text])
        confidence = _known(float(confidence_of(rung.calibrator, signals)[0]))
    return msgspec.structs.replace(outcome, value=value, confidence=confidence)


def _parse(task: Task, text: str) -> tuple[JsonValue, str | None]:
    """The output as a value, or None and why it is not one."""
    if task.kind is not Kind.EXTRACT:
        return text.strip(), None
    try:
        return msgspec.json.decode(text), None
    except msgspec.DecodeError as error:
        return None, f"the answer is not JSON ({error})"


def _unfinished(finish: Finish) -> tuple[Verdict, str] | None:
    if finish is Finish.LENGTH:
        return Verdict.TRUNCATED, "the answer was cut at max_output_tokens"
    if finish is Finish.REFUSAL:
        return Verdict.REFUSED, "the model refused"
    return None


def _known(confidence: float) -> float | None:
    """NaN is missing evidence."""
    return None if confidence != confidence else confidence  # noqa: PLR0124 - NaN


def _seconds(task: Task) -> float | None:
    return task.max_latency_ms / 1000 if task.max_latency_ms is not None else None


def _keys(requests: Sequence[Request]) -> tuple[str, ...]:
    """Idempotency keys, one a text, or none at all when no request brought one."""
    keys = tuple(request.idempotency_key or "" for request in requests)
    return keys if any(keys) else ()


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000
