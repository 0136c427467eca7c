"""Builders for tests of the openai engine against the loopback upstream."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from rung.config import EngineName, Limits, RungSettings, Timeouts
from rung.engines.openai.engine import OpenAIEngine
from rung.engines.openai.retry import Timing
from rung.engines.protocol import ClassifyRequest, GenerateRequest
from rung.policy import Place
from rung.task import Kind, Label, Message, Task

T = TypeVar("T")

NOON = dt.datetime(2026, 1, 5, 12, 0, tzinfo=dt.UTC)
TRIAGE = Task(
    name="triage",
    kind=Kind.CLASSIFY,
    labels=tuple(Label(name) for name in ("card", "card_lost", "refund", "transfer")),
)


class FakeTime:
    """A clock that moves only by the sleeps asked of it, and dice that always show a half."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.timing = Timing(
            monotonic=lambda: sum(self.sleeps),
            now=lambda: NOON,
            random=lambda: 0.5,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


def rung(url: str, **changes: Any) -> RungSettings:
    """A rung on the upstream, with limits that no test waits for unless it says so."""
    settings: dict[str, Any] = {
        "name": "big",
        "engine": EngineName.OPENAI,
        "model": "tiny",
        "where": Place.DEVICE,
        "base_url": url,
        "timeouts": Timeouts(connect=5, first_token=5, between_tokens=5, total=10),
        "limits": Limits(concurrency=4, retries=2, retry_budget_s=30),
    }
    return RungSettings(**(settings | changes))


def ask(text: str = "Where is it?", **changes: Any) -> GenerateRequest:
    """One generation of free text."""
    return GenerateRequest(messages=(Message("user", text),), max_tokens=64, **changes)


def classify(*texts: str, **changes: Any) -> ClassifyRequest:
    """A micro-batch for the triage task."""
    return ClassifyRequest(task=TRIAGE, texts=texts, **changes)


def using(
    settings: RungSettings,
    work: Callable[[OpenAIEngine], Awaitable[T]],
    *,
    time: FakeTime | None = None,
) -> T:
    """Run `work` on a fresh engine in a fresh loop, and close it."""

    async def run() -> T:
        engine = OpenAIEngine(settings, timing=(time or FakeTime()).timing)
        try:
            return await work(engine)
        finally:
            await engine.aclose()

    return asyncio.run(run())
