"""A model file that is replaced under a running project: nothing is answered with weights that nobody measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from embedded import TRIAGE, ask, classify, using

from gguf_models import tiny_lora, tiny_model
from projects import examples, write_project, write_suite
from rung.blocking import run_blocking
from rung.cli import root as command_line
from rung.engines.llama_cpp import digests
from rung.engines.llama_cpp.digests import file_digest, parts_of
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.parameters import Adapter
from rung.engines.protocol import State
from rung.errors import EngineUnavailable
from rung.ladder import Ladder
from rung.project import Project
from rung.receipt import Answer
from rung.task import Request

EMBEDDED = """
[rungs.local]
engine = "llama_cpp"
model = "model.gguf"
where = "device"
accept = "certified"
load = { context = 512, slots = 1, threads = 1 }
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights of the same shape."""
    return tiny_model(tmp_path_factory.mktemp("models") / "other.gguf", seed=1)


def put(source: Path, target: Path) -> None:
    """Replace a file the way downloads do."""
    fresh = target.with_name("fresh")
    fresh.write_bytes(source.read_bytes())
    fresh.replace(target)


def test_a_certificate_says_nothing_of_a_file_that_came_later(
    tiny: Path, other: Path, tmp_path: Path
) -> None:
    """An open ladder stops answering when the file is replaced, and so does one that is opened afterwards."""
    config = write_project(tmp_path, EMBEDDED, ("local",))
    model = tmp_path / "model.gguf"
    put(tiny, model)
    texts = [text for text, _ in examples(60, seed=5)]

    async def labels() -> list[str]:
        """What the model says: truth enough for it to be certified."""
        project = Project.open(config)
        task = project.task("triage")
        found = await project.rung("local", task).engine.classify(
            classify(*texts, task=task, timeout_s=60)
        )
        await project.aclose()
        return [task.label_names[index] for index in found.chosen]

    suite = write_suite(tmp_path / "suite.jsonl", zip(texts, run_blocking(labels()), strict=True))
    done = CliRunner().invoke(
        command_line,
        ["calibrate", "triage", "--on", str(suite), "--config", str(config), "--yes"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output

    async def swapped() -> tuple[Answer, Answer]:
        async with await Ladder.open(config) as ladder:
            before = await ladder.run(Request("triage", texts[0]))
            put(other, model)
            return before, await ladder.run(Request("triage", texts[1]))

    before, after = run_blocking(swapped())
    assert before.answered
    assert not after.answered
    assert "replaced" in after.receipt.attempts[0].reason

    async def later() -> Answer:
        async with await Ladder.open(config) as ladder:
            return await ladder.run(Request("triage", texts[1]))

    assert not run_blocking(later()).answered


def test_an_engine_keeps_to_the_files_it_met_first(tiny: Path, other: Path, tmp_path: Path) -> None:
    """Text, labels and identity alike, closed in between or not; with the old file back it goes on."""
    model = tmp_path / "model.gguf"
    put(tiny, model)
    kept = tmp_path / "kept.gguf"

    async def work(engine: LlamaCppEngine) -> None:
        first = await engine.generate(ask(max_tokens=2))
        model.rename(kept)
        assert await engine.generate(ask(max_tokens=2)) is not None  # it is loaded
        put(other, model)
        pid = engine._server.pid
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match="was replaced"):
                await engine.generate(ask(max_tokens=2))
            (failure,) = (await engine.classify(classify("my card"))).failures.values()
            assert "was replaced" in str(failure)
            with pytest.raises(EngineUnavailable, match="was replaced"):
                engine.identity(TRIAGE)
            assert (await engine.health()).state is State.DOWN
            await engine.aclose()
        assert engine._server.pid == pid  # nothing was loaded only to be refused
        kept.replace(model)
        assert (await engine.generate(ask(max_tokens=2))).text == first.text

    using(model, work)


def test_an_adapter_is_pinned_like_its_model(tiny: Path, tmp_path: Path) -> None:
    """Replaced after it was identified, and before anything was loaded."""
    lora = tiny_lora(tmp_path / "lora.gguf", scale=3.0)

    async def work(engine: LlamaCppEngine) -> None:
        engine.identity(TRIAGE)
        put(tiny_lora(tmp_path / "louder.gguf", scale=9.0), lora)
        with pytest.raises(EngineUnavailable, match="was replaced"):
            await engine.generate(ask(max_tokens=2))

    using(tiny, work, load={"adapters": (Adapter("loud", str(lora)),)}, adapter="loud")


def test_every_part_of_a_split_model_counts(tiny: Path, tmp_path: Path) -> None:
    """In the identity, and for whether it was replaced; a name that only looks like a part's is one file."""
    first, second = (tmp_path / f"model-0000{number}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(tiny.read_bytes())
    second.write_bytes(b"weights")
    assert parts_of(str(first)) == (str(first), str(second))
    assert parts_of(str(second)) == (str(second),)

    def digest() -> str:
        async def work(engine: LlamaCppEngine) -> str:
            return engine.identity(TRIAGE)["model"]

        return using(first, work)

    async def swapped(engine: LlamaCppEngine) -> None:
        engine.identity(TRIAGE)
        second.write_bytes(b"more weights")
        with pytest.raises(EngineUnavailable, match="was replaced"):
            await engine.generate(ask())

    whole = digest()
    using(first, swapped)
    changed = digest()
    assert len({whole, changed, file_digest(str(first))}) == 3
    second.unlink()
    assert digest() == file_digest(str(first))


def test_asking_for_the_evidence_leaves_the_digests_known(tiny: Path, tmp_path: Path) -> None:
    """It reads the file in a thread; the identity, which cannot wait for one, then reads nothing."""
    model = tmp_path / "model.gguf"
    put(tiny, model)

    async def work(engine: LlamaCppEngine) -> None:
        await engine.evidence(TRIAGE)
        read = digests._digest.cache_info().misses
        engine.identity(TRIAGE)
        assert digests._digest.cache_info().misses == read

    using(model, work)
