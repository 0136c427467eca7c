"""When to send a request again, and how long to wait first.

Decisions over numbers; the clock, the dice and the sleep come in from outside. What is worth a
retry is decided where the failure is seen, by raising `Retryable`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from rung.config import Limits
from rung.errors import EngineCold, EngineError, EngineOverloaded

T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Timing(msgspec.Struct, frozen=True):
    """Clock, dice and sleep; replaced in tests.

    Attributes:
        monotonic: seconds that never go back.
        now: the wall clock, for `Retry-After` dates.
        random: uniform over [0, 1).
        sleep: waits that many seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], dt.datetime] = _utc_now
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Retryable(Exception):
    """A failure after which the same request may be sent again.

    Attributes:
        error: what the attempt ends with when it is not.
        retry_after: seconds the server asked for, None when it did not.
    """

    def __init__(self, error: EngineError, retry_after: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.retry_after = retry_after


def wait_before(retry: int, retry_after: float | None, dice: float) -> float:
    """Seconds to wait before retry `retry`, from 0: full jitter on top of what the server asked for.

    Full jitter draws from [0, min(cap, base·2^retry)], which spreads clients that failed together.
    """
    jitter = dice * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(retry, 10))
    return jitter + (retry_after or 0.0)


def parse_retry_after(value: str | None, now: dt.datetime) -> float | None:
    """Seconds a `Retry-After` header asks for; 0 for a past date, None for an unreadable value."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000" means UTC without a claim about the place
        date = date.replace(tzinfo=dt.UTC)
    return max(0.0, (date - now).total_seconds())


async def with_retries(
    send: Callable[[], Awaitable[T]],
    limits: Limits,
    timing: Timing,
    *,
    before_wait: Callable[[], None],
) -> T:
    """Await `send` until it answers, its retries are used up, or none could start in the budget.

    Args:
        send: one try; raises `Retryable` where another may follow.
        limits: retries and their budget.
        timing: clock, dice and sleep.
        before_wait: called when a try has failed and a wait begins.

    Raises:
        EngineError: what the last try ended with; `EngineOverloaded` at once when the server asks
            for a longer wait than the budget has left.
    """
    ends: float | None = None
    retry = 0
    while True:
        try:
            return await send()
        except Retryable as failure:
            now = timing.monotonic()
            ends = now + limits.retry_budget_s if ends is None else ends
            left = ends - now
            asked = failure.retry_after
            if asked is not None and asked > left:
                raise _too_long(failure.error, asked, left) from failure
            wait = wait_before(retry, asked, timing.random())
            if retry >= limits.retries or wait > left:
                raise _spent(failure.error, retry) from failure
        retry += 1
        before_wait()
        await timing.sleep(wait)


def _too_long(error: EngineError, asked: float, left: float) -> EngineError:
    kind = EngineCold if isinstance(error, EngineCold) else EngineOverloaded
    return kind(
        f"{error.message}; it asks to wait {asked:g} s, "
        f"more than the {max(left, 0):.3g} s left of retry_budget_s",
        hint=error.hint or "raise limits.retry_budget_s, or let the ladder climb",
    )


def _spent(error: EngineError, retries: int) -> EngineError:
    if not retries:
        return error
    return type(error)(
        f"{error.message} (after {retries + 1} tries)", hint=error.hint, charged=error.charged
    )
