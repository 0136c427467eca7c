"""One rung's work on a micro-batch: run the engine, hold the output to its contract, read its signals.

Every failure becomes an outcome with a verdict; nothing is raised for one bad row. What the signals are worth is
`evidence`'s; whether an outcome is good enough is decided in `trust.acceptance`.
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
from rung.evidence import Below, Outcome, Performed, weigh
from rung.policy import AllowedSet
from rung.project import OpenRung
from rung.prompts import messages, repair
from rung.receipt import OPERATIONAL, JsonValue, Usage, Verdict
from rung.structured.fields import least_field
from rung.structured.figures import NOT_JSON
from rung.task import RECORD_KINDS, Kind, Message, Request, Task
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
        performed = await _Writer(rung, task, allowed, gate).write(requests, receipts)
    return weigh(performed, rung.calibrator, below)


class _Written(msgspec.Struct, frozen=True):
    """One generated row.

    Attributes:
        outcome: without its confidence.
        text: what the model wrote.
        least_field: smallest probability among a record's fields; None where the engine gave no evidence.
    """

    outcome: Outcome
    text: str = ""
    least_field: float | None = None


class _Writer:
    """Generates the answers of one micro-batch; a record that breaks its contract is asked for once more.

    Args:
        rung, task, allowed, gate: as in `perform`.
    """

    def __init__(self, rung: OpenRung, task: Task, allowed: AllowedSet, gate: EgressGate) -> None:
        self._rung = rung
        self._task = task
        self._allowed = allowed
        self._gate = gate

    async def write(self, requests: Sequence[Request], receipts: Sequence[str]) -> Performed:
        """The outcomes of `requests`, which the gate has let through, and their signals."""
        written = await asyncio.gather(*map(self._row, requests, receipts))
        outcomes = [row.outcome for row in written]
        if self._task.kind not in RECORD_KINDS:
            return Performed(outcomes, None)
        return Performed(outcomes, _record_signals(self._task, written, requests))

    async def _row(self, request: Request, receipt: str) -> _Written:
        started = time.perf_counter()
        prompt = messages(self._task, request.typed_input, form=self._rung.settings.prompt)
        first = await self._ask(prompt, request.idempotency_key, _seconds(self._task), started)
        left = self._left(started)
        breaks = first.outcome.verdict is Verdict.INVALID
        if not breaks or self._task.kind not in RECORD_KINDS or (left is not None and left <= 0):
            return first
        await self._gate.check(self._rung.settings, self._task, self._allowed, [request], [receipt])
        again = repair(prompt, first.text, first.outcome.reason)
        key = f"{request.idempotency_key}-repair" if request.idempotency_key else None
        return _repaired(first, await self._ask(again, key, left, started))

    async def _ask(
        self, prompt: tuple[Message, ...], key: str | None, seconds: float | None, started: float
    ) -> _Written:
        """One call of the engine; its latency is counted from `started`."""
        task = self._task
        try:
            result = await self._rung.engine.generate(
                GenerateRequest(
                    messages=prompt,
                    max_tokens=task.max_output_tokens,
                    schema=task.output_schema,
                    schema_name=task.name,
                    logprobs=task.kind in RECORD_KINDS,
                    timeout_s=seconds,
                    idempotency_key=key,
                )
            )
        except EngineError as error:
            return _Written(_failed(error, _ms(started)))
        tokens = [(token.token, token.logprob) for token in result.tokens or ()]
        least = least_field(result.text, tokens, task.field_names)
        return _Written(_held(task, result, _ms(started)), result.text, least)

    def _left(self, started: float) -> float | None:
        """Seconds left of the task's own limit; None when it has none."""
        whole = _seconds(self._task)
        return None if whole is None else whole - _ms(started) / 1000


def _repaired(first: _Written, second: _Written) -> _Written:
    """The second output in place of the first, at the price of both; a call that failed changes nothing else."""
    spent = Usage(
        first.outcome.usage.input_tokens + second.outcome.usage.input_tokens,
        first.outcome.usage.output_tokens + second.outcome.usage.output_tokens,
        first.outcome.usage.estimated or second.outcome.usage.estimated,
    )
    kept = first if second.outcome.verdict in OPERATIONAL else second
    outcome = msgspec.structs.replace(
        kept.outcome,
        usage=spent,
        latency_ms=second.outcome.latency_ms,
        first_token_ms=first.outcome.first_token_ms,
        repaired=True,
    )
    return msgspec.structs.replace(kept, outcome=outcome)


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


def _held(task: Task, result: Generation, latency_ms: float) -> Outcome:
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
        relaxed=result.relaxed,
    )


def _parse(task: Task, text: str) -> tuple[JsonValue, str | None]:
    """The output as a value, or None and why it is not one."""
    if task.kind not in RECORD_KINDS:
        return text.strip(), None
    try:
        return msgspec.json.decode(text), None
    except (msgspec.DecodeError, RecursionError) as error:
        return None, f"{NOT_JSON} ({error})"


def _record_signals(
    task: Task, written: Sequence[_Written], requests: Sequence[Request]
) -> SignalColumns:
    """Signals of records: whether each keeps its schema, how sure its fields are, how much of it the source says."""
    texts = [request.text for request in requests]
    valid = [row.outcome.verdict is None for row in written]
    values = [_claimed(task, row.outcome.value) for row in written]
    grounded = [share_in_source(each, text) for each, text in zip(values, texts, strict=True)]
    claims = [len(each) for each in values]
    least = [np.nan if row.least_field is None else row.least_field for row in written]
    return extraction_signals(valid, grounded, claims, least, texts)


def _claimed(task: Task, value: JsonValue) -> list[str]:
    """What a record says of its source; a call says it in its arguments, the tool's name is Rung's own."""
    if task.kind is Kind.CALL and isinstance(value, dict):
        return _leaves(value.get("arguments"))
    return _leaves(value)


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
        return (
            Verdict.TRUNCATED,
            "the answer was cut: max_output_tokens or the model's context was full",
        )
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
