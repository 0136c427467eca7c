"""Valid and hostile requests mixed for a while: nothing is lost but what a killed child was working on, memory is flat.

Some seconds in every run of the tests; ten minutes with `-m torture`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import psutil
import pytest
from attacks import CRASHING, send
from embedded import ask, classify, using
from supervised import QUICK

from gguf_models import tiny_lora
from rung.config import Timeouts
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.parameters import Adapter
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.errors import EngineError, EngineRefused, EngineUnavailable

SCHEMA = '{"type":"object","properties":{"kind":{"enum":["card","cash"]}},"required":["kind"]}'
WORKERS = 6
PATIENT = msgspec.structs.replace(QUICK, crashes=10**6, backoff_most_s=0.1)
GROWTH_MIB = 48
"""What allocators and caches may still take after the first third of a run."""

CHILD_GROWTH_MIB = 64
"""The same for both children together."""

Count = collections.Counter[str]


class Soak:
    """Workers on one engine, and what became of their requests.

    Args:
        engine: under test.
        seconds: how long.
    """

    def __init__(self, engine: LlamaCppEngine, seconds: float) -> None:
        self.engine = engine
        self.seconds = seconds
        self.started = time.monotonic()
        self.count: Count = collections.Counter()
        self.lost: list[str] = []
        self.kills: dict[Supervisor, list[float]] = collections.defaultdict(list)
        self.own_mib: list[float] = []
        self.children_mib: list[float] = []

    async def run(self, *, kill: bool) -> None:
        """Work until the time is over."""
        async with asyncio.TaskGroup() as group:
            for seed in range(WORKERS):
                group.create_task(self._work(random.Random(seed)))
            if kill:
                group.create_task(self._kill_now_and_then())
            group.create_task(self._measure())

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() - self.started > self.seconds

    async def _work(self, dice: random.Random) -> None:
        kinds: list[Callable[[random.Random], Awaitable[None]]] = [
            self._generate,
            self._extract,
            self._classify,
            self._leave,
            self._refused,
        ]
        while not self.over:
            kind = dice.choice(kinds)
            began = time.monotonic()
            try:
                await kind(dice)
                self.count[kind.__name__] += 1
            except EngineUnavailable as error:
                self._excuse(error, began)
            except EngineError as error:
                self.lost.append(repr(error))

    def _excuse(self, error: EngineUnavailable, began: float) -> None:
        """A request may be lost to a killed child, and only while it was at work."""
        if any(at >= began - 1 for times in self.kills.values() for at in times):
            self.count["killed"] += 1
        else:
            self.lost.append(repr(error))

    async def _generate(self, dice: random.Random) -> None:
        adapter = dice.choice([None, "loud"])
        tokens = dice.randint(1, 30)
        answer = await self.engine.generate(
            ask("card " * tokens, max_tokens=tokens, adapter=adapter)
        )
        assert answer.usage.output_tokens <= tokens

    async def _extract(self, dice: random.Random) -> None:
        answer = await self.engine.generate(ask(schema=SCHEMA, max_tokens=40, logprobs=True))
        assert json.loads(answer.text)["kind"] in {"card", "cash"}

    async def _classify(self, dice: random.Random) -> None:
        request = classify(*("my card " * dice.randint(1, 9) for _ in range(dice.randint(1, 32))))
        result = await self.engine.classify(request)
        for failure in result.failures.values():
            raise failure
        assert (result.chosen >= 0).all()

    async def _leave(self, dice: random.Random) -> None:
        request = ask(max_tokens=400, grammar='root ::= "a" root')
        async with contextlib.aclosing(self.engine.stream(request)) as pieces:
            for _ in range(dice.randint(1, 5)):
                await anext(pieces)

    async def _refused(self, dice: random.Random) -> None:
        hostile = dice.choice(
            [
                ask(grammar="root ::= " + "(" * 9_000 + '"a"' + ")" * 9_000),
                ask(schema='{"$ref":"https://example.com/x"}'),
                ask("x" * 3_000),
                ask(stop=("x",) * 100),
                ask(adapter="none such"),
            ]
        )
        with pytest.raises(EngineRefused):
            await self.engine.generate(hostile)

    async def _kill_now_and_then(self) -> None:
        dice = random.Random(99)
        while not self.over:
            await asyncio.sleep(dice.uniform(1.0, 3.0))
            victim = dice.choice([self.engine._server, self.engine._scorer])
            if victim.pid is None:
                continue
            self.kills[victim].append(time.monotonic())
            how = dice.choice([signal.SIGKILL, signal.SIGSEGV, None])
            if how is not None:
                os.kill(victim.pid, how)
            else:
                self.kills[victim].append(time.monotonic() + 2)
                with contextlib.suppress(OSError, EngineError):
                    async with self.engine._server.lease() as lease:
                        await send(lease, **CRASHING["deep schema"])

    async def _measure(self) -> None:
        while not self.over:
            await asyncio.sleep(min(2.0, self.seconds / 10))
            self.own_mib.append(psutil.Process().memory_info().rss / 2**20)
            self.children_mib.append(sum(map(_mib, (self.engine._server, self.engine._scorer))))


def soak(tiny: Path, folder: Path, seconds: float, *, kill: bool) -> Soak:
    """A run, checked."""
    lora = tiny_lora(folder / "lora.gguf")
    found: list[Soak] = []

    async def work(engine: LlamaCppEngine) -> None:
        found.append(Soak(engine, seconds))
        await engine.generate(ask(max_tokens=1))
        await engine.classify(classify("my card"))
        started = engine._server.pid, engine._scorer.pid
        await found[0].run(kill=kill)
        with contextlib.suppress(EngineUnavailable):  # the last kill may be on its way
            await engine.generate(ask(max_tokens=1))
        await engine.generate(ask(max_tokens=1))
        assert kill or started == (engine._server.pid, engine._scorer.pid)
        assert engine._server.in_flight == engine._scorer.in_flight == 0

    using(
        tiny,
        work,
        options=PATIENT,
        load={"adapters": (Adapter("loud", str(lora)),), "slots": 2},
        timeouts=Timeouts(first_token=20, between_tokens=10, total=30),
        limit_s=seconds + 60,
    )
    (result,) = found
    assert result.lost == []
    assert _growth(result.own_mib) < GROWTH_MIB
    if not kill:  # a new child begins anew
        assert _growth(result.children_mib) < CHILD_GROWTH_MIB
    return result


def _growth(mib: list[float]) -> float:
    """From the most in the first third of a run to its end."""
    return mib[-1] - max(mib[: len(mib) // 3 + 1])


def _mib(supervisor: Supervisor) -> float:
    """Memory of a child, the model's own file left out; 0 where there is none."""
    if supervisor.pid is None:
        return 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(supervisor.pid).memory_info()
        return float(found.rss - found.shared) / 2**20
    return 0.0


@pytest.mark.parametrize("kill", [True, False], ids=["children die", "children live"])
def test_nothing_is_lost_and_memory_stays_flat(tiny: Path, tmp_path: Path, kill: bool) -> None:
    """A short run: every kind of request was answered, refused or given up as it should be."""
    result = soak(tiny, tmp_path, 5, kill=kill)
    assert {"_generate", "_extract", "_classify", "_leave", "_refused"} <= set(result.count)


@pytest.mark.torture
@pytest.mark.parametrize("kill", [True, False], ids=["children die", "children live"])
def test_nothing_is_lost_in_ten_minutes(tiny: Path, tmp_path: Path, kill: bool) -> None:
    """The long runs; `--log-cli-level=info` shows their figures."""
    result = soak(tiny, tmp_path, 600, kill=kill)
    for who, mib in (("own", result.own_mib), ("children", result.children_mib)):
        logging.info("%s, %s MiB %s", dict(result.count), who, [round(each) for each in mib[::20]])
