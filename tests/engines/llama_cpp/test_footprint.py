"""One estimate before the start; what the child then takes is kept and used the next time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from supervised import ask, parameters, pid_of, run

from gguf_models import tiny_model
from rung.config import FlashAttention, KvType
from rung.engines.llama_cpp.answer import Timings
from rung.engines.llama_cpp.build import engine_build
from rung.engines.llama_cpp.footprint import Footprint, run_of
from rung.engines.llama_cpp.observation import peak_rss
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.scoring.scorer import SEQUENCES
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.engines.llama_cpp.tiny_start import process_reserve
from rung.errors import ModelError
from rung.models.fit.measured import SCORER, Measured, Measurements
from rung.models.fit.run import Run
from rung.models.shards import read_model

MIB = 1024 * 1024


def build() -> str:
    """The engine's, which is installed for tests."""
    found = engine_build()
    assert found is not None
    return found


def test_parameters_are_a_run() -> None:
    """The server's slots have a context each; the scorer's sequences share one, windows included."""
    asked = ModelParameters(path="m.gguf", context=1024, slots=3, batch_tokens=256, threads=4)
    assert run_of(asked, Role.SERVER) == Run(
        context=3072, slots=3, ubatch=256, batch=256, gpu_layers=0
    )
    assert run_of(asked, Role.SCORER) == Run(
        context=1024,
        slots=SEQUENCES,
        unified=True,
        ubatch=256,
        batch=1024,
        gpu_layers=0,
        swa_full=True,
    )


def test_types_and_flash_attention_are_taken_over() -> None:
    """What the engine decides by itself is on."""
    asked = ModelParameters(path="m.gguf", kv_type=KvType.Q4_0)
    assert run_of(asked, Role.SERVER).type_k == run_of(asked, Role.SERVER).type_v == "q4_0"
    assert run_of(asked, Role.SERVER).flash_attention
    off = ModelParameters(path="m.gguf", flash_attention=FlashAttention.OFF)
    assert not run_of(off, Role.SERVER).flash_attention


@pytest.mark.parametrize("role", list(Role))
def test_the_limit_leaves_room_above_the_estimate(tiny: Path, role: Role) -> None:
    """A limit that is met ends a child that works."""
    made = Footprint(read_model(tiny), parameters(tiny), role)
    assert made.limit > made.needed * 5 // 4
    assert made.reserved > 1024 * MIB + made.files
    assert made.files == tiny.stat().st_size


def test_what_was_measured_takes_the_place_of_rules(tiny: Path, tmp_path: Path) -> None:
    """For the same model, run, build and role; a peak that was seen is the least that is needed."""
    headers, kept = read_model(tiny), Measurements(tmp_path)
    by_rules = Footprint(headers, parameters(tiny))
    seen = Measured(engine=build(), backend="cpu", peak_rss=by_rules.needed + 100 * MIB, at="2026")
    kept.record(by_rules.key, by_rules.run, seen)
    assert Footprint(headers, parameters(tiny), measurements=kept).needed == seen.peak_rss
    other = parameters(tiny, slots=1)
    assert Footprint(headers, other, measurements=kept).needed < by_rules.needed
    scorer = Footprint(headers, parameters(tiny), Role.SCORER, kept)
    assert scorer.needed < by_rules.needed + 50 * MIB


def test_a_child_takes_no_more_than_was_thought(tiny: Path, tmp_path: Path) -> None:
    """With a full context in every slot; its caches are as large as they were thought to be, to a hundredth MiB."""
    asked, kept = parameters(tiny), Measurements(tmp_path)

    async def scene() -> tuple[int, int | None]:
        made = Supervisor(asked, Role.SERVER, measurements=kept)
        async with made.lease() as lease:
            for slot in range(2):
                await ask(lease, prompt=list(range(100)) * 5, id_slot=slot)
            taken = peak_rss(pid_of(made)), made.memory_bytes
        await made.aclose()
        return taken[1], taken[0]

    thought, peak = run(scene())
    assert peak is not None
    assert 0.75 * thought < peak <= thought
    made = Footprint(read_model(tiny), asked)
    found = kept.find(made.key, made.run, build())
    assert found is not None
    assert found.peak_rss == peak
    assert found.cache == {"CPU": 2 * MIB}
    again = Footprint(read_model(tiny), asked, measurements=kept)
    assert peak <= again.needed < thought  # the process is known, too


def test_the_fastest_answer_that_was_alone_is_kept(tiny: Path, tmp_path: Path) -> None:
    """By the child's clock; short answers and those beside others say nothing."""
    asked, kept = parameters(tiny), Measurements(tmp_path)

    async def scene() -> None:
        made = Supervisor(asked, Role.SERVER, measurements=kept)
        async with made.lease() as lease:
            made.answered_in(
                lease, Timings(prompt_n=128, prompt_ms=640, predicted_n=17, predicted_ms=200)
            )
            made.answered_in(
                lease, Timings(prompt_n=300, prompt_ms=9000, predicted_n=33, predicted_ms=900)
            )
            made.answered_in(
                lease, Timings(prompt_n=9, prompt_ms=0.1, predicted_n=8, predicted_ms=0.1)
            )
            async with made.lease() as other:
                fast = Timings(prompt_n=999, prompt_ms=1, predicted_n=999, predicted_ms=1)
                made.answered_in(other, fast)
        await made.aclose()

    run(scene())
    made = Footprint(read_model(tiny), asked)
    found = kept.find(made.key, made.run, build())
    assert found is not None
    assert (found.tokens_per_s, found.prompt_tokens_per_s) == (80.0, 200.0)


def test_a_scorer_is_measured_as_such(tiny: Path, tmp_path: Path) -> None:
    """Its buffers are not the server's."""
    asked, kept = parameters(tiny), Measurements(tmp_path)

    async def scene() -> int | None:
        made = Supervisor(asked, Role.SCORER, measurements=kept)
        async with made.lease():
            peak = peak_rss(pid_of(made))
        await made.aclose()
        return peak

    peak = run(scene())
    made = Footprint(read_model(tiny), asked, Role.SCORER)
    found = kept.find(made.key, made.run, build(), role=SCORER)
    assert found is not None
    assert found.cache == {"CPU": MIB}
    assert found.peak_rss == peak
    assert kept.process_reserve(build()) is None  # of a server


def test_a_start_does_not_need_a_place_for_measurements(tiny: Path, tmp_path: Path) -> None:
    """It answers all the same."""
    (tmp_path / "file").write_text("no folder")

    async def scene() -> object:
        kept = Measurements(tmp_path / "file" / "measured")
        made = Supervisor(parameters(tiny), Role.SERVER, measurements=kept)
        async with made.lease() as lease:
            answer = await ask(lease)
        await made.aclose()
        return answer["content"]

    assert run(scene())


def test_the_process_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model that comes with Rung; afterwards no child is started for it."""
    kept = Measurements(tmp_path)
    taken = run(process_reserve(kept))
    assert taken is not None
    assert 20 * MIB < taken < 70 * MIB
    monkeypatch.setattr("sys.executable", "/no/such/interpreter")
    assert run(process_reserve(kept)) == taken


def test_a_process_that_is_gone_has_no_peak() -> None:
    """Nor is it an error to ask."""
    assert peak_rss(2**22 + 1) is None


def test_equal_parameters_are_kept_under_one_key(tiny: Path) -> None:
    """Whoever asks."""
    first, again = (Footprint(read_model(tiny), parameters(tiny)) for _ in range(2))
    assert first.key == again.key
    assert msgspec.json.encode(first.run) == msgspec.json.encode(again.run)


def test_a_cache_that_the_engine_would_refuse_is_said_to_be_the_models_fault(
    tmp_path: Path,
) -> None:
    """Heads of 16 elements are no whole number of blocks of 32; health and starts go by such errors."""
    path = tiny_model(
        tmp_path / "narrow.gguf",
        dim=256,
        extra={"llama.attention.head_count": 16, "llama.attention.head_count_kv": 16},
    )
    wanted = ModelParameters(path=str(path), context=512, kv_type=KvType.Q8_0)
    with pytest.raises(ModelError, match="blocks of 32 do not divide the heads of 16 elements"):
        Footprint(read_model(path), wanted)
    fine = ModelParameters(path=str(path), context=512)
    assert Footprint(read_model(path), fine).needed > 0
