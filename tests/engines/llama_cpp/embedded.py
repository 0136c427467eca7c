"""Builders for tests of the embedded engine: one engine on a tiny model, run to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from supervised import QUICK, parameters

from rung.config import Timeouts
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.fleet import Fleet
from rung.engines.llama_cpp.options import SupervisorOptions
from rung.engines.protocol import ClassifyRequest, GenerateRequest
from rung.task import Kind, Label, Message, Task

T = TypeVar("T")

TRIAGE = Task(
    name="triage",
    kind=Kind.CLASSIFY,
    labels=tuple(Label(name) for name in ("card", "card lost", "refund", "transfer")),
)


def ask(text: str = "my card", **changes: Any) -> GenerateRequest:  # Any: the fields' own types
    """One generation."""
    fields = {"messages": (Message("user", text),), "max_tokens": 16}
    return GenerateRequest(**(fields | changes))


def classify(*texts: str, **changes: Any) -> ClassifyRequest:  # Any: the fields' own types
    """A micro-batch, for the triage task unless it is changed."""
    return ClassifyRequest(**({"task": TRIAGE, "texts": texts} | changes))


def using(
    path: Path,
    work: Callable[[LlamaCppEngine], Awaitable[T]],
    *,
    load: Mapping[str, Any] = {},
    options: SupervisorOptions = QUICK,
    limit_s: float = 30,
    **settings: Any,  # the engine's own types
) -> T:
    """Run `work` on a fresh engine in a fresh loop, and close it and its processes."""

    async def whole() -> T:
        fleet = Fleet(options=options)
        engine = LlamaCppEngine(
            fleet,
            parameters(path, **load),
            **({"timeouts": Timeouts(first_token=20, between_tokens=10, total=25)} | settings),
        )
        try:
            return await work(engine)
        finally:
            await engine.aclose()
            await fleet.aclose()

    async def bounded() -> T:
        async with asyncio.timeout(limit_s):
            return await whole()

    return asyncio.run(bounded())
