"""`rung quantize` as a person types it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gguf_models import tiny_model
from rung.cli import root as command_line
from rung.errors import RungError

LIMIT = 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model in it."""
    folder = tmp_path_factory.mktemp("quantize")
    tiny_model(folder / "tiny.gguf")
    tiny_model(folder / "odd.gguf", dim=320)
    tiny_model(folder / "experts.gguf", extra={"llama.expert_count": 4})
    (folder / "notes.txt").write_text("not a model\n")
    return folder


def rung(folder: Path, *words: str, small_files: bool = False) -> subprocess.CompletedProcess[str]:
    """The real command in a folder, where asked for with files limited to `LIMIT` bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "rung", "quantize", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit if small_files else None,  # the test has no threads
    )


def test_it_says_how_much_smaller_the_copy_is(folder: Path) -> None:
    """Sizes, bits a weight, time, and what the tensors became."""
    done = rung(folder, "tiny.gguf", "q4.gguf", "q4_k_m")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("Q4_K_M    ")
    assert "MB → " in first
    assert "bits a weight" in first
    assert second.startswith("tensors   Q4_K ")
    assert (folder / "q4.gguf").stat().st_size < (folder / "tiny.gguf").stat().st_size / 3


def test_json_holds_the_same_facts(folder: Path) -> None:
    """One object."""
    done = rung(folder, "tiny.gguf", "json.gguf", "Q8_0", "--json")
    facts = json.loads(done.stdout)
    assert (facts["format"], facts["file_type"]) == (1, "Q8_0")
    assert facts["output_bytes"] == (folder / "json.gguf").stat().st_size
    assert facts["fallbacks"] == []
    assert 8.5 <= facts["bits_per_weight"] < 8.7


def test_a_tensor_that_gets_another_type_is_named(folder: Path) -> None:
    """On standard error, so that a program reading the facts is not disturbed."""
    done = rung(folder, "odd.gguf", "odd-q4.gguf", "Q4_K_M")
    assert done.returncode == 0
    assert "warning: Q5_0 in place of Q4_K for " in done.stderr
    assert "rows of 320, which do not divide into its blocks: token_embd.weight …" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no.gguf", "o.gguf", "Q8_0"), "does not exist"),
        (("notes.txt", "o.gguf", "Q8_0"), "is not a GGUF file"),
        ((".", "o.gguf", "Q8_0"), "is not a regular file"),
        (("tiny.gguf", "o.gguf", "Q4"), "is not one of"),
        (("tiny.gguf", "tiny.gguf", "Q8_0", "--force"), "is the model itself"),
        (("tiny.gguf", "notes.txt", "Q8_0"), "is there already"),
        (("experts.gguf", "o.gguf", "Q8_0"), "'llama' with 4 experts"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    """And no file is written or lost; the command line prints what is raised here."""
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(command_line, ["quantize", *words])
    refused = done.exception
    if isinstance(refused, RungError):
        assert (refused.exit_code, sentence in refused.message) == (2, True)
    else:
        assert (done.exit_code, sentence in done.stderr) == (2, True)
    assert not (folder / "o.gguf").exists()
    assert (folder / "notes.txt").read_text() == "not a model\n"


def test_a_disk_that_does_not_hold_the_copy_is_one_sentence(folder: Path) -> None:
    """A real failing write: exit 3, and nothing is left behind."""
    before = sorted(path.name for path in folder.iterdir())
    done = rung(folder, "tiny.gguf", "full.gguf", "Q8_0", small_files=True)
    assert done.returncode == 3
    assert done.stderr.startswith("rung: cannot write 'full.gguf': the file may not grow further")
    assert sorted(path.name for path in folder.iterdir()) == before
