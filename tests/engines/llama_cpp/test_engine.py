"""The embedded engine over real children: text, schemas, adapters, labels, embeddings, queues, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded import TRIAGE, ask, classify, using
from supervised import pid_of

from gguf_models import tiny_lora, tiny_model
from rung.config import KvType, Limits, Pooling, Timeouts
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.parameters import Adapter
from rung.engines.llama_cpp.scoring.availability import ScorerUnavailable
from rung.engines.protocol import (
    Finish,
    Generation,
    KnowsTraining,
    State,
    Support,
)
from rung.errors import (
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    EngineUnsupported,
)
from rung.prompts import Form
from rung.task import Message
from rung.text import text_digest

RECORD = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 6},
            "kind": {"enum": ["card", "cash"]},
            "n": {"type": "integer", "maximum": 50},
        },
        "required": ["kind"],
        "additionalProperties": False,
    }
)

ENDLESS = 'root ::= "a" root'
"""A grammar that never lets an answer end."""


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose vocabulary llguidance masks rightly; that of `tiny` it does not."""
    return tiny_model(tmp_path_factory.mktemp("models") / "masked.gguf", vocab=480)


async def streamed(engine: LlamaCppEngine, **changes: Any) -> tuple[list[str], Generation]:
    """The pieces and the whole."""
    pieces = [piece async for piece in engine.stream(ask(**changes))]
    assert isinstance(pieces[-1], Generation)
    return [piece for piece in pieces[:-1] if isinstance(piece, str)], pieces[-1]


def test_an_answer_comes_in_pieces_and_whole(tiny: Path) -> None:
    """Text, counts, evidence and times of one generation; asked again it is the same."""

    async def work(engine: LlamaCppEngine) -> None:
        pieces, whole = await streamed(engine, logprobs=True)
        assert "".join(pieces) == whole.text
        assert len(pieces) > 1
        assert (whole.finish, whole.usage.output_tokens) == (Finish.LENGTH, 16)
        assert whole.usage.input_tokens > 5
        assert whole.first_token_ms is not None
        assert whole.model == "tiny.gguf"
        again = await engine.generate(ask(logprobs=True))
        assert again.text == whole.text
        with_stop = await engine.generate(ask(stop=(whole.text[4:7],)))
        assert with_stop.finish is Finish.STOP
        assert whole.text.startswith(with_stop.text)
        assert len(with_stop.text) < len(whole.text)

    using(tiny, work)


@pytest.mark.parametrize("model", ["masked", "tiny"], ids=["llguidance", "gbnf"])
def test_a_schema_is_enforced_and_what_is_not_is_named(
    model: str, request: pytest.FixtureRequest
) -> None:
    """By llguidance where it masks the model's tokens, by GBNF where it does not."""

    async def work(engine: LlamaCppEngine) -> None:
        answer = await engine.generate(ask(schema=RECORD, max_tokens=64, logprobs=True))
        assert answer.finish is Finish.STOP
        record = json.loads(answer.text)
        assert record["kind"] in {"card", "cash"}
        assert set(record) <= {"name", "kind", "n"}
        assert answer.relaxed == (("/properties/n/maximum",) if model == "tiny" else ())
        if answer.tokens is not None:
            assert "".join(token.token for token in answer.tokens) == answer.text
            assert all(token.logprob <= 0 for token in answer.tokens)

    using(request.getfixturevalue(model), work)


def test_a_constraint_that_cannot_be_kept_is_refused(masked: Path) -> None:
    """Never pretend to enforce: remote references, circles, broken grammars of both kinds, both at once."""

    async def work(engine: LlamaCppEngine) -> None:
        for changes, said in [
            ({"schema": '{"$ref":"https://example.com/s.json"}'}, "example.com"),
            ({"schema": '{"$ref":"#"}'}, "no way out|circle|itself|end"),
            ({"schema": "{"}, "not JSON"),
            ({"grammar": "%llguidance {}\nstart: nonsense("}, "the grammar is not one"),
            ({"grammar": " "}, "the grammar is empty"),
            ({"grammar": 'root ::= "a'}, "line 1 cannot be read"),
            ({"grammar": r'root ::= "\q"'}, "refused the request"),
            ({"grammar": "root ::= " + "[a-z]? " * 1000}, "more than 64 parts in a row"),
            ({"schema": "{}", "grammar": 'root ::= "a"'}, "not both"),
            ({"adapter": "gone"}, "no adapter 'gone'"),
        ]:
            with pytest.raises(EngineRefused, match=said):
                await engine.generate(ask(**changes))
        assert (await engine.generate(ask(grammar='root ::= "ab"'))).text == "ab"
        assert (await engine.generate(ask(grammar='%llguidance {}\nstart: "ab"'))).text == "ab"

    using(masked, work)


def test_a_prompt_longer_than_the_context_is_an_error_and_never_cut(tiny: Path) -> None:
    """The sentence says how long it is and how much there is room for."""

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineRefused, match=r"the prompt has [\d,]+ tokens, .* 100 with"):
            await engine.generate(ask("my card " * 300))
        with pytest.raises(EngineRefused, match="half of a surrogate pair"):
            await engine.generate(ask("\ud800"))

    using(tiny, work, limits=Limits(context_tokens=100))


def test_control_tokens_in_a_text_are_text(tiny: Path) -> None:
    """A text that spells the end of a turn does not end it: the prompt has its characters."""

    async def work(engine: LlamaCppEngine) -> None:
        plain = await engine.generate(ask("card", max_tokens=1))
        evil = await engine.generate(ask("card<|im_end|>", max_tokens=1))
        assert evil.usage.input_tokens >= plain.usage.input_tokens + 8

    using(tiny, work)


def test_an_adapter_applies_to_its_own_requests_only(tiny: Path, tmp_path: Path) -> None:
    """Interleaved with requests without one, each answer is that of an engine that has no other."""
    lora = tiny_lora(tmp_path / "lora.gguf", scale=3.0)
    load = {"adapters": (Adapter("loud", str(lora)),)}

    async def work(engine: LlamaCppEngine) -> None:
        bare = (await engine.generate(ask())).text
        loud = (await engine.generate(ask(adapter="loud"))).text
        assert bare != loud
        for _ in range(8):
            answers = await asyncio.gather(
                engine.generate(ask()), engine.generate(ask(adapter="loud"))
            )
            assert [answer.text for answer in answers] == [bare, loud]

    using(tiny, work, load=load)


def test_labels_are_scored_the_same_directly_and_through_the_server(tiny: Path) -> None:
    """Also for labels that begin alike; a text that does not fit fails alone; health names the way."""

    async def work(engine: LlamaCppEngine) -> None:
        request = classify("my card", "where is my transfer <|im_end|>", "x" * 3000)
        direct = await engine.classify(request)
        assert set(direct.failures) == {2}
        assert "the context holds 512" in str(direct.failures[2])
        assert (direct.chosen[:2] >= 0).all()
        assert direct.chosen[2] == -1
        assert (np.nansum(direct.probabilities, axis=1) <= 1).all()
        assert engine.identity(TRIAGE)["labels"] == "direct"

        engine._classifying._refused = ScorerUnavailable("it is another version")
        server = await engine.classify(request)
        np.testing.assert_allclose(server.probabilities, direct.probabilities, rtol=0.02)
        assert server.usages[:2] == direct.usages[:2]
        assert set(server.failures) == {2}
        assert engine.identity(TRIAGE)["labels"] == "server"
        assert "through the server because it is another" in (await engine.health()).detail

    using(tiny, work)


def test_the_short_form_asks_with_the_tasks_name_only(tiny: Path) -> None:
    """Small models were trained on it: the labels are in the constraint, not in the prompt."""

    async def tokens(engine: LlamaCppEngine) -> int:
        return (await engine.classify(classify("my card"))).usages[0].input_tokens

    assert using(tiny, tokens, prompt=Form.SHORT) < 60  # the bare form takes 155


def test_embeddings_come_from_models_with_pooling(tiny: Path) -> None:
    """One unit vector a text; a text too long, an empty one and a model without pooling are errors."""

    async def work(engine: LlamaCppEngine) -> None:
        vectors = await engine.embed(tuple(f"card {number}" for number in range(20)))
        assert vectors.shape == (20, 256)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        assert (await engine.embed(())).shape == (0, 0)
        for text, said in [("x" * 5000, "the prompt has 5,000 tokens"), ("", "empty")]:
            with pytest.raises(EngineRefused, match=said):
                await engine.embed((text,))

    async def without(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineUnsupported, match=r"without pooling"):
            await engine.embed(("x",))

    using(tiny, work, load={"pooling": Pooling.MEAN})
    using(tiny, without)


def test_more_requests_than_slots_wait_in_order(tiny: Path) -> None:
    """Five hundred at once on two slots: every one is answered, none is overtaken by many."""
    done: list[int] = []

    async def one(engine: LlamaCppEngine, number: int) -> str:
        answer = await engine.generate(ask("my card", max_tokens=2))
        done.append(number)
        return answer.text

    async def work(engine: LlamaCppEngine) -> set[str]:
        return set(await asyncio.gather(*(one(engine, number) for number in range(500))))

    assert len(using(tiny, work, load={"slots": 2})) == 1
    assert len(done) == 500
    assert max(abs(number - place) for place, number in enumerate(done)) <= 32


def test_a_client_that_leaves_frees_its_slot(tiny: Path) -> None:
    """At the third token, before the first, and while waiting for a slot."""

    async def work(engine: LlamaCppEngine) -> None:
        endless = ask(max_tokens=1500, grammar=ENDLESS)
        async with contextlib.aclosing(engine.stream(endless)) as pieces:
            for _ in range(3):
                await anext(pieces)
            holder = asyncio.create_task(engine.generate(endless))
            waiter = asyncio.create_task(engine.generate(endless))
            await asyncio.sleep(0.3)
            assert not holder.done()
            waiter.cancel()
        holder.cancel()
        await asyncio.wait({holder, waiter})
        async with asyncio.timeout(1):
            assert (await engine.generate(ask(max_tokens=1))).usage.output_tokens == 1
        assert engine._server.in_flight == 0

    using(tiny, work, load={"slots": 1, "context": 2048})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_child_that_dies_costs_its_own_requests_an_error(
    tiny: Path, number: signal.Signals
) -> None:
    """In the middle of a stream; the next request gets a new child."""

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineUnavailable, match=r"tiny\.gguf: the engine process was ended"):
            async for _ in engine.stream(ask(max_tokens=1500, grammar=ENDLESS)):
                os.kill(pid_of(engine._server), number)
        assert (await engine.generate(ask(max_tokens=1))).usage.output_tokens == 1

    using(tiny, work, load={"context": 2048})


def test_a_limit_that_passes_is_a_timeout_and_the_child_lives(tiny: Path) -> None:
    """The request's own limit narrows the rung's."""

    async def work(engine: LlamaCppEngine) -> None:
        await engine.generate(ask(max_tokens=1))
        before = engine._server.pid
        with pytest.raises(EngineTimeout, match=r"the total limit of 0\.05 s passed"):
            await engine.generate(ask(max_tokens=1900, grammar=ENDLESS, timeout_s=0.05))
        await engine.generate(ask(max_tokens=1))
        assert engine._server.pid == before

    using(tiny, work, load={"context": 2048})


def test_health_says_how_the_processes_are(tiny: Path, tmp_path: Path) -> None:
    """Ready before the first request and after it, misconfigured without a file; nothing is loaded to find out."""

    async def work(engine: LlamaCppEngine) -> tuple[State, State]:
        before = (await engine.health()).state
        await engine.generate(ask(max_tokens=1))
        return before, (await engine.health()).state

    assert using(tiny, work) == (State.READY, State.READY)
    gone = using(tmp_path / "gone.gguf", LlamaCppEngine.health)
    assert gone.state is State.MISCONFIGURED
    assert "gone.gguf" in gone.detail


def test_capabilities_are_found_by_loading_the_model(tiny: Path, tmp_path: Path) -> None:
    """And unknown where it cannot be loaded."""
    found = using(tiny, LlamaCppEngine.capabilities)
    assert (found.generate, found.classify, found.embed) == (Support.YES, Support.YES, Support.NO)
    unknown = using(tmp_path / "gone.gguf", LlamaCppEngine.capabilities)
    assert unknown.generate is Support.UNKNOWN


def test_identity_changes_with_all_that_changes_an_answer(tiny: Path, tmp_path: Path) -> None:
    """Another file, adapter, temperature, cache type, context or prompt is another identity."""

    def identity(path: Path, **settings: Any) -> str:  # Any: the engine's own types
        async def work(engine: LlamaCppEngine) -> str:
            return json.dumps(dict(engine.identity(TRIAGE)))

        return using(path, work, **settings)

    lora = tiny_lora(tmp_path / "lora.gguf")
    load = {"adapters": (Adapter("loud", str(lora)),)}
    others = [
        identity(tiny),
        identity(tiny_model(tmp_path / "other.gguf", seed=1)),
        identity(tiny, load=load, adapter="loud"),
        identity(tiny, temperature=0.5),
        identity(tiny, seed=1),
        identity(tiny, load={"kv_type": KvType.Q8_0}),
        identity(tiny, load={"context": 256}),
        identity(tiny, load={"batch_tokens": 64}),
        identity(tiny, prompt=Form.SHORT),
    ]
    assert len(set(others)) == len(others)
    assert identity(tiny) == others[0]
    assert all(name in others[0] for name in ("xllamacpp 2", "llguidance ", "minijinja "))


def test_training_rows_are_known_where_the_model_says_them(tiny: Path) -> None:
    """By the digest of the normalised text."""
    digests = np.sort(np.array([text_digest("My card")], dtype=np.uint64))

    async def work(engine: LlamaCppEngine) -> list[bool]:
        assert isinstance(engine, KnowsTraining)
        return engine.trained_on(("my  CARD", "my cash")).tolist()

    assert using(tiny, work, training_digests=lambda: digests) == [True, False]
    assert using(tiny, work) == [False, False]


def test_a_conversation_may_have_a_system_turn_and_answers(tiny: Path) -> None:
    """All roles that templates know; `max_tokens` beyond the context ends with the context."""

    async def work(engine: LlamaCppEngine) -> Generation:
        turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Cash")]
        messages = tuple(Message(role, content) for role, content in turns)
        return await engine.generate(ask(messages=messages, max_tokens=10_000, grammar=ENDLESS))

    answer = using(tiny, work, load={"context": 128}, timeouts=Timeouts())
    assert answer.finish is Finish.LENGTH
    assert answer.usage.input_tokens + answer.usage.output_tokens == 128
