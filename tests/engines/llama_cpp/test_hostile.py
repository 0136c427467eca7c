"""Every request that crashes or stalls the bare engine: the guard refuses it; sent around the guard, it costs a child.

What the guard says of each is in `test_guard`; here the real child is attacked and the next request has to work.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest
from attacks import CRASHING, ODD, STALLING, send
from embedded import ask, using
from supervised import QUICK

from rung.config import Timeouts
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.errors import EngineError, EngineRefused, EngineTimeout, EngineUnavailable

PATIENT = msgspec.structs.replace(QUICK, crashes=1000)
"""No breaker: these children are meant to die."""

SHORT = Timeouts(first_token=5, between_tokens=1, total=8)


async def attack(engine: LlamaCppEngine, body: dict[str, object]) -> None:
    """Send a body to the child as it is; waiting for it ends like any request that takes too long."""
    with contextlib.suppress(EngineTimeout):
        async with (
            engine._serving.open(engine._serving.deadline()),
            engine._server.lease() as lease,
        ):
            try:
                async with asyncio.timeout(1):
                    with contextlib.suppress(OSError):
                        await send(lease, **body)
            except TimeoutError:
                raise EngineTimeout("it takes too long") from None


async def answers(engine: LlamaCppEngine) -> None:
    """The next request works, or the one after it when a stuck child was ended under its hands."""
    for _ in range(3):
        with contextlib.suppress(EngineUnavailable, EngineTimeout):
            assert (await engine.generate(ask(max_tokens=1))).usage.output_tokens == 1
            return
    pytest.fail("the engine does not come back")


def test_crashing_and_odd_requests_cost_at_most_the_child(tiny: Path) -> None:
    """One engine takes them all, one after the other."""

    async def work(engine: LlamaCppEngine) -> int:
        processes = set()
        for body in (CRASHING | ODD).values():
            await attack(engine, body)
            await answers(engine)
            processes.add(engine._server.pid)
        return len(processes)

    assert using(tiny, work, options=PATIENT, timeouts=SHORT, load={"slots": 2}) > 1


@pytest.mark.parametrize("name", ["repeat window", "dry window", "ten times ten times ten letters"])
def test_a_child_that_is_stuck_is_ended(tiny: Path, name: str) -> None:
    """Found out by the limit that passed: its working loop does not turn any more."""

    async def work(engine: LlamaCppEngine) -> None:
        await attack(engine, STALLING[name])
        await answers(engine)

    using(tiny, work, options=PATIENT, timeouts=SHORT, load={"slots": 2, "memory_mib": 2048})


def test_requests_beside_a_refused_one_notice_nothing(tiny: Path) -> None:
    """The guard answers before the child is asked."""

    async def work(engine: LlamaCppEngine) -> None:
        await engine.generate(ask(max_tokens=1))
        first = engine._server.pid
        beside = [asyncio.create_task(engine.generate(ask(max_tokens=40))) for _ in range(4)]
        for grammar in (CRASHING["deep GBNF"], STALLING["a thousand optional letters"]):
            with pytest.raises(EngineRefused):
                await engine.generate(ask(**grammar))
        with pytest.raises(EngineError):
            await engine.generate(ask(schema='{"items":' * 20_000 + "{}" + "}" * 20_000))
        assert len({answer.text for answer in await asyncio.gather(*beside)}) == 1
        assert engine._server.pid == first

    using(tiny, work)
