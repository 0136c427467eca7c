"""The child as a process: strangers on its socket, callers that leave, its death, and where it cannot score at all."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from scoring_parts import SharedChild, parameters, request_for, score, tiny_mamba, with_child

from gguf_models import tiny_model
from rung.engines.llama_cpp.lease import Lease
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.scoring import wire
from rung.engines.llama_cpp.scoring.availability import VERSION, ScorerUnavailable, check_version
from rung.engines.llama_cpp.scoring.client import ScoringClient
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.engines.llama_cpp.text_runs import LONGEST_RUN
from rung.errors import EngineRefused, EngineTimeout, EngineUnavailable

LABELS = ("card", "cash", "transfer")
LONG = tuple("my card was declined " * 20 for _ in range(1500))


async def said(lease: Lease, *frames: bytes, leave: bool = False) -> bytes:
    """What the child answers to raw bytes, all of it; `leave` says that no more will come."""
    reader, writer = await asyncio.open_unix_connection(lease.socket)
    writer.write(b"".join(frames))
    if leave:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_a_stranger_gets_no_word(child: SharedChild) -> None:
    """Wrong keys, frames that are too long or cut short: the connection closes and the child lives."""
    facts = wire.encode(wire.FactsRequest())

    async def body(client: ScoringClient, lease: Lease) -> None:
        key = wire.frame(lease.key.encode())
        for frames in (
            (wire.frame(b"wrong"), facts),
            (wire.frame(b""), facts),
            (facts,),
            (b"\xff\xff\xff\xff",),
            (key, b"\x7f\xff\xff\xff"),
            (key, facts[:3]),
            (key,),
            (),
        ):
            assert await said(lease, *frames, leave=True) == b""
        assert (await client.model_facts()).n_vocab == 511

    child.run(body)


def test_a_request_that_is_none_is_refused_in_words(child: SharedChild) -> None:
    """Nonsense, an unknown request, a field of another type, deep nesting."""
    bodies = (
        b"",
        b"\xc1",
        b"\x81\xa4type\xa4quit",
        b"\x83\xa4type\xa8tokenize\xa5texts\x01\xadparse_special\xc3",
        b"\x91" * 100_000,
    )

    async def body(client: ScoringClient, lease: Lease) -> None:
        key = wire.frame(lease.key.encode())
        for raw in bodies:
            answer = wire.decode_reply((await said(lease, key, wire.frame(raw)))[4:])
            assert isinstance(answer, wire.Fault)
            assert answer.kind is wire.FaultKind.REFUSED
            assert answer.message.startswith("not a scoring request")
        assert (await client.model_facts()).n_vocab == 511

    child.run(body)


def test_a_caller_that_leaves_stops_the_work(child: SharedChild) -> None:
    """The work that was given up takes half a minute; the next caller does not wait for it."""

    async def body(client: ScoringClient, *_: object) -> None:
        request = await request_for(client, LONG, LABELS)
        with pytest.raises(EngineTimeout, match=r"labels were not scored within 0\.3 s"):
            await client.score(request, timeout_s=0.3)
        waiting = asyncio.create_task(client.score(request, timeout_s=60))
        await asyncio.sleep(0.3)
        waiting.cancel()
        small = await request_for(client, ["card"], LABELS)
        reply = await client.score(small, timeout_s=5)
        again = await client.score(small, timeout_s=5)
        np.testing.assert_allclose(reply.probabilities, again.probabilities, 0.02)

    child.run(body)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_dies_costs_its_request_a_typed_error(
    model: Path, sent: signal.Signals
) -> None:
    """The error says how it died; the next lease has a new child."""

    async def main() -> None:
        supervisor = Supervisor(parameters(model), Role.SCORER)

        def client_of(lease: Lease) -> ScoringClient:
            return ScoringClient(lease, epitaph=lambda: supervisor.epitaph(lease))

        try:
            async with supervisor.lease() as lease:
                request = await request_for(client_of(lease), LONG, LABELS)
                waiting = asyncio.create_task(client_of(lease).score(request, timeout_s=60))
                await asyncio.sleep(0.3)
                assert supervisor.pid is not None
                os.kill(supervisor.pid, sent)
                died = f"labels were not scored: the engine process was ended by {sent.name}"
                with pytest.raises(EngineUnavailable, match=died):
                    await waiting
            async with supervisor.lease() as lease:
                assert not (await score(client_of(lease), ["card"], LABELS)).problems
        finally:
            await supervisor.aclose()

    asyncio.run(main())


def test_facts_are_those_of_the_file(tmp_path: Path) -> None:
    """Template, vocabulary, ends of generation, and entries of our own."""
    path = tiny_model(
        tmp_path / "own.gguf", template="{{ messages }}", extra={"rung.prompt": "short"}
    )

    async def facts(client: ScoringClient, *_: object) -> wire.ModelFacts:
        return await client.model_facts()

    assert with_child(parameters(path, context=1024), facts) == wire.ModelFacts(
        template="{{ messages }}",
        n_vocab=511,
        ends=(508, 510),
        bos=508,
        add_bos=False,
        context_train=2048,
        context=1024,
        metadata={
            "general.architecture": "llama",
            "general.name": "tiny",
            "general.file_type": "1",
            "rung.prompt": "short",
        },
    )


def test_a_model_without_a_template_says_so(tmp_path: Path) -> None:
    """None, not an empty one."""
    path = tiny_model(tmp_path / "bare.gguf", template=None)

    async def template(client: ScoringClient, *_: object) -> str | None:
        return (await client.model_facts()).template

    assert with_child(parameters(path), template) is None


def test_a_model_that_cannot_share_a_prefix_makes_scoring_unavailable(tmp_path: Path) -> None:
    """A recurrent model: every request says so, and the child stays to say it again."""

    async def body(client: ScoringClient, *_: object) -> None:
        for _ in range(2):
            with pytest.raises(ScorerUnavailable, match="cannot share a prefix by token"):
                await client.model_facts()

    with_child(parameters(tiny_mamba(tmp_path / "mamba.gguf")), body)


def test_weights_that_are_no_numbers_are_refused_at_load(tmp_path: Path) -> None:
    """With the engine's own reason."""
    damage = {"blk.0.attn_q.weight": np.full((256, 256), np.nan, dtype=np.float16)}
    path = tiny_model(tmp_path / "nan.gguf", damage=damage)

    async def body(*_: object) -> None:
        raise AssertionError("it was loaded")

    with pytest.raises(EngineUnavailable, match=r"blk\.0\.attn_q\.weight"):
        with_child(parameters(path), body)


def test_a_text_that_would_overflow_the_tokenizer_is_a_problem(tmp_path: Path) -> None:
    """A word of 30,000 characters ends the bare process with this kind of tokenizer; here only its own row."""
    path = tiny_model(
        tmp_path / "split.gguf", extra={"tokenizer.ggml.pre": "deepseek-llm"}, context=65_536
    )
    texts = ["card", "a" * 30_000, " " * 30_000, "\u4e2d" * LONGEST_RUN, "card " * 6_000]

    async def body(client: ScoringClient, *_: object) -> None:
        reply = await score(client, texts, LABELS)
        assert (
            reply.problems[1]
            == "the text has more than 16,000 characters without white space in a row"
        )
        assert (
            reply.problems[2] == "the text has more than 16,000 characters of white space in a row"
        )
        assert [tokens > 0 for tokens in reply.prompt_tokens] == [True, False, False, True, True]
        with pytest.raises(EngineRefused, match="more than 16,000 characters"):
            await client.tokenize(texts, parse_special=False)
        assert not (await score(client, ["card"], LABELS)).problems

    with_child(parameters(path), body)


def test_another_version_of_the_library_is_not_called() -> None:
    """However alike it may look: the struct layouts belong to one version."""
    check_version(VERSION)
    with pytest.raises(ScorerUnavailable, match=r"2026\.10\.11549 only; 2026\.11\.1 is installed"):
        check_version("2026.11.1")


def test_structs_with_other_defaults_are_not_used() -> None:
    """A field that moved shows as a value that is not its default."""
    from rung.engines.llama_cpp.scoring import capi

    params = capi.ContextParams(n_ctx=512, n_batch=512)
    with pytest.raises(ScorerUnavailable, match=r"512 where ContextParams\.n_batch is expected"):
        capi.check_layout(params, {"n_ctx": 512, "n_batch": 2048})
    capi.check_layout(params, {"n_ctx": 512, "n_batch": 512})


def test_a_request_beyond_all_bounds_is_refused_before_it_is_sent(child: SharedChild) -> None:
    """No child is troubled with it."""

    async def body(client: ScoringClient, *_: object) -> None:
        with pytest.raises(EngineRefused, match="is larger than the 67,108,864 allowed"):
            await client.tokenize(["x" * wire.REQUEST_BYTES], parse_special=False)

    child.run(body)
