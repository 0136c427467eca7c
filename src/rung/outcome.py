"""One rung's work on a micro-batch: run the engine, hold the output to its contract, read its signals.

Every failure becomes an outcome with a verdict; nothing is raised for one bad row. What the signals are worth is
`evidence`'s; whether an outcome is good enough is decided in `trust.acceptance`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from rung.egress import EgressGate
from rung.engines.protocol import (
    Classification,
    ClassifyRequest,
    Finish,
    GenerateRequest,
    Generation,
)
from rung.errors import EngineError
from rung.evidence import Below, Outcome, Performed, weigh
from rung.policy import AllowedSet
from rung.project import OpenRung
from rung.prompts import messages
from rung.receipt import JsonValue, Usage, Verdict
from rung.task import Kind, Request, Task
from rung.trust.signals import (
    SignalColumns,
    classification_signals,
    extraction_signals,
    share_in_source,
)


async def perform(
    rung: OpenRung,
    task: Task,
    allowed: AllowedSet,
    requests: Sequence[Request],
    *,
    gate: EgressGate,
    receipts: Sequence[str],
    below: Sequence[Below | None] = (),
) -> Performed:
    """Outcomes of `requests` on `rung`, in order. The only place where an engine is given a text.

    Args:
        rung: what runs.
        task: what is asked.
        allowed: what policy decided for these requests.
        requests: the texts, all of one task and label.
        gate: every text passes it first.
        receipts: the receipt id of each request.
        below: what the rung below made of each request, for the signal of their agreement; empty for none.

    Raises:
        PolicyError, StorageError: from the gate; nothing was sent.
    """
    await gate.check(rung.settings, task, allowed, requests, receipts)
    if task.kind is Kind.CLASSIFY:
        performed = await _classify(rung, task, requests)
    else:
        performed = await _write(rung, task, requests)
    return weigh(performed, rung.calibrator, below)


async def _write(rung: OpenRung, task: Task, requests: Sequence[Request]) -> Performed:
    outcomes = list(await asyncio.gather(*(_generate(rung, task, r) for r in requests)))
    signals = _record_signals(outcomes, requests) if task.kind is Kind.EXTRACT else None
    return Performed(outcomes, signals)


async def _classify(rung: OpenRung, task: Task, requests: Sequence[Request]) -> Performed:
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
        return Performed([_failed(error, _ms(started)) for _ in requests], None)
    share = _ms(started) / len(requests)
    outcomes = [_labelled(result, index, task, share) for index in range(len(requests))]
    signals = classification_signals(result.probabilities, texts)
    # where another label was chosen than the likeliest, the evidence is not for the answer
    return Performed(outcomes, signals.without(signals.predicted != result.chosen))


def _labelled(result: Classification, index: int, task: Task, share_ms: float) -> Outcome:
    """One row of a classification, without its confidence."""
    latency = result.latencies_ms[index] if result.latencies_ms else share_ms
    usage = result.usages[index] if result.usages else Usage()
    if index in result.failures:
        return _failed(result.failures[index], latency, usage)
    chosen = int(result.chosen[index])
    if chosen >= 0:
        return Outcome(value=task.labels[chosen].name, usage=usage, latency_ms=latency)
    ended = _unfinished(result.finishes[index]) if result.finishes else None
    verdict, reason = ended or (Verdict.INVALID, "the answer is not one of the task's labels")
    return Outcome(verdict=verdict, reason=reason, usage=usage, latency_ms=latency)


async def _generate(rung: OpenRung, task: Task, request: Request) -> Outcome:
    started = time.perf_counter()
    try:
        result = await rung.engine.generate(
            GenerateRequest(
                messages=messages(task, request.typed_input, form=rung.settings.prompt),
                max_tokens=task.max_output_tokens,
                schema=task.schema,
                schema_name=task.name,
                timeout_s=_seconds(task),
                idempotency_key=request.idempotency_key,
            )
        )
    except EngineError as error:
        return _failed(error, _ms(started))
    return _written(task, result, _ms(started))


def _written(task: Task, result: Generation, latency_ms: float) -> Outcome:
    """One generation held to its contract, without its confidence."""
    value, verdict, reason = None, None, ""
    ended = _unfinished(result.finish)
    if ended is not None:
        verdict, reason = ended
    else:
        value, problem = _parse(task, result.text)
        problem = problem or task.contract.violation(value)
        if problem is not None:
            value, verdict, reason = None, Verdict.INVALID, problem
    return Outcome(
        value=value,
        verdict=verdict,
        reason=reason,
        usage=result.usage,
        latency_ms=latency_ms,
        first_token_ms=result.first_token_ms,
    )


def _parse(task: Task, text: str) -> tuple[JsonValue, str | None]:
    """The output as a value, or None and why it is not one."""
    if task.kind is not Kind.EXTRACT:
        return text.strip(), None
    try:
        return msgspec.json.decode(text), None
    except msgspec.DecodeError as error:
        return None, f"the answer is not JSON ({error})"


def _record_signals(outcomes: Sequence[Outcome], requests: Sequence[Request]) -> SignalColumns:
    """Signals of extracted records: whether each keeps its schema, and how much of it the source says."""
    texts = [request.text for request in requests]
    valid = [outcome.verdict is None for outcome in outcomes]
    grounded = [
        share_in_source(_leaves(outcome.value), text)
        for outcome, text in zip(outcomes, texts, strict=True)
    ]
    return extraction_signals(valid, grounded, texts=texts)


def _leaves(value: JsonValue) -> list[str]:
    """Every string and number of a record, as text: what can be looked for in the source."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _failed(error: Exception, latency_ms: float, usage: Usage | None = None) -> Outcome:
    """The outcome of an attempt that ended in an engine error; anything else is a defect and is raised."""
    if not isinstance(error, EngineError):
        raise error
    return Outcome(
        verdict=Verdict(error.verdict),
        reason=error.message,
        usage=usage or Usage(),
        latency_ms=latency_ms,
    )


def _unfinished(finish: Finish) -> tuple[Verdict, str] | None:
    if finish is Finish.LENGTH:
        return Verdict.TRUNCATED, "the answer was cut at max_output_tokens"
    if finish is Finish.REFUSAL:
        return Verdict.REFUSED, "the model refused"
    return None


def _seconds(task: Task) -> float | None:
    return task.max_latency_ms / 1000 if task.max_latency_ms is not None else None


def _keys(requests: Sequence[Request]) -> tuple[str, ...]:
    """Idempotency keys, one a text, or none at all when no request brought one."""
    keys = tuple(request.idempotency_key or "" for request in requests)
    return keys if any(keys) else ()


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000
