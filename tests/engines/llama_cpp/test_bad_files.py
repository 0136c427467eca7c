"""Model files that are no models, or that break the engine: refused with a sentence, and the next model loads."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded import ask as question
from embedded import using
from supervised import QUICK, ask, parameters, refusal, run, running, together

from gguf_models import tiny_lora, tiny_model, vocabulary
from rung.config import FlashAttention, KvType
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.parameters import Adapter
from rung.engines.llama_cpp.process import ChildProcess
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.scoring.client import ScoringClient
from rung.engines.llama_cpp.scoring.wire import ScoreRequest
from rung.engines.llama_cpp.supervisor import ChildState, Supervisor
from rung.errors import EngineError, EngineUnavailable
from rung.models.hardware.memory import Memory


def refused(path: Path, **others: Any) -> EngineError:
    """What a lease of a model ends with; no process is left behind."""

    async def scene() -> EngineError:
        made = Supervisor(parameters(path, **others), Role.SERVER, QUICK)
        try:
            error = await refusal(made)
            assert isinstance(error, EngineUnavailable)
            assert made.state is ChildState.CRASHED
            assert made.reason
            assert made.memory_bytes == 0
            return error
        finally:
            await made.aclose()

    return run(scene())


def answers(path: Path, **others: Any) -> str:
    """What a model writes."""

    async def scene() -> str:
        made = Supervisor(parameters(path, **others), Role.SERVER, QUICK)
        try:
            async with made.lease() as lease:
                return str((await ask(lease))["content"])
        finally:
            await made.aclose()

    return run(scene())


CUT = {
    "an empty file": (lambda whole: b"", "ends inside its header, after 0 bytes"),
    "another magic": (lambda whole: b"PK\x03\x04" + whole[4:], "is not a GGUF file: it starts"),
    "another version": (
        lambda whole: whole[:4] + b"\x63\0\0\0" + whole[8:],
        "is GGUF version 99; versions 2 and 3 are read",
    ),
    "the other byte order": (
        lambda whole: whole[:4] + b"\0\0\0\x03" + whole[8:],
        "is GGUF version 50331648",
    ),
    "a cut header": (lambda whole: whole[:5000], "ends inside its header, after 5000 bytes"),
    "cut tensors": (lambda whole: whole[: len(whole) // 2], "it is incomplete or damaged"),
    "endless values": (
        lambda whole: whole[:16] + b"\xff" * 8 + whole[24:],
        "in its header",
    ),
    "endless tensors": (
        lambda whole: whole[:8] + b"\xff" * 7 + b"\x7f" + whole[16:],
        "tensors in its header, which cannot fit in it",
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_a_damaged_file_is_refused_with_what_is_wrong(
    tiny: Path, tmp_path: Path, name: str
) -> None:
    """The sentence names the file and the damage."""
    damage, expected = CUT[name]
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(tiny.read_bytes()))
    error = refused(path)
    assert "damaged.gguf" in str(error)
    assert expected in str(error)
    assert error.hint


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": ({"arch": "nonsense"}, "unknown model architecture: 'nonsense'"),
    "no context": (
        {"extra": {"llama.context_length": 0}},
        "was made for contexts of 0 tokens, 512 are asked for",
    ),
    "no blocks": ({"extra": {"llama.block_count": 0}}, "0 layers, not 1 to 512"),
    "too many blocks": ({"extra": {"llama.block_count": 1000}}, "1,000 layers, not 1 to 512"),
    "a million blocks": ({"extra": {"llama.block_count": 1_000_000}}, "1,000,000 layers, not"),
    "a million experts": (
        {"extra": {"llama.expert_count": 10**6, "llama.expert_used_count": 10**6}},
        "1,000,000 experts, more than 1,024",
    ),
    "negative sizes": (
        {
            "extra": {
                "llama.attention.head_count": -1,
                "llama.attention.head_count_kv": -(10**6),
                "llama.feed_forward_length": -(10**6),
            }
        },
        "-1,000,000 heads of keys for -1 of queries",
    ),
    "another hidden size": ({"extra": {"llama.embedding_length": 512}}, "the engine refused it"),
    "no tokens": ({"extra": {"tokenizer.ggml.tokens": None}}, "cannot find tokenizer vocab"),
    "no way to split words": ({"extra": {"tokenizer.ggml.pre": None}}, "tokenizer.ggml.pre"),
    "an end token out of range": (
        {"extra": {"tokenizer.ggml.eos_token_id": 10**6}},
        "its eos token is number 1000000 of 511",
    ),
    "half-precision norms": (
        {"norm_type": np.float16},
        "the norm 'blk.0.attn_norm.weight' in F16, not F32",
    ),
    "weights that are no numbers": (
        {"damage": {"output_norm.weight": np.full(256, np.nan, np.float32)}},
        "tensor 'output_norm.weight' has invalid data",
    ),
    "two tokens with one text": (
        {"extra": {"tokenizer.ggml.tokens": [*vocabulary()[0][:1], *vocabulary()[0][:-1]]}},
        "a vocabulary in which tokens occur twice",
    ),
    "double-precision weights": (
        {"damage": {"output.weight": np.zeros((len(vocabulary()[0]), 256), np.float64)}},
        "the weights 'output.weight' in F64",
    ),
    "weights of a type nothing computes with": (
        {"damage": {"output.weight": np.zeros((len(vocabulary()[0]), 256), np.int32)}},
        "the weights 'output.weight' in I32",
    ),
    "a template nested too deep": (
        {"template": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}"},
        "a chat template that cannot be compiled",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_model_that_breaks_the_engine_is_refused(tmp_path: Path, name: str) -> None:
    """Absurd hyper-parameters, types and templates cost a child at most, and the reason is told."""
    changes, expected = WRONG[name]
    error = refused(tiny_model(tmp_path / "wrong.gguf", **changes))
    assert "wrong.gguf" in str(error)
    assert expected in str(error)
    assert "/workspace/" not in str(error)


async def scores(made: Supervisor) -> EngineError | None:
    """What asking a scorer ends with, None for numbers."""
    try:
        async with made.lease() as lease:
            client = ScoringClient(lease, epitaph=lambda: made.epitaph(lease))
            request = ScoreRequest((1, 2, 3), ("my card",), (4,), (((5,),), ((6,),)))
            await client.score(request, timeout_s=20)
    except EngineError as error:
        return error
    return None


def test_no_damaged_file_does_harm_to_scoring(tiny: Path, tmp_path: Path) -> None:
    """It is refused, costs a child that says what ended it, or is scored where the damage does not matter."""
    paths = [tmp_path / f"{number}.gguf" for number in range(len(CUT) + len(WRONG))]
    for path, (damage, _) in zip(paths, CUT.values(), strict=False):
        path.write_bytes(damage(tiny.read_bytes()))
    for path, (changes, _) in zip(paths[len(CUT) :], WRONG.values(), strict=True):
        tiny_model(path, **changes)
    names = dict(zip(paths, (*CUT, *WRONG), strict=True))
    harmless = set[str]()

    async def scene(some: list[Path]) -> None:
        for path in some:
            made = Supervisor(parameters(path), Role.SCORER, QUICK)
            try:
                error = await scores(made)
                if error is None:
                    harmless.add(names[path])
                else:
                    assert path.name in str(error) or "the engine process was ended by" in str(
                        error
                    )
            finally:
                await made.aclose()

    run(together(scene(paths[start::3]) for start in range(3)))
    assert harmless <= {
        "a template nested too deep",
        "weights that are no numbers",
        "half-precision norms",
    }


def test_a_file_that_is_cut_while_it_is_loaded_costs_an_error(tmp_path: Path) -> None:
    """Its pages are gone from under the engine: the child ends, its caller and the next one learn why."""
    path = tiny_model(tmp_path / "server.gguf")

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineUnavailable, match="was ended by SIGBUS"):
            async for _ in engine.stream(question(max_tokens=1500, grammar='root ::= "a" root')):
                os.truncate(path, 4096)
        with pytest.raises(EngineUnavailable):
            await engine.generate(question())

    using(path, work, load={"context": 2048})


def test_a_file_that_is_cut_while_it_is_loaded_costs_scoring_an_error(tmp_path: Path) -> None:
    """Its caller learns what ended the child, the next one what is wrong with the file."""
    path = tiny_model(tmp_path / "scorer.gguf")

    async def scene() -> None:
        made = Supervisor(parameters(path), Role.SCORER, QUICK)
        try:
            async with made.lease() as lease:
                os.truncate(path, 4096)
                client = ScoringClient(lease, epitaph=lambda: made.epitaph(lease))
                request = ScoreRequest((1,), ("my card",), (4,), (((5,),), ((6,),)))
                with pytest.raises(EngineUnavailable, match="was ended by SIGBUS"):
                    await client.score(request, timeout_s=20)
            assert "ends inside its header" in str(await refusal(made))
        finally:
            await made.aclose()

    run(scene())


def test_a_model_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    """The start-up limit ends the child."""
    error = refused(tiny_model(tmp_path / "slow.gguf"), start_s=0.01)
    assert str(error) == (
        "the model 'slow.gguf' could not be loaded: "
        "the engine process was ended because it was not ready after 0.01 s"
    )


def test_a_template_that_runs_away_never_reaches_the_engine(tmp_path: Path) -> None:
    """It would loop there for hours."""
    loop = "{% for i in range(9000) %}{% for j in range(9000) %}x{% endfor %}{% endfor %}"
    error = refused(tiny_model(tmp_path / "loop.gguf", template=loop))
    assert "blocked: " in str(error)
    assert "it ran out of fuel on a short conversation (tokenizer.chat_template)" in str(error)


def test_no_flipped_bit_does_harm(tiny: Path, tmp_path: Path) -> None:
    """Of four damaged copies each is refused or answers; the whole file still loads."""
    chance = random.Random(7)
    whole = tiny.read_bytes()
    tensors = whole.index(b"output_norm.weight")
    for number in range(4):
        damaged = bytearray(whole)
        # Half of them where the parent reads, half in what only the engine does.
        low, high = (24, tensors) if number % 2 else (tensors - 1200, tensors + 200)
        for _ in range(1 if number < 2 else 8):
            damaged[chance.randrange(low, high)] ^= 1 << chance.randrange(8)
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(damaged)
        try:
            answers(path, start_s=5.0)
        except EngineUnavailable as error:
            assert f"{number}.gguf" in str(error)  # an answer is as good
    assert answers(tiny)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and a pipe."""
    assert "does not exist" in str(refused(tmp_path / "none.gguf"))
    assert "is not a regular file" in str(refused(tmp_path))
    assert "is not a regular file" in str(refused(Path("/dev/zero")))


BOUNDS: dict[str, tuple[dict[str, Any], str]] = {
    "no slots": ({"slots": 0}, "slots = 0 is not within 1 and 256"),
    "a million slots": ({"slots": 1_000_000}, "slots = 1000000 is not within"),
    "no batch": ({"batch_tokens": 0}, "batch_tokens = 0 is not within"),
    "a negative batch": ({"batch_tokens": -1}, "batch_tokens = -1 is not within"),
    "no context": ({"context": 0}, "context = 0 is not within"),
    "too long a context": ({"context": 4096}, "contexts of 2048 tokens, 4096 are asked for"),
    "a context beyond all bounds": ({"context": 2**31 - 1}, "context = 2147483647 is not within"),
    "no threads": ({"threads": 0}, "threads = 0 is not within"),
    "a cache that needs flash attention": (
        {"kv_type": "q8_0", "flash_attention": "off"},
        "kv_type = 'q8_0' needs flash attention, which is off",
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_parameters_that_hang_or_crash_the_engine_never_reach_it(tiny: Path, name: str) -> None:
    """Each of them ended or stopped a bare engine."""
    changes, expected = BOUNDS[name]
    kinds = {"kv_type": KvType, "flash_attention": FlashAttention}
    typed = {key: kinds[key](value) if key in kinds else value for key, value in changes.items()}
    assert expected in str(refused(tiny, **typed))


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_a_quantised_cache_loads(tiny: Path, kind: str) -> None:
    """Both types can be had."""
    assert answers(tiny, kv_type=KvType(kind))


def test_an_adapter_is_checked_against_its_model(tiny: Path, tmp_path: Path) -> None:
    """A right one loads; one of another size, one that is none and one that is missing are refused."""
    right = tiny_lora(tmp_path / "right.gguf")
    other = tiny_lora(tmp_path / "other.gguf", dim=512)
    assert answers(tiny, adapters=(Adapter("a", str(right)),)) == answers(tiny)
    assert "is not a model but of the type 'adapter'" in str(refused(right))
    assert "is not a LoRA adapter" in str(refused(tiny, adapters=(Adapter("a", str(tiny)),)))
    assert "does not exist" in str(refused(tiny, adapters=(Adapter("a", str(tmp_path / "no")),)))
    assert "the engine refused it" in str(refused(tiny, adapters=(Adapter("a", str(other)),)))


def test_a_model_larger_than_the_machine_is_refused(tiny: Path) -> None:
    """The sentence says how much it needs and how much there is."""

    async def scene() -> str:
        made = Supervisor(
            parameters(tiny), Role.SERVER, QUICK, memory=lambda: Memory(48 << 20, 48 << 20)
        )
        return str(await refusal(made))

    assert "of memory with 2 × 512 tokens of context, this machine has 48 MiB" in run(scene())


def test_a_model_that_outgrows_its_limit_fails_alone(tmp_path: Path) -> None:
    """The address space is bounded: a child that needs more ends, with a reason, and takes nobody with it."""
    path = tiny_model(tmp_path / "long.gguf", context=600_000)
    error = refused(path, context=600_000, slots=1, memory_mib=512)
    assert "could not be loaded: the engine" in str(error)


def test_a_failed_load_is_not_repeated_until_the_file_changes(tiny: Path, tmp_path: Path) -> None:
    """The reason comes back at once; a mended file is loaded at once."""
    path = tiny_model(tmp_path / "model.gguf", arch="nonsense")

    async def scene() -> None:
        made = Supervisor(parameters(path), Role.SERVER, QUICK)
        try:
            first = await refusal(made)
            assert "unknown model architecture" in str(first)
            again = await refusal(made)
            assert "is not started again for another" in str(again)
            assert "unknown model architecture" in str(again)
            replace(path, tiny)
            async with made.lease() as lease:
                assert (await ask(lease))["tokens_predicted"] == 4
        finally:
            await made.aclose()

    run(scene())


def replace(path: Path, source: Path) -> None:
    """Put another file in the place of one."""
    new = path.with_suffix(".new")
    new.write_bytes(source.read_bytes())
    new.replace(path)


def test_a_replaced_file_is_loaded_once_its_leases_end(tiny: Path, tmp_path: Path) -> None:
    """A lease keeps the model it began with; the next one gets the new model."""
    path = tmp_path / "model.gguf"
    replace(path, tiny)
    other = tiny_model(tmp_path / "other.gguf", seed=1)
    before, after = answers(tiny), answers(other)

    async def text(made: Supervisor) -> str:
        async with made.lease() as lease:
            return str((await ask(lease))["content"])

    async def scene() -> None:
        made = Supervisor(parameters(path), Role.SERVER, QUICK)
        try:
            async with made.lease() as lease:
                replace(path, other)
                waiting = asyncio.create_task(text(made))
                await asyncio.sleep(0.05)
                assert (await ask(lease))["content"] == before
            assert await waiting == after
            assert made.epitaph(lease) == (
                "the engine process was ended because its model file was replaced"
            )
        finally:
            await made.aclose()

    assert before != after
    run(scene())


def test_a_removed_file_matters_when_it_is_loaded_again(tiny: Path, tmp_path: Path) -> None:
    """A loaded model keeps answering; once unloaded it cannot come back, and the sentence says why."""
    path = tmp_path / "model.gguf"
    replace(path, tiny)

    async def scene() -> None:
        made = Supervisor(parameters(path), Role.SERVER, QUICK)
        try:
            async with made.lease():
                path.unlink()
            async with made.lease() as lease:
                assert (await ask(lease))["tokens_predicted"] == 4
            assert await made.unload("the test wants it")
            assert "does not exist" in str(await refusal(made))
        finally:
            await made.aclose()

    run(scene())


def test_a_failed_start_leaves_no_process(tiny: Path, tmp_path: Path) -> None:
    """The child of a failed load is gone when the error is there."""

    async def scene() -> None:
        child = ChildProcess(
            parameters(tmp_path / "none.gguf"),
            Role.SERVER,
            folder=tmp_path,
            generation=1,
            address_space=None,
        )
        assert not await child.loaded(within_s=20)
        assert await child.gone()
        assert not running(child.pid)
        assert "failed to open GGUF file" in (child.epitaph() or "")

    run(scene())
