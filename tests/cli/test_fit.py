"""`rung fit` as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click import UsageError
from click.testing import CliRunner, Result

from fit_parts import GIB, MIB, sparse_model
from gguf_models import tiny_model
from hub import MODEL_LAYER, PROJECTOR_LAYER, Hub
from rung.cli import root as command_line
from rung.config import KvType
from rung.engines.llama_cpp.build import engine_build
from rung.engines.llama_cpp.footprint import run_of
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.errors import InputError, ModelError, RungError, SourceError
from rung.models.fit.measured import Measured, Measurements, model_key
from rung.models.fit.remedies import Lever
from rung.models.hardware.profiles import profile_names
from rung.models.shards import read_model

TAGS = {"exact", "rule", "measured", "unknown"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of 2.1 GiB that takes no room, a tiny one, and things that are no model."""
    folder = tmp_path_factory.mktemp("fit")
    sparse_model(folder / "qwen3-4b.gguf")
    sparse_model(folder / "qwen3-short.gguf", layers=4)
    sparse_model(folder / "novel.gguf", layers=2, architecture="novel", name="Novel")
    tiny_model(folder / "tiny.gguf")
    (folder / "notes.gguf").write_text("not a model\n")
    (folder / "cut.gguf").write_bytes((folder / "tiny.gguf").read_bytes()[:500])
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))


def fit(*words: str | Path | int) -> Result:
    """The command in this process."""
    return CliRunner().invoke(command_line, ["fit", *map(str, words)], standalone_mode=False)


def facts(*words: str | Path | int) -> dict[str, Any]:
    """What `--json` prints."""
    done = fit(*words, "--json")
    assert done.exception is None, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    assert next(iter(found.items())) == ("format", 1)
    return found


def refused(*words: str | Path | int) -> RungError:
    """The error that the command ends with."""
    done = fit(*words)
    assert isinstance(done.exception, RungError), done.output
    return done.exception


def test_a_model_that_fits_is_told_with_everything_it_takes(models: Path) -> None:
    """The verdict first, context, slots and types beside it, then what takes how much and how that is known."""
    done = fit(models / "qwen3-4b.gguf", "--on", "laptop-32gb")
    assert done.return_value == 0
    lines = done.output.splitlines()
    assert lines[0].startswith("fits · ")
    assert "GiB free would be used" in lines[0]
    assert "Qwen3-4B Q4_K_M · 4,096 tokens over 1 slot · KV f16" in lines[1]
    assert "laptop-32gb · rules llama.cpp-2026" in lines[1]
    told = {line[2:19].strip(): line for line in lines if line.startswith("  ")}
    assert "576.0 MiB   exact     144 KiB a token over 36 layers" in told["KV cache"]
    assert "exact     253 tensors, header read" in told["weights"]
    assert "second copies of Q4_K" in told["repacked weights"]
    assert "90 GB/s on CPU" in told["speed"]
    assert "unknown" in told["prompts"]
    assert "would help" not in done.output


def test_a_model_that_does_not_fit_ends_with_1_and_what_would_help(models: Path) -> None:
    """Each lever with what it saves and what it leads to."""
    done = fit(models / "qwen3-4b.gguf", "--ctx", 32_768, "--parallel", 4, "--on", "laptop-16gb")
    assert done.return_value == 0
    done = fit(models / "qwen3-4b.gguf", "--ctx", 32_768, "--parallel", 4, "--on", "laptop-8gb")
    assert done.return_value == 1
    lines = done.output.splitlines()
    assert lines[0].startswith("no · 8.9")
    assert lines[0].endswith("would be needed, 4.50 GiB are free")
    assert "32,768 tokens over 4 slots (8,192 each)" in lines[1]
    at = next(number for number, line in enumerate(lines) if "what would help" in line)
    assert any("--kv-type q8_0" in line and "2.11 GiB   no" in line for line in lines[at:])


def test_a_smaller_model_of_the_same_family_is_offered(models: Path) -> None:
    """Out of the catalogue, in its usual quantisation."""
    done = fit(models / "qwen3-4b.gguf", "--ctx", 8192, "--on", "phone", "--parallel", 2)
    found = facts(models / "qwen3-4b.gguf", "--ctx", 16_384, "--on", "laptop-8gb")
    assert done.exception is None
    names = [one["model"] for one in found["remedies"] if one["lever"] == Lever.SMALLER]
    assert names
    assert all("wen3" in name for name in names)


def test_where_the_family_has_nothing_near_the_next_smaller_model_is_offered(models: Path) -> None:
    """Not one that is ten times smaller, because its maker makes no other."""
    sparse_model(
        models / "llama-70b.gguf",
        layers=80,
        embedding=8192,
        feed_forward=28_672,
        heads=64,
        vocabulary=128_256,
        trained=131_072,
        architecture="llama",
        name="Llama 3.3 70B Instruct",
    )
    found = facts(models / "llama-70b.gguf", "--on", "rtx-4090")
    names = [one["model"] for one in found["remedies"] if one["lever"] == Lever.SMALLER]
    assert names
    assert not any("Llama" in name or "Mistral" in name for name in names)


def test_json_has_the_same_facts(models: Path) -> None:
    """Bytes, verdict, tags, run, machine and remedies."""
    found = facts(models / "qwen3-4b.gguf", "--ctx", 32_768, "--on", "laptop-8gb")
    estimate = found["estimate"]
    assert found["verdict"] == estimate["verdict"] == "no"
    assert found["needed"] == sum(part["amount"]["bytes"] for part in estimate["parts"])
    assert {part["amount"]["tag"] for part in estimate["parts"]} <= TAGS
    assert estimate["run"]["context"] == 32_768
    assert estimate["rules"] == "llama.cpp-2026"
    assert found["machine"]["name"] == "laptop-8gb"
    assert found["headroom"] == found["machine"]["devices"][0]["available"] - found["needed"]
    assert {"label", "saves", "verdict", "headroom"} <= set(found["remedies"][0])
    cache = next(part for part in estimate["parts"] if part["what"] == "KV cache")
    assert cache["amount"]["bytes"] == 36 * 32_768 * 4096


def test_this_machine_is_looked_at_unless_another_is_named(models: Path) -> None:
    """With its bandwidth measured, so that there is a speed."""
    found = facts(models / "tiny.gguf")
    assert found["machine"]["detected"]
    assert found["estimate"]["speed"]["tokens_per_s"] > 0
    assert found["estimate"]["run"]["context"] == 2048


def test_what_the_engine_measured_here_takes_the_place_of_rules(models: Path) -> None:
    """It is found under the very settings that the engine keeps it by, and by no others."""
    path = models / "tiny.gguf"
    parameters = ModelParameters(path=str(path), context=1024, slots=2, kv_type=KvType.Q8_0)
    build = engine_build()
    assert build is not None
    measured = Measured(
        engine=build, backend="cpu", compute={"CPU": 77 * MIB}, at="2026-11-02T10:00:00Z"
    )
    key = model_key(*read_model(path))
    assert Measurements().record(key, run_of(parameters, Role.SERVER), measured)
    words = (path, "--ctx", 2048, "--parallel", 2, "--kv-type", "q8_0", "--gpu-layers", 0)
    assert "77.0 MiB   measured  measured here on 2026-11-02" in fit(*words).output
    for other in (("--parallel", 1), ("--on", "laptop-8gb"), ("--ubatch", 256)):
        assert "measured here on 2026-11-02" not in fit(*words, *other).output


def test_a_speed_that_was_measured_here_takes_the_place_of_the_rules(models: Path) -> None:
    """Of writing and of reading prompts; until then it says what measures the second."""
    path = models / "tiny.gguf"
    words = (path, "--ctx", 1024, "--gpu-layers", 0)
    assert "a rung run with these settings" in fit(*words).output
    assert "rung run" not in fit(*words, "--on", "laptop-8gb").output
    build = engine_build()
    assert build is not None
    measured = Measured(
        engine=build,
        backend="cpu",
        tokens_per_s=61.0,
        prompt_tokens_per_s=432.0,
        at="2026-11-02T10:00:00Z",
    )
    run = run_of(ModelParameters(path=str(path), context=1024, slots=1), Role.SERVER)
    assert Measurements().record(model_key(*read_model(path)), run, measured)
    speed = facts(*words)["estimate"]["speed"]
    assert (speed["tokens_per_s"], speed["tag"], speed["band"]) == (61.0, "measured", 0.0)
    assert 0 < speed["full_tokens_per_s"] < 61
    told = {line.split()[0]: line for line in fit(*words).output.splitlines() if line.strip()}
    assert "61   measured  tokens a second, " in told["speed"]
    assert "432   measured" in told["prompts"]


def test_the_starter_is_a_model_too() -> None:
    """By its name, as everywhere."""
    found = facts("starter", "--on", "laptop-8gb")
    assert found["verdict"] == "fits"
    assert found["estimate"]["model"] == "rung-starter"


def test_a_card_that_is_too_small_spills_and_says_how_many_layers_it_holds(models: Path) -> None:
    """Both memories are listed; asked-for layers are placed so."""
    done = fit(models / "qwen3-4b.gguf", "--on", "rtx-4090", "--ctx", 40_960, "--parallel", 8)
    assert done.return_value == 0
    assert "  RTX 4090: " in done.output
    found = facts(models / "qwen3-4b.gguf", "--on", "rtx-4090", "--gpu-layers", 10)
    assert found["verdict"] == "spills"
    assert found["estimate"]["layers_on_card"] == 10
    text = fit(models / "qwen3-4b.gguf", "--on", "rtx-4090", "--gpu-layers", 10).output
    assert text.startswith("spills · 10 of 37 layers on the card")


def test_an_unknown_architecture_is_said_to_take_at_most_so_much(models: Path) -> None:
    """In the first line, and with its reason."""
    done = fit(models / "novel.gguf", "--on", "laptop-16gb")
    assert done.return_value == 0
    assert "at most" in done.output.splitlines()[0]
    assert "'novel' is not known" in done.output
    large = fit(models / "novel.gguf", "--on", "laptop-8gb", "--ctx", 900_000)
    assert large.return_value == 1
    assert large.output.startswith("no · up to ")
    assert "may be needed" in large.output.splitlines()[0]
    assert done.output.count("is not known: every layer") == 1
    assert "low confidence: \n" not in done.output


def test_a_state_that_nothing_is_known_of_leaves_no_upper_bound(tmp_path: Path) -> None:
    """The first line says "at least", and it never just fits."""
    path = tiny_model(
        tmp_path / "kimi.gguf", arch="kimi-linear", extra={"kimi-linear.kda.head_dim": 128}
    )
    done = fit(path, "--on", "laptop-16gb")
    assert done.output.startswith("tight · at least ")
    assert "kda.head_dim" in done.output


def test_remedies_start_from_what_was_measured_here(models: Path) -> None:
    """A "no" that was measured is not followed by silence, though the rules say that it fits."""
    path = models / "tiny.gguf"
    run = run_of(ModelParameters(path=str(path), context=2048, slots=4), Role.SERVER)
    build = engine_build()
    assert build is not None
    measured = Measured(
        engine=build, backend="cpu", compute={"CPU": 1 << 50}, at="2026-11-02T10:00:00Z"
    )
    assert Measurements().record(model_key(*read_model(path)), run, measured)
    words = (path, "--ctx", 8192, "--parallel", 4, "--gpu-layers", 0)
    found = facts(*words, "--sweep")
    assert found["verdict"] == "no"
    assert found["remedies"]
    assert {one["verdict"] for one in found["sweep"]} == {"no"}


def test_the_table_is_about_the_card_as_the_first_line_is(models: Path) -> None:
    """The same context has the same figure in both."""
    words = (models / "qwen3-4b.gguf", "--on", "rtx-4090", "--sweep")
    said = fit(*words).output
    figure = said.removeprefix("fits · ").partition(" of ")[0]
    table = said.partition("needed of RTX 4090")[2]
    (row,) = (line for line in table.splitlines() if line.lstrip().startswith("4,096 "))
    assert f"{figure} fits" in row


def test_options_that_would_be_passed_over_in_silence_are_refused(models: Path) -> None:
    """One machine at a time, and a list has no model."""
    for words, said in (
        ((models / "tiny.gguf", "--on", "laptop-8gb", "--on", "laptop-16gb"), "one machine"),
        ((models / "tiny.gguf", "--on", "laptop-8gb,laptop-16gb"), "one machine"),
        (("--profiles", "nosuch"), "takes no model"),
    ):
        error = fit(*words).exception
        assert isinstance(error, UsageError)
        assert said in error.message


def test_a_repository_without_its_source_is_recognised() -> None:
    """As web pages write it."""
    assert refused("Qwen/Qwen3-4B-GGUF").hint == "check the path, or write hf:Qwen/Qwen3-4B-GGUF"
    assert refused("models/none.gguf").hint == "check the path"


def test_a_sweep_is_a_table_of_contexts_and_slots(models: Path) -> None:
    """From 2,048 tokens to what the model was trained for."""
    done = fit(models / "qwen3-4b.gguf", "--on", "laptop-16gb", "--sweep")
    rows = [
        line.split()
        for line in done.output.splitlines()
        if line.strip().startswith(("2,048", "40,960"))
    ]
    assert [row[0] for row in rows] == ["2,048", "40,960"]
    assert rows[0][-1] == "fits"
    assert rows[1][-1] == "no"
    found = facts(models / "qwen3-4b.gguf", "--on", "laptop-16gb", "--sweep")
    assert len(found["sweep"]) == 6 * 3


@pytest.mark.parametrize("ending", [".svg", ".html"])
def test_a_plot_is_written_where_it_is_asked_for(models: Path, tmp_path: Path, ending: str) -> None:
    """It names the model, the memory that is free, and has a line for each number of slots."""
    file = tmp_path / f"plot{ending}"
    assert fit(models / "qwen3-4b.gguf", "--on", "apple-m5", "--plot", file).return_value == 0
    drawn = file.read_text(encoding="utf-8")
    assert "<svg" in drawn
    for words in ("Qwen3-4B", "17.76 GiB free", "1 slot", "4 slots", "tokens a slot"):
        assert words in drawn


def test_a_plot_is_said_to_be_written_and_no_folder_is_made_for_it(
    models: Path, tmp_path: Path
) -> None:
    """A folder that is missing is a mistake."""
    file = tmp_path / "plot.svg"
    done = fit(models / "qwen3-4b.gguf", "--on", "apple-m5", "--plot", file)
    assert done.output.rstrip().endswith(f"plot  {file}")
    assert facts(models / "qwen3-4b.gguf", "--on", "apple-m5", "--plot", file)["plot"] == str(file)
    error = refused(models / "qwen3-4b.gguf", "--plot", tmp_path / "none" / "plot.svg")
    assert "there is no folder" in error.message
    assert not (tmp_path / "none").exists()


def test_a_plot_of_another_kind_is_refused_before_any_work(models: Path, tmp_path: Path) -> None:
    """With the two kinds that there are."""
    error = refused(models / "qwen3-4b.gguf", "--plot", tmp_path / "plot.png")
    assert isinstance(error, InputError)
    assert "plot.png" in error.message
    assert error.hint is not None
    assert ".svg" in error.hint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.gguf"], "missing.gguf"),
        (["notes.gguf"], "notes.gguf"),
        (["cut.gguf"], "cut.gguf"),
        (["."], "is a folder"),
        (["/"], "is a folder"),
    ],
)
def test_a_file_that_is_no_model_is_one_sentence(models: Path, words: list[str], said: str) -> None:
    """With its name, and no traceback."""
    error = refused(*(models / word for word in words))
    assert isinstance(error, ModelError)
    assert said in error.message
    assert "\n" not in error.message


def test_settings_that_no_engine_takes_are_refused(models: Path) -> None:
    """Quantised values need flash attention; a machine and rules have names."""
    path = models / "qwen3-4b.gguf"
    error = refused(path, "--kv-type", "q8_0", "--flash-attn", "off")
    assert "need flash attention" in error.message
    assert "did you mean 'rtx-4090'?" in str(refused(path, "--on", "rtx-409").hint)
    assert "llama.cpp-2062" in refused(path, "--rules", "llama.cpp-2062").message


def test_keys_and_values_may_have_types_of_their_own(models: Path) -> None:
    """Shown beside the verdict."""
    done = fit(
        models / "qwen3-4b.gguf", "--on", "laptop-16gb", "--kv-type-k", "q8_0", "--kv-type-v", "f16"
    )
    assert "KV q8_0 and f16" in done.output


def test_slots_split_the_context_unless_they_share_it(models: Path) -> None:
    """The same cells in all."""
    words = (models / "qwen3-4b.gguf", "--on", "laptop-16gb", "--ctx", 8192, "--parallel", 4)
    assert "8,192 tokens over 4 slots (2,048 each)" in fit(*words).output
    assert "8,192 tokens over 4 slots (shared)" in fit(*words, "--unified").output


def test_tokens_that_cannot_be_split_over_the_slots_are_refused(models: Path) -> None:
    """A slot without a token is none; slots that share the tokens need no more."""
    words = (models / "qwen3-4b.gguf", "--on", "laptop-16gb", "--ctx", 10, "--parallel", 20)
    assert "10 tokens cannot be split over 20 slots" in refused(*words).message
    assert fit(*words, "--unified").exception is None


@pytest.mark.parametrize(
    ("words", "slots", "unified", "context"),
    [
        ((), 1, False, 4096),
        (("--rules", "rung"), 1, False, 4096),
        (("--rules", "llama.cpp"), 4, True, 4096),
        (("--rules", "llama.cpp", "--split"), 4, False, 16_384),
        (("--rules", "llama.cpp", "--parallel", 2), 2, False, 8192),
        (("--rules", "ollama"), 1, False, 4096),
    ],
)
def test_an_engines_server_has_the_slots_that_it_opens_unasked(
    models: Path, words: tuple[str | int, ...], slots: int, unified: bool, context: int
) -> None:
    """The engine within Rung opens one."""
    run = facts(models / "qwen3-4b.gguf", "--on", "laptop-16gb", *words)["estimate"]["run"]
    assert (run["slots"], run["unified"], run["context"]) == (slots, unified, context)


def test_settings_that_change_nothing_here_are_mentioned(models: Path) -> None:
    """Not silently ignored."""
    words = (models / "qwen3-4b.gguf", "--on", "laptop-16gb")
    assert "note: layers on a card were asked for" in fit(*words, "--gpu-layers", 10).output
    assert "note: experts on the host were asked for" in fit(*words, "--cpu-moe").output
    assert "asked for" not in fit(*words).output


def test_of_a_described_machine_only_what_was_assumed_is_noted(models: Path) -> None:
    """All sources are in --profiles and --json."""
    path = models / "qwen3-4b.gguf"
    done = fit(path, "--on", "rtx-4090")
    notes = [line for line in done.output.splitlines() if line.startswith("  note: ")]
    assert notes
    assert all("assumed" in note or "recalled" in note or "taken to" in note for note in notes)
    assert len(notes) < len(facts(path, "--on", "rtx-4090")["machine"]["notes"])


def test_the_usual_context_is_that_of_each_slot(models: Path) -> None:
    """4,096 tokens, as the embedded engine has them."""
    found = facts(models / "qwen3-4b.gguf", "--on", "laptop-16gb", "--parallel", 2)
    assert found["estimate"]["run"]["context"] == 8192


def test_profiles_are_listed_with_their_sources() -> None:
    """Every name that --on takes."""
    done = fit("--profiles")
    assert done.return_value == 0
    for name in profile_names():
        assert name in done.output
    assert "recalled" in done.output
    listed = json.loads(fit("--profiles", "--json").stdout)
    assert [machine["name"] for machine in listed["machines"]] == list(profile_names())


def test_without_a_model_it_says_what_is_missing() -> None:
    """As any usage error."""
    done = fit()
    assert done.exception is not None
    assert "MODEL" in str(done.exception)


def test_a_model_elsewhere_is_known_by_its_header(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the header is read; other quantisations of the repository are remedies."""
    with Hub() as hub:
        small = (models / "tiny.gguf").read_bytes()
        hub.add_repo(
            "qwen/Qwen3-4B-GGUF",
            {
                "Qwen3-4B-Q4_K_M.gguf": models / "qwen3-short.gguf",
                "Qwen3-4B-Q3_K_M.gguf": small,
                "Qwen3-4B-Q8_0.gguf": small,
            },
        )
        hub.use(monkeypatch, tmp_path)
        name = "hf:qwen/Qwen3-4B-GGUF:Q4_K_M"
        done = fit(name, "--on", "laptop-8gb", "--ctx", 400_000)
        assert done.return_value == 1, done.exception
        assert hub.bytes_served < 16 * 1024 * 1024
        assert "29 tensors, header of" in done.output
        assert "read at its source" in done.output
        assert "Q3_K_M" in done.output
        assert "below 4 bits: evaluate on your edge cases first" in done.output
        served = hub.bytes_served
        again = facts(name, "--on", "laptop-8gb", "--ctx", 400_000)
        assert again["needed"] > 4 * GIB
        assert hub.bytes_served - served < 100_000


def test_what_comes_along_and_is_not_counted_is_said(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A projector is loaded with images only."""
    with Hub() as hub:
        model = models / "tiny.gguf"
        hub.add_ollama(
            "library/seeing", "1b", [(MODEL_LAYER, model), (PROJECTOR_LAYER, b"GGUF" * 1000)]
        )
        hub.use(monkeypatch, tmp_path)
        done = fit("ollama:seeing:1b", "--on", "laptop-8gb")
    assert done.return_value == 0, done.exception
    assert "note: the projector" in done.output
    assert "comes along and is not counted" in done.output


def test_a_query_of_an_address_is_sent_and_not_shown(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a key."""
    with Hub() as hub:
        hub.use(monkeypatch, tmp_path)
        address = hub.add_file("x.gguf", models / "tiny.gguf")
        done = fit(f"{address}?sig=abc", "--json")
    assert json.loads(done.stdout)["asked"] == f"{address}?"
    assert "sig=" not in done.output


def test_a_source_that_cannot_be_reached_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3: what was asked for was right."""
    with Hub() as hub:
        hub.use(monkeypatch, tmp_path)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        error = refused("hf:qwen/Qwen3-4B-GGUF:Q4_K_M")
    assert isinstance(error, SourceError)
    assert error.exit_code == 3


def test_the_real_command_ends_with_the_verdict_and_says_errors_in_one_line(
    models: Path, tmp_path: Path
) -> None:
    """In a process of its own, warnings as errors."""
    environment = os.environ | {"RUNG_HOME": str(tmp_path)}

    def rung(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "rung", "fit", *words],
            cwd=models,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = rung("qwen3-4b.gguf", "--ctx", "40960", "--on", "laptop-8gb")
    assert (done.returncode, done.stderr) == (1, "")
    wrong = rung("notes.gguf")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("rung: ")
    assert "Traceback" not in wrong.stderr


def test_models_of_other_programs_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the reference that fit and pull take, with their sizes; nothing is a sentence, too."""
    for name in ("LMSTUDIO_HOME", "OLLAMA_MODELS", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    empty = CliRunner().invoke(command_line, ["fit", "--local"])
    assert "hold no model" in empty.output
    folder = tmp_path / "LMSTUDIO_HOME" / "models" / "someone" / "tiny"
    folder.mkdir(parents=True)
    tiny_model(folder / "tiny-F16.gguf")
    listed = CliRunner().invoke(command_line, ["fit", "--local"])
    assert "lmstudio:someone/tiny" in listed.output
    assert "LM Studio" in listed.output
    facts = json.loads(CliRunner().invoke(command_line, ["fit", "--local", "--json"]).output)
    assert facts["models"][0]["size"] == (folder / "tiny-F16.gguf").stat().st_size
