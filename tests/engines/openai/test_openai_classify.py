"""Classification, probes and embeddings over a real loopback server."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from openai_requests import TRIAGE, classify, rung, using

from rung.config import Limits
from rung.engines.openai.engine import OpenAIEngine
from rung.engines.protocol import Capabilities, Classification, ClassifyRequest, Finish, Support
from rung.errors import EngineTimeout, EngineTruncated, EngineUnavailable, EngineUnsupported
from rung.receipt import Usage
from upstream import Call, Fault, Mode, Token, Upstream


def run(upstream: Upstream, request: ClassifyRequest, **changes: object) -> Classification:
    """One micro-batch on a fresh engine."""
    return using(rung(upstream.url, **changes), lambda engine: engine.classify(request))


def spelled(call: Call) -> list[Token]:
    """`refund` with doubt, as JSON where the schema asks for it."""
    word = [
        Token("ref", math.log(0.6), (("ref", math.log(0.6)), ("trans", math.log(0.3)))),
        Token("und", math.log(0.9)),
    ]
    return [Token('{"label": "'), *word, Token('"}')] if call.enum else word


@pytest.mark.parametrize("json_schema", [True, False])
def test_labels_come_with_the_probability_of_their_tokens(json_schema: bool) -> None:
    """Held to the schema or bare, the label's tokens make its probability."""
    with Upstream(answer=spelled, json_schema=json_schema) as up:
        got = run(up, classify("money back?", "again?"))
    assert got.chosen.tolist() == [2, 2]
    np.testing.assert_allclose(got.probabilities, [[0, 0, 0.54, 0.3]] * 2)
    assert got.usages == (Usage(11, 3),) * 2
    assert got.finishes == (Finish.STOP,) * 2
    assert len(got.latencies_ms) == 2
    assert not got.failures
    assert len(up.probes) == 2


def test_the_schema_holds_the_labels_of_the_task() -> None:
    """The request is constrained to the task's labels and says so in its prompt."""
    with Upstream() as up:
        run(up, classify("x"))
    (call,) = up.chats
    assert call.enum == list(TRIAGE.label_names)
    assert '{"label": "..."}' in call.body["messages"][0]["content"]
    assert call.body["top_logprobs"] == 20


@pytest.mark.parametrize("logprobs", [False, None])
def test_without_token_evidence_there_is_no_probability(logprobs: bool | None) -> None:
    """A server that ignores or refuses the field gives a label and no confidence."""
    with Upstream(logprobs=logprobs) as up:
        got = run(up, classify("a text"))
    assert got.chosen[0] >= 0
    assert np.isnan(got.probabilities).all()
    assert "logprobs" not in up.chats[0].body


def test_made_up_certainty_is_no_evidence() -> None:
    """A server that reports probability one for everything is found out by the probe."""

    def certain(text: str) -> list[Token]:
        return [Token(text, 0.0)]

    with Upstream(tokenize=certain) as up:
        got = run(up, classify("a text"))
    assert np.isnan(got.probabilities).all()


def test_fewer_alternatives_are_asked_for_where_twenty_are_refused() -> None:
    """Some servers allow five."""
    with Upstream(max_top_logprobs=5) as up:
        got = run(up, classify("a text"))
    assert np.isfinite(got.probabilities).all()
    assert up.chats[0].body["top_logprobs"] == 5


@pytest.mark.parametrize("answer", ["a story", "", "Refund"])
def test_an_output_that_is_no_label_chooses_nothing(answer: str) -> None:
    """-1, no probability, and how it ended."""
    with Upstream(answer=lambda call: answer, json_schema=False) as up:
        got = run(up, classify("a text"))
    assert got.chosen.tolist() == [-1]
    assert np.isnan(got.probabilities).all()
    assert got.finishes == (Finish.STOP,)
    assert not got.failures


def test_a_cut_answer_is_not_read_even_if_it_is_a_label() -> None:
    """`card` may be the first half of `card_lost`."""
    with Upstream(
        answer=lambda call: [Token("card"), Token("_lost")],
        json_schema=False,
        always=Fault(Mode.CUT),
    ) as up:
        got = run(up, classify("a text"))
    assert got.chosen.tolist() == [-1]
    assert got.finishes == (Finish.LENGTH,)


def test_a_refusal_is_recorded_as_one() -> None:
    """The refusal field ends a row with no label."""
    with Upstream(always=Fault(Mode.REFUSAL)) as up:
        got = run(up, classify("a text"))
    assert (got.chosen.tolist(), got.finishes) == ([-1], (Finish.REFUSAL,))


def test_one_bad_row_leaves_the_others_alone() -> None:
    """A failure belongs to its text; the rest of the micro-batch is answered."""
    with Upstream(faults=[Fault(), Fault(Mode.DROP), Fault()]) as up:
        got = run(up, classify("a", "b", "c"), limits=Limits(concurrency=1))
    assert list(got.failures) == [1]
    assert isinstance(got.failures[1], EngineTruncated)
    assert got.chosen[1] == -1
    assert (got.chosen[[0, 2]] >= 0).all()
    assert np.isnan(got.probabilities[1]).all()


def test_a_server_that_is_down_fails_every_row_and_raises_nothing() -> None:
    """The micro-batch comes back with an error for each text."""
    with Upstream() as up:
        url = up.url
    got = using(rung(url), lambda engine: engine.classify(classify("a", "b")))
    assert [type(error) for error in got.failures.values()] == [EngineUnavailable] * 2
    assert got.chosen.tolist() == [-1, -1]


def test_concurrency_is_bounded_and_used() -> None:
    """As many calls are in flight as the limits allow, and no more."""
    texts = tuple(f"text {n}" for n in range(12))
    with Upstream(always=Fault(first_s=0.03)) as up:
        got = run(up, classify(*texts), limits=Limits(concurrency=3))
    assert up.most_in_flight == 3
    assert not got.failures
    assert up.calls_per_text() == dict.fromkeys(texts, 1)


def test_each_text_carries_its_own_idempotency_key() -> None:
    """Keys are the caller's, repeated over retries."""
    fault = Fault(Mode.STATUS, status=500)
    with Upstream(faults=[fault]) as up:
        run(up, classify("a", "b", idempotency_keys=("k1", "k2")), limits=Limits(concurrency=1))
    assert up.calls_per_key() == {"k1": 2, "k2": 1}


def test_an_empty_batch_is_an_empty_answer() -> None:
    """No texts, no rows."""
    with Upstream() as up:
        got = run(up, classify())
    assert got.probabilities.shape == (0, 4)
    assert up.chats == []


YES, NO, UNKNOWN = Support.YES, Support.NO, Support.UNKNOWN


@pytest.mark.parametrize(
    ("logprobs", "json_schema", "expected"),
    [
        (True, True, Capabilities(YES, YES, UNKNOWN, YES, YES)),
        (False, False, Capabilities(YES, YES, UNKNOWN, NO, NO)),
        (None, None, Capabilities(YES, YES, UNKNOWN, NO, NO)),
    ],
)
def test_capabilities_are_what_comes_back(
    logprobs: bool | None, json_schema: bool | None, expected: Capabilities
) -> None:
    """Fields that are accepted and ignored count as little as refused ones."""
    with Upstream(logprobs=logprobs, json_schema=json_schema) as up:
        assert using(rung(up.url), lambda engine: engine.capabilities()) == expected


def test_probes_are_asked_once_however_many_wait() -> None:
    """A burst of rows on a new engine costs one probe of each kind."""

    async def burst(engine: OpenAIEngine) -> None:
        for _ in range(3):
            await engine.classify(classify("a", "b", "c"))
        await engine.capabilities()

    with Upstream() as up:
        using(rung(up.url), burst)
    assert len(up.probes) == 2


def test_capabilities_of_a_server_that_is_down_are_unknown_and_asked_again() -> None:
    """What could not be asked is not remembered."""

    async def twice(engine: OpenAIEngine) -> list[Support]:
        up.probe_faults.append(Fault(Mode.STATUS, status=401))
        return [(await engine.capabilities()).logprobs for _ in range(2)]

    with Upstream() as up:
        assert using(rung(up.url), twice) == [Support.UNKNOWN, Support.YES]


def test_a_slow_probe_is_not_waited_for_and_not_given_up() -> None:
    """A request keeps its own limit; the question goes on, so that a loading model gets loaded."""

    async def impatient(engine: OpenAIEngine) -> int:
        first = await engine.classify(classify("a", timeout_s=0.05))
        assert isinstance(first.failures[0], EngineTimeout)
        assert not first.failures[0].charged
        again = await engine.classify(classify("a", timeout_s=5))
        return int(again.chosen[0])

    with Upstream() as up:
        up.probe_faults.append(Fault(first_s=0.3))
        assert using(rung(up.url), impatient) >= 0
    assert len(up.probes) == 2
    assert up.cancelled == 0


def test_embeddings_come_back_in_the_order_of_the_texts() -> None:
    """The server may answer in any order; batches are joined."""
    texts = tuple("x" * (n % 7 + 1) for n in range(300))
    with Upstream() as up:
        vectors = using(rung(up.url), lambda engine: engine.embed(texts))
        empty = using(rung(up.url), lambda engine: engine.embed(()))
    assert vectors.dtype == np.float32
    assert vectors[:, 0].tolist() == [len(text) for text in texts]
    assert len(up.calls) == 3
    assert empty.shape == (0, 0)


def test_a_server_without_embeddings_is_unsupported() -> None:
    """A 501 means that this engine cannot do it."""
    with Upstream(embeddings=False) as up, pytest.raises(EngineUnsupported):
        using(rung(up.url), lambda engine: engine.embed(("a",)))


def test_identity_names_what_answers_depend_on() -> None:
    """Address, model, decoding and prompt; never a key or a query."""
    engine = OpenAIEngine(rung("https://api.example.com/v1?api-version=1", api_key_env="SECRET"))
    identity = engine.identity(TRIAGE)
    assert identity["endpoint"] == "api.example.com:443/v1"
    assert identity["model"] == "tiny"
    other = msgspec.structs.replace(TRIAGE, instructions="Be careful.")
    changed = {key for key, value in engine.identity(other).items() if identity[key] != value}
    assert changed == {"prompt"}
