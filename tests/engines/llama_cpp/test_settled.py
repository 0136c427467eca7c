"""What an engine finds out before it is relied on: how labels are scored, what evidence there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedded import TRIAGE, ask, classify, using

from gguf_models import tiny_lora, tiny_model, vocabulary
from rung.config import Pooling
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.parameters import Adapter
from rung.engines.protocol import Support
from rung.errors import EngineProtocolError, EngineRefused, EngineUnavailable, EngineUnsupported
from rung.task import Kind, Task

NOTE = Task(name="note", kind=Kind.CHAT)


def test_how_labels_are_scored_is_known_before_the_first_and_stays_so(
    recurrent: Path,
) -> None:
    """A model whose prompts share nothing is asked through the server, and its identity says so from the start."""

    async def work(engine: LlamaCppEngine) -> None:
        assert await engine.evidence(TRIAGE) == "labels server, probabilities yes"
        before = engine.identity(TRIAGE)
        assert before["labels"] == "server"
        answer = await engine.classify(classify("my card"))
        assert not answer.failures
        assert engine.identity(TRIAGE) == before
        await engine.aclose()
        assert engine.identity(TRIAGE) == before

    using(recurrent, work)


def test_the_first_labels_are_scored_as_all_others(recurrent: Path) -> None:
    """Also where nobody asked for the evidence."""

    async def work(engine: LlamaCppEngine) -> None:
        assert not (await engine.classify(classify("my card"))).failures
        assert engine.identity(TRIAGE)["labels"] == "server"

    using(recurrent, work)


def test_only_what_a_task_needs_is_loaded_to_find_its_evidence(tiny: Path) -> None:
    """Labels need the scorer, text needs the server."""

    async def work(engine: LlamaCppEngine) -> None:
        assert await engine.evidence(TRIAGE) == "labels direct, probabilities yes"
        assert (engine._server.pid, engine._scorer.pid is None) == (None, False)
        assert await engine.evidence(NOTE) == "logprobs yes, schema yes (gbnf)"
        assert engine._server.pid is not None

    using(tiny, work)


def test_a_model_that_cannot_be_loaded_has_no_evidence(tmp_path: Path) -> None:
    """It is said as an error, so that nothing is remembered of it."""

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineUnavailable, match="gone"):
            await engine.evidence(TRIAGE)

    using(tmp_path / "gone.gguf", work)


def test_a_model_whose_numbers_overflow_has_no_probabilities(tmp_path: Path) -> None:
    """What it cannot do is found by asking, and each request is a typed error."""
    path = tiny_model(
        tmp_path / "inf.gguf", damage={"output_norm.weight": np.full(256, 3e38, np.float32)}
    )

    async def work(engine: LlamaCppEngine) -> None:
        assert await engine.evidence(TRIAGE) == "labels direct, probabilities no"
        found = await engine.capabilities()
        assert (found.classify, found.logprobs) == (Support.NO, Support.NO)
        (failure,) = (await engine.classify(classify("my card"))).failures.values()
        assert "no number" in str(failure)

    async def embeds(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineProtocolError, match=r"not its protocol|not numbers"):
            await engine.embed(("my card",))

    using(path, work)
    using(path, embeds, load={"pooling": Pooling.MEAN})


def test_a_rung_with_an_adapter_does_not_embed(tiny: Path, tmp_path: Path) -> None:
    """Embeddings are made without it, so they would be another model's."""
    lora = tiny_lora(tmp_path / "lora.gguf", scale=3.0)
    load = {"adapters": (Adapter("loud", str(lora)),), "pooling": Pooling.MEAN}

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineUnsupported, match="made without adapters, and this rung has"):
            await engine.embed(("my card",))
        assert (await engine.capabilities()).embed is Support.NO

    async def without(engine: LlamaCppEngine) -> None:
        assert (await engine.embed(("my card",))).shape == (1, 256)

    using(tiny, work, load=load, adapter="loud")
    using(tiny, without, load=load)


def test_a_text_that_spells_the_format_fails_alone(tmp_path: Path) -> None:
    """Where a template's mark is a token in plain text too, the other texts are scored, and the same way as ever."""
    mark = "<|im_start|>"
    tokens, types, _ = vocabulary()
    types[tokens.index(mark)] = 4  # user-defined: read wherever it stands
    path = tiny_model(tmp_path / "marked.gguf", extra={"tokenizer.ggml.token_type": types})

    async def work(engine: LlamaCppEngine) -> None:
        alone = await engine.classify(classify("my card"))
        both = await engine.classify(classify("my card", f"my {mark} card"))
        assert set(both.failures) == {1}
        assert "shapes its conversations" in str(both.failures[1])
        np.testing.assert_allclose(both.probabilities[0], alone.probabilities[0], rtol=1e-2)
        assert engine._server.pid is None

    using(path, work)


@pytest.mark.parametrize(
    "changes",
    [
        {"stop": ("\ud800",)},
        {"grammar": 'root ::= "\ud800"'},
        {"grammar": '%llguidance {}\nstart: "\ud800"'},
        {"schema": '{"enum":["\ud800"]}'},
        {"schema": '{"const":"\\ud800"}'},
    ],
    ids=["stop", "gbnf", "llguidance", "schema", "escaped"],
)
def test_half_a_character_is_refused_wherever_it_stands(
    tiny: Path, changes: dict[str, object]
) -> None:
    """Never an error of the encoder; nothing is loaded for it."""

    async def work(engine: LlamaCppEngine) -> None:
        with pytest.raises(EngineRefused):
            await engine.generate(ask(**changes))

    using(tiny, work)
