"""One request on its way up the ladder: what is fixed for it, its attempts so far, and the receipt they end in."""

from __future__ import annotations

import time

import msgspec

from rung.config import Accept
from rung.evidence import Below, Outcome, below_of
from rung.ids import new_id
from rung.project import Course, OpenRung
from rung.receipt import Answer, Attempt, JsonValue, Receipt, Standing, Verdict
from rung.task import Request
from rung.trust.acceptance import Judgement, judge


class Finished(msgspec.Struct, frozen=True, gc=False):
    """One answer, with the position of its request in the sequence that was asked."""

    index: int
    request: Request
    answer: Answer


class Climb:
    """The state of one request between its first rung and its receipt.

    Args:
        index: position of the request in the sequence that was asked.
        request: what is asked.
        course: what is the same for all requests like it.
        digest: keyed digest of its input.
    """

    __slots__ = (
        "_ended",
        "_started",
        "_value",
        "attempts",
        "below",
        "course",
        "digest",
        "id",
        "index",
        "request",
    )

    def __init__(self, index: int, request: Request, course: Course, digest: str) -> None:
        self.index = index
        self.request = request
        self.course = course
        self.digest = digest
        self.id = new_id()
        self.attempts: list[Attempt] = []
        self._started = time.perf_counter()
        self.below: Below | None = None
        self._value: JsonValue = None
        self._ended: Judgement | None = None

    def add(self, rung: OpenRung, outcome: Outcome) -> None:
        """Judge one outcome by the rung's rule and note it as an attempt."""
        rule = self.course.rules[rung.settings.name]
        if outcome.verdict is None:
            path = [attempt.verdict for attempt in self.attempts]
            self._ended = judge(rule, outcome.confidence, path)
        else:
            self._ended = Judgement(outcome.verdict, outcome.reason)
        self._value = outcome.value
        if (
            rung.settings.accept is Accept.CERTIFIED
        ):  # its identity is in the certificate's fingerprint
            self.below = below_of(outcome)
        price = rung.settings.price
        self.attempts.append(
            Attempt(
                rung=rung.settings.name,
                where=rung.settings.where.value,
                verdict=self._ended.verdict,
                reason=self._ended.reason,
                confidence=outcome.confidence,
                threshold=rule.threshold,
                usage=outcome.usage,
                cost=price.cost(outcome.usage) if price is not None else 0,
                latency_ms=outcome.latency_ms,
                first_token_ms=outcome.first_token_ms,
                relaxed=outcome.relaxed,
                repaired=outcome.repaired,
            )
        )

    def finish(self, run: str | None, abstained: str | None, created: str) -> Finished:
        """The answer with its receipt.

        Args:
            run: id of the batch run it belongs to.
            abstained: why there is no answer, None when the last attempt is the answer.
            created: the time now, as `ids.now` writes it.
        """
        ended = self._ended if abstained is None else None
        course = self.course
        estimate = course.estimate
        receipt = Receipt(
            id=self.id,
            created=created,
            task=course.task.name,
            task_digest=course.task.digest,
            input_digest=self.digest,
            label=course.allowed.label.value,
            rule=course.allowed.rule,
            allowed=course.allowed.rungs,
            attempts=(*self.attempts, *(self._forbidden() if ended is None else ())),
            answered_by=self.attempts[-1].rung if ended is not None else None,
            standing=ended.standing if ended is not None else Standing.ABSTAINED,
            standing_reason=self._why_not_certified(ended, abstained),
            bound=ended.bound if ended is not None else None,
            cost=sum(attempt.cost for attempt in self.attempts),
            top_cost=estimate.cost(len(self.request.text)),
            currency=estimate.price.currency if estimate.price is not None else "USD",
            price_date=estimate.price.date if estimate.price is not None else None,
            latency_ms=(time.perf_counter() - self._started) * 1000,
            request_id=self.request.id,
            run=run,
        )
        return Finished(
            self.index, self.request, Answer(self._value if ended is not None else None, receipt)
        )

    def _forbidden(self) -> list[Attempt]:
        """The rungs that policy took away, as attempts that never were."""
        return [
            Attempt(
                rung=refusal.rung,
                where=refusal.where.value,
                verdict=Verdict.FORBIDDEN,
                reason=refusal.reason,
            )
            for refusal in self.course.allowed.refusals
        ]

    def _why_not_certified(self, ended: Judgement | None, abstained: str | None) -> str:
        if ended is None:
            return abstained or ""
        if ended.standing is Standing.CERTIFIED:
            return ""
        return self.course.rules[self.attempts[-1].rung].reason
