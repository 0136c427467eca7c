"""The limit of a call runs from where it comes in: loading, waiting, finding out and writing the prompt are on it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest
from embedded import TRIAGE, ask, classify, using
from supervised import until

from rung.config import Pooling, Timeouts
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.scoring.availability import ScorerUnavailable
from rung.errors import EngineCold, EngineOverloaded, EngineRefused, EngineTimeout

ENDLESS = 'root ::= "a" root'


def test_a_model_that_is_loading_is_cold_and_goes_on_loading(tiny: Path) -> None:
    """Text, labels and vectors alike; who comes later finds it loaded."""

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineCold, match=r"limit of 0\.01 s passed while the model was load"):
            await engine.generate(ask(timeout_s=0.01))
        scored = await engine.classify(classify("a", "b", timeout_s=0.01))
        assert [type(failure) for failure in scored.failures.values()] == [EngineCold] * 2
        assert (await engine.generate(ask(max_tokens=1))).usage.output_tokens == 1
        assert not (await engine.classify(classify("a"))).failures

    async def embeds(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineCold):
            await engine.embed(("a",))

    using(tiny, work)
    using(tiny, embeds, load={"pooling": Pooling.MEAN}, timeouts=Timeouts(total=0.01))


def test_a_slot_that_is_not_free_in_time_is_an_overload(tiny: Path) -> None:
    """The limit is not counted from where the slot was given."""

    async def work(engine: LlamaCppEngine) -> None:
        async with contextlib.aclosing(
            engine.stream(ask(max_tokens=1900, grammar=ENDLESS))
        ) as held:
            await anext(held)
            with pytest.raises(EngineOverloaded, match=r"0\.1 s passed while all its 1 slots"):
                await engine.generate(ask(max_tokens=1, timeout_s=0.1))
            assert engine._server.in_flight == 1

    using(tiny, work, load={"slots": 1, "context": 2048})


def test_labels_through_the_server_share_one_limit(tiny: Path) -> None:
    """What was scored before it passed is kept, the rest has failed."""

    async def work(engine: LlamaCppEngine) -> None:
        engine._classifying._refused = ScorerUnavailable("it is another version")
        whole = await engine.classify(classify("my card 0"))
        texts = [f"my card {number}" for number in range(400)]
        part = await engine.classify(classify(*texts, timeout_s=1.0))
        scored = np.flatnonzero(part.chosen >= 0)
        assert 0 < len(scored) < 400
        assert set(part.failures) == set(range(len(scored), 400))
        assert {type(failure) for failure in part.failures.values()} == {EngineTimeout}
        np.testing.assert_allclose(part.probabilities[0], whole.probabilities[0], rtol=1e-3)

    using(tiny, work)


def test_a_text_that_cannot_fit_is_refused_before_anything_is_loaded(tiny: Path) -> None:
    """It is not even tokenised; beside it other texts are scored."""
    long = "my card " * 200_000

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineRefused, match=r"1,600,000 characters, and the context holds 512"):
            await engine.generate(ask(long))
        assert set((await engine.classify(classify(long))).failures) == {0}
        assert (engine._server.pid, engine._scorer.pid) == (None, None)
        mixed = await engine.classify(classify(long, "my card"))
        assert set(mixed.failures) == {0}
        assert mixed.chosen[1] >= 0

    using(tiny, work)


def test_more_tasks_than_are_remembered_are_all_answered(tiny: Path) -> None:
    """What is kept of tasks is bounded."""
    import msgspec

    async def work(engine: LlamaCppEngine) -> None:
        for number in range(70):
            task = msgspec.structs.replace(TRIAGE, name=f"triage{number}")
            assert not (await engine.classify(classify("a", task=task))).failures
        assert len(engine._classifying._direct._asked) == 64

    using(tiny, work, limit_s=60)


def test_a_caller_who_leaves_while_the_model_is_asked_what_it_is_stops_nobody(tiny: Path) -> None:
    """The next one asks again."""

    async def work(engine: LlamaCppEngine) -> None:
        await engine.classify(classify("a"))
        first = asyncio.create_task(engine.generate(ask(max_tokens=1)))
        await until(engine._serving._finding.locked)
        first.cancel()
        assert (await engine.generate(ask(max_tokens=1))).usage.output_tokens == 1

    using(tiny, work)
