"""What one answer cost and why it was given: attempts, verdicts, receipts. Plain values, no behaviour beyond reading.

The ladder makes them, the ledger keeps them, every surface prints them. Nothing here holds the text that was asked.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

NANO = 1_000_000_000
"""Money is counted in integer nano-units: 1 USD = 1,000,000,000."""

JsonValue = Any  # a JSON value: an answer’s shape is the task’s business, not the receipt’s


class Verdict(enum.StrEnum):
    """Why an attempt ended. Only `ACCEPTED` and `UNSURE` feed statistics of confidence."""

    ACCEPTED = "accepted"
    UNSURE = "unsure"
    INVALID = "invalid"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    COLD = "cold"
    FAILED = "failed"
    FORBIDDEN = "forbidden"


OPERATIONAL = frozenset({Verdict.TIMEOUT, Verdict.OVERLOADED, Verdict.COLD, Verdict.FAILED})
"""Verdicts that say something of the engine and nothing of the row: another try may well end otherwise."""


class Standing(enum.StrEnum):
    """What stands behind an accepted answer."""

    CERTIFIED = "certified"
    UNCERTIFIED = "uncertified"
    SUSPENDED = "suspended"
    ABSTAINED = "abstained"


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one attempt; `estimated` when the engine did not report them."""

    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One rung's try at one request.

    Attributes:
        rung: the rung's name in `rung.toml`.
        where: where it runs: `device`, `site`, `region` or `anywhere`.
        verdict: why it ended.
        reason: one sentence for people; never holds prompt text.
        confidence: calibrated P(correct), or None when there was no evidence.
        threshold: the confidence that had to be exceeded, or None when no rule applied.
        usage: tokens spent.
        cost: nano-units of `Receipt.currency`.
        latency_ms: wall time of the attempt; in a micro-batch, its share of it.
        first_token_ms: time to the first token, for engines that stream.
        relaxed: parts of the task's schema that decoding did not enforce, as JSON pointers; the finished answer was
            held to them all the same.
        repaired: whether the first output broke its contract and the model was shown it once more; usage, cost and
            latency are of both calls together.
    """

    rung: str
    where: str
    verdict: Verdict
    reason: str = ""
    confidence: float | None = None
    threshold: float | None = None
    usage: Usage = Usage()
    cost: int = 0
    latency_ms: float = 0.0
    first_token_ms: float | None = None
    relaxed: tuple[str, ...] = ()
    repaired: bool = False


class Bound(msgspec.Struct, frozen=True, gc=False):
    """The promise an accepted answer was given under.

    Attributes:
        certificate: its id, for example `triage@9f3c12ab`.
        max_error: the certified bound on P(wrong | accepted).
        confidence: probability that the bound holds, over the draw of the labelled rows.
        truth: what "wrong" was measured against: `human` or `agreement:<rung>`.
        labels: labelled rows it was certified on.
        own_error: this rung's own observed share of wrong among its accepted rows, None where it had none.
        own_upper: one-sided upper bound of `own_error` at `confidence`, for this rung alone.
    """

    certificate: str
    max_error: float
    confidence: float
    truth: str
    labels: int
    own_error: float | None = None
    own_upper: float | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The path of one request through the rungs, and what stands behind its end.

    Attributes:
        id: sortable unique id (time first).
        created: UTC, ISO 8601.
        task: the task's name; `task_digest` names its exact content.
        input_digest: keyed digest of the input; the input itself is not here.
        label: privacy label that applied; `rule` names the policy rule that chose the allowed rungs.
        allowed: rungs policy allowed, in ladder order; fixed before the first attempt.
        attempts: what was tried, in order, forbidden rungs included.
        answered_by: the rung that answered, None when Rung abstained.
        standing: what stands behind the answer; `standing_reason` says why it is not certified.
        bound: present when certified.
        cost: nano-units of `currency`, all attempts together.
        top_cost: estimated nano-units had the top rung answered alone; None when it has no price.
        price_date: the date the prices were noted, ISO 8601.
        latency_ms: wall time from request to answer.
        request_id: the caller's own id of the row or request.
        run: the batch run it belongs to.
    """

    format: int = 1
    id: str
    created: str
    task: str
    task_digest: str
    input_digest: str
    label: str
    rule: str
    allowed: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    answered_by: str | None = None
    standing: Standing = Standing.ABSTAINED
    standing_reason: str = ""
    bound: Bound | None = None
    cost: int = 0
    top_cost: int | None = None
    currency: str = "USD"
    price_date: str | None = None
    latency_ms: float = 0.0
    request_id: str | None = None
    run: str | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What `Ladder.run` returns: the value, or None with the reason in the receipt.

    Attributes:
        value: a label, a JSON object, or a text; None when Rung abstained.
        receipt: how it came about.
    """

    value: JsonValue
    receipt: Receipt

    @property
    def answered(self) -> bool:
        """Whether a rung's answer was accepted."""
        return self.receipt.answered_by is not None
