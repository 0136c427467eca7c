"""Generation over a real loopback server: what is sent, what is read, what is tolerated."""

from __future__ import annotations

import json

import pytest
from openai_requests import ask, rung, using

from rung.engines.protocol import Finish, Generation
from rung.errors import EngineProtocolError, EngineTruncated, EngineUnsupported
from rung.receipt import Usage
from upstream import Call, Fault, Mode, Token, Upstream


def one(upstream: Upstream, **changes: object) -> Generation:
    """One free generation."""
    return using(rung(upstream.url), lambda engine: engine.generate(ask(**changes)))


def test_a_stream_becomes_one_answer_with_its_counts() -> None:
    """Text, usage, model and time to the first token come out of the stream."""
    with Upstream(answer=lambda call: "It is in your pocket.") as upstream:
        answer = one(upstream)
    assert answer.text == "It is in your pocket."
    assert answer.finish is Finish.STOP
    assert answer.usage == Usage(11, 3)
    assert answer.model == "tiny-1"
    assert answer.first_token_ms is not None
    assert answer.tokens is None


def test_only_named_fields_are_sent() -> None:
    """The body holds what the protocol needs, and the idempotency key travels as a header."""
    with Upstream() as upstream:
        one(upstream, idempotency_key="row-7")
    (call,) = upstream.chats
    assert call.body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Where is it?"}],
        "temperature": 0.0,
        "max_tokens": 64,
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert call.key == "row-7"
    assert "Authorization" not in call.headers


def test_stop_texts_are_sent() -> None:
    """The server ends the answer there."""
    with Upstream() as upstream:
        one(upstream, stop=("\n", "END"))
    assert upstream.chats[0].body["stop"] == ["\n", "END"]


@pytest.mark.parametrize("changes", [{"grammar": 'root ::= "a"'}, {"adapter": "loud"}])
def test_what_the_protocol_has_no_word_for_is_refused(changes: dict[str, str]) -> None:
    """An answer without the grammar or the adapter would be another one; nothing is sent."""
    with Upstream() as upstream:
        with pytest.raises(EngineUnsupported, match="not told of one"):
            one(upstream, **changes)
        assert not upstream.chats


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 7, 0])
def test_a_stream_cut_anywhere_reads_the_same(line_end: str, size: int) -> None:
    """Network writes that end inside characters and line ends change nothing."""
    with Upstream(
        answer=lambda call: "Grüße, 世界 🎈", line_end=line_end, pieces_of=size
    ) as upstream:
        assert one(upstream).text == "Grüße, 世界 🎈"


def test_a_missing_done_is_fine_after_the_finish() -> None:
    """Servers that end the stream without `[DONE]` are understood."""
    with Upstream(answer=lambda call: "Yes.", done=False) as upstream:
        assert one(upstream).text == "Yes."


def test_a_stream_without_finish_reason_is_truncated() -> None:
    """`[DONE]` alone does not prove that the answer is whole."""
    with Upstream(always=Fault(Mode.UNFINISHED)) as upstream, pytest.raises(EngineTruncated):
        one(upstream)


def test_a_server_that_does_not_stream_is_understood() -> None:
    """One JSON body serves as well, and then there is no time to the first token."""
    with Upstream(answer=lambda call: "Yes.", streams=False) as upstream:
        answer = one(upstream)
    assert (answer.text, answer.usage, answer.first_token_ms) == ("Yes.", Usage(11, 3), None)


def test_a_wrong_content_type_is_tolerated() -> None:
    """What the body is decides, not what the header calls it."""
    with Upstream(answer=lambda call: "Yes.", content_type="text/plain") as upstream:
        assert one(upstream).text == "Yes."


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": -5}, {"prompt_tokens": "many"}, {"prompt_tokens": 10**12}]
)
def test_counts_that_are_missing_or_impossible_are_estimated(usage: dict[str, object]) -> None:
    """Four characters a token, marked as an estimate."""
    with Upstream(answer=lambda call: "Yes, there.", usage=usage) as upstream:
        assert one(upstream).usage == Usage(3, 3, estimated=True)


def test_length_and_refusal_are_finishes() -> None:
    """A cut answer and a refused one say so."""
    faults = [Fault(Mode.CUT), Fault(Mode.REFUSAL)]
    with Upstream(answer=lambda call: "a long enough answer", faults=faults) as upstream:
        assert one(upstream).finish is Finish.LENGTH
        assert one(upstream).finish is Finish.REFUSAL


@pytest.mark.parametrize("after", [1, 3])
def test_a_dropped_stream_is_truncated_and_not_asked_again(after: int) -> None:
    """What was partly answered may be charged: one call, and the error says so."""
    with (
        Upstream(
            answer=lambda call: "a long enough answer", always=Fault(Mode.DROP, after=after)
        ) as up,
        pytest.raises(EngineTruncated, match="ended the stream before") as caught,
    ):
        one(up)
    assert caught.value.charged
    assert len(up.chats) == 1


def test_an_error_inside_the_stream_is_truncation_with_the_servers_words() -> None:
    """An error event after some text ends the attempt."""
    with (
        Upstream(answer=lambda call: "a long enough answer", always=Fault(Mode.ERROR_EVENT)) as up,
        pytest.raises(EngineTruncated, match="the GPU fell over"),
    ):
        one(up)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (Mode.HTML, "an HTML page"),
        (Mode.BROKEN_JSON, "broken"),
        (Mode.EMPTY_BODY, "empty body"),
        (Mode.EMPTY_CHOICES, "without any choice"),
        (Mode.HUGE_LINE, "more than|longer than|event of more"),
        (Mode.ENDLESS, "more than"),
        (Mode.GZIP, "Content-Encoding 'gzip'"),
    ],
)
def test_what_is_not_the_protocol_is_named(mode: Mode, words: str) -> None:
    """Pages, broken bodies and endless ones end in one typed error, after one call."""
    with (
        Upstream(always=Fault(mode)) as up,
        pytest.raises(EngineProtocolError, match=words) as caught,
    ):
        one(up)
    assert caught.value.hint
    assert len(up.calls) == 1


def test_a_schema_is_sent_where_it_is_honoured() -> None:
    """One probe finds out, and the request carries the schema."""
    schema = (
        '{"type":"object","properties":{"total":{"type":"number"}},'
        '"required":["total"],"additionalProperties":false}'
    )
    with Upstream(answer=lambda call: '{"total": 5}') as up:
        one(up, schema=schema, schema_name="invoice")
    (call,) = up.chats
    assert call.body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "invoice", "schema": json.loads(schema), "strict": True},
    }
    assert len(up.probes) == 1


def test_an_open_schema_is_not_sent_as_strict() -> None:
    """Servers refuse strict schemas with optional properties."""
    with Upstream(answer=lambda call: "{}") as up:
        one(up, schema='{"type":"object","properties":{"total":{"type":"number"}}}')
    assert up.chats[0].body["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize("json_schema", [False, None])
def test_a_schema_is_left_out_where_it_is_ignored_or_refused(json_schema: bool | None) -> None:
    """The prompt holds the schema; the field would be noise, or an error."""
    with Upstream(answer=lambda call: "{}", json_schema=json_schema) as up:
        one(up, schema='{"type":"object"}')
    assert "response_format" not in up.chats[0].body


def test_token_evidence_is_read_where_it_is_real() -> None:
    """Tokens come with their log-probabilities and alternatives."""
    tokens = [Token("Ye", -0.5, (("Ye", -0.5), ("No", -1.0))), Token("s", -0.1)]

    def answer(call: Call) -> list[Token]:
        return tokens

    with Upstream(answer=answer) as up:
        got = one(up, logprobs=True).tokens or ()
    assert [(t.token, t.logprob, t.alternatives) for t in got] == [
        ("Ye", -0.5, (("Ye", -0.5), ("No", -1.0))),
        ("s", -0.1, ()),
    ]


def test_null_probabilities_are_missing_evidence() -> None:
    """A server that knows no probability for a token has not broken the protocol."""
    tokens = [Token("Yes", -0.5), Token(".", None)]  # type: ignore[arg-type]
    with Upstream(answer=lambda call: tokens) as up:
        answer = one(up, logprobs=True)
    assert answer.text == "Yes."
    assert [token.token for token in answer.tokens or ()] == ["Yes"]


def test_fields_a_server_refuses_are_left_out_from_then_on() -> None:
    """A 400 that names an optional field costs one call, once."""
    refuses = ("max_tokens", "stream_options", "seed")
    with Upstream(answer=lambda call: "Yes.", refuses=refuses) as up:

        async def twice(engine):  # type: ignore[no-untyped-def]
            return [await engine.generate(ask()), await engine.generate(ask())]

        assert [answer.text for answer in using(rung(up.url), twice)] == ["Yes.", "Yes."]
    assert len(up.chats) == 5
    last = up.chats[-1].body
    assert last["max_completion_tokens"] == 64
    assert not set(refuses) & set(last)
