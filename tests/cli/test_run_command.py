"""`rung run` as a person types it, with real children of the real engine."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from gguf_models import tiny_model
from rung.cli import root as command_line
from rung.cli.run import _shower
from rung.cli.runtext import measured
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.protocol import Finish, Generation
from rung.errors import ModelError, RungError
from rung.models.header import read_header
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.receipt import Usage

SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
    "additionalProperties": False,
}
QUIET = {"GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that writes noise, and schemas."""
    folder = tmp_path_factory.mktemp("run")
    tiny_model(folder / "tiny.gguf", context=256)
    tiny_model(folder / "long.gguf", context=100_000, layers=8)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / "broken.json").write_text('{"type": "no such type"}')
    (folder / "remote.json").write_text('{"$ref": "http://127.0.0.1:9/x"}')
    (folder / "notes.txt").write_text("not a model\n")
    return folder


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """The real command in a folder, still running."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "rung", "run", *words, "--threads", "1"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | QUIET,
    )


def writing_long(folder: Path) -> subprocess.Popen[bytes]:
    """A run that has begun to write an answer of many thousand tokens."""
    run = started(
        folder,
        "long.gguf",
        "go on",
        "--max-tokens",
        "90000",
        "--ctx",
        "100000",
        "--temperature",
        "1",
    )
    assert run.stdout is not None
    assert run.stdout.read(1), run.communicate()
    return run


def rung(folder: Path, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """The real command in a folder: exit code, standard output, standard error."""
    output, errors = (run := started(folder, *words)).communicate(stdin, timeout=60)
    return run.returncode, output.decode(), errors.decode()


def test_the_answer_comes_first_and_then_one_line_of_figures(folder: Path) -> None:
    """The answer alone on standard output, so that it can be piped on."""
    code, output, errors = rung(folder, "tiny.gguf", "Where is my card?", "--max-tokens", "12")
    assert code == 0
    assert output.strip()
    *_, figures = errors.splitlines()
    for part in (
        " token",
        "first after ",
        " prompt tokens",
        "F16 ",
        " MB",
        "context 256",
        "loaded in ",
    ):
        assert part in figures


def test_json_holds_the_same_facts_and_a_pipe_is_a_prompt(folder: Path) -> None:
    """One object and nothing else; the same seed gives the same answer however the prompt comes."""
    words = (
        "--json",
        "--max-tokens",
        "9",
        "--system",
        "Be brief.",
        "--temperature",
        "1",
        "--seed",
        "7",
    )
    piped = rung(folder, "tiny.gguf", *words, stdin=b"Where is my card?")
    typed = rung(folder, "tiny.gguf", "Where is my card?", *words)
    assert (piped[0], piped[2]) == (0, "")
    facts, again = json.loads(piped[1]), json.loads(typed[1])
    assert facts["text"] == again["text"]
    assert facts["format"] == 1
    assert 1 <= facts["tokens"] <= 9
    assert facts["prompt_tokens"] > 10
    assert facts["first_token_ms"] > 0
    assert facts["bytes"] == (folder / "tiny.gguf").stat().st_size
    assert (facts["quantisation"], facts["context"], facts["threads"]) == ("F16", 256, 1)


def test_a_schema_holds_the_answer(folder: Path) -> None:
    """A model that writes noise writes what the schema allows."""
    code, output, errors = rung(
        folder, "tiny.gguf", "Are you sure?", "--schema", "schema.json", "--max-tokens", "60"
    )
    assert (code, errors.count("\n")) == (0, 1)
    assert set(json.loads(output)) == {"sure"}


def test_what_was_not_held_while_writing_is_named(folder: Path) -> None:
    """The relaxed part of a schema is on standard error, beside the figures."""
    schema = {"enum": ["yes"], "not": {"const": "no"}}
    (folder / "loose.json").write_text(json.dumps(schema))
    code, out, err = rung(folder, "tiny.gguf", "hello", "--schema", "loose.json")
    assert (code, out.strip()) == (0, '"yes"')
    assert "not held while it was written: /not" in err


def test_the_starter_model_says_what_it_is_for(folder: Path) -> None:
    """Whoever chats with it should not think it broken."""
    code, _, err = rung(folder, "starter", "hello", "--max-tokens", "2")
    assert code == 0
    assert err.startswith("note: the starter model labels short texts and fills records")


@pytest.mark.parametrize(("form", "only"), [("date", "2025-02-29"), ("uri", "no address")])
def test_the_finished_answer_is_held_to_its_format(folder: Path, form: str, only: str) -> None:
    """Decoding takes a format for a shape, or not at all; the check afterwards takes it at its word."""
    (folder / "format.json").write_text(json.dumps({"enum": [only], "format": form}))
    code, out, err = rung(folder, "tiny.gguf", "hello", "--schema", "format.json")
    assert (code, out.strip()) == (3, json.dumps(only))
    assert "the answer does not match the schema (format)" in err


def test_an_answer_cut_off_before_its_json_is_whole_is_no_answer(folder: Path) -> None:
    """Exit 3, and what to raise."""
    code, _, errors = rung(
        folder, "tiny.gguf", "Are you sure?", "--schema", "schema.json", "--max-tokens", "2"
    )
    assert code == 3
    assert "was cut off after 2 tokens, before its JSON was whole" in errors
    assert "hint: raise --max-tokens" in errors


def test_a_prompt_longer_than_the_context_is_said(folder: Path) -> None:
    """Never cut silently."""
    code, output, errors = rung(folder, "tiny.gguf", "-", stdin=b"why " * 500)
    assert (code, output) == (3, "")
    assert "tokens, and the context holds 256" in errors


@pytest.mark.parametrize(
    ("words", "stdin", "sentence"),
    [
        (("no.gguf", "hi"), b"", "there is no model file 'no.gguf'"),
        (("notes.txt", "hi"), b"", "is not a GGUF file"),
        (("tiny.gguf", " "), b"", "the prompt is empty"),
        (("tiny.gguf", "-"), b"caf\xe9", "standard input is not UTF-8: byte 3 is 0xe9"),
        (("tiny.gguf", "hi", "--ctx", "9999"), b"", "--ctx 9999 is more than the 256 tokens"),
        (("tiny.gguf", "hi", "--schema", "no.json"), b"", "cannot read the schema 'no.json'"),
        (("tiny.gguf", "hi", "--schema", "broken.json"), b"", "no such type"),
        (("tiny.gguf", "hi", "--schema", "remote.json"), b"", "http://127.0.0.1:9/x"),
        (("tiny.gguf", "hi", "--temperature", "99"), b"", "--temperature"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    stdin: bytes,
    sentence: str,
) -> None:
    """Before any model is loaded; the command line prints what is raised here."""
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(command_line, ["run", *words], input=stdin)
    refused = done.exception
    assert done.stdout == ""
    if isinstance(refused, RungError):
        assert (refused.exit_code, sentence in refused.message) == (2, True)
    else:
        assert (done.exit_code, sentence in done.stderr) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_answer_leaves_no_child(folder: Path, number: int) -> None:
    """While it is being written: the right exit code, no traceback, and the engine's process is gone."""
    with writing_long(folder) as run:
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        _, errors = run.communicate(timeout=30)
    assert children
    assert run.returncode == (130 if number == signal.SIGINT else -signal.SIGTERM)
    assert b"Traceback" not in errors
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_reader_that_leaves_ends_it_quietly(folder: Path) -> None:
    """`rung run … | head -c 1`."""
    with writing_long(folder) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        children = psutil.Process(run.pid).children(recursive=True)
        run.stdout.close()
        assert b"Traceback" not in run.stderr.read()
        assert run.wait(timeout=30) == 141
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_terminal_is_not_given_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model writes cannot move the cursor or set the title; a pipe gets it as it is."""
    controlling, terminal = pty.openpty()
    with os.fdopen(terminal, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        _shower()("red \x1b[31m\x9b1m ring \x07 line\n")
        time.sleep(0.05)
    shown = os.read(controlling, 1000).decode()
    os.close(controlling)
    assert shown == "red ␛[31m�1m ring ␇ line\r\n"


def test_a_pinned_model_is_asked_by_its_name_and_only_as_it_was_pinned(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock says which file; another file in its place is refused with both digests."""
    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "tiny.gguf"
    shutil.copy(folder / "tiny.gguf", model)
    monkeypatch.chdir(tmp_path)
    pinned = CliRunner().invoke(command_line, ["lock", "models/tiny.gguf"])
    assert pinned.exit_code == 0, pinned.output
    name = read_lock(tmp_path / LOCK_NAME).artefacts[0].name
    code, _, said = rung(tmp_path, name, "hi", "--max-tokens", "2")
    assert code == 0, said
    with model.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    code, _, said = rung(tmp_path, "models/tiny.gguf", "hi", "--max-tokens", "2")
    assert code != 0
    assert "model file changed since it was pinned: models/tiny.gguf is" in said
    model.unlink()
    code, _, said = rung(tmp_path, name, "hi", "--max-tokens", "2")
    assert code == 2
    assert f"{name!r} is pinned, but its file 'models/tiny.gguf' is not there" in said
    assert "rung pull restores what is pinned" in said


@pytest.mark.parametrize(
    ("pieces", "seconds", "timed"), [(8, 1.0, True), (1, 1.0, False), (8, 0.0001, False)]
)
def test_pieces_that_come_at_once_give_no_rate(
    folder: Path, pieces: int, seconds: float, *, timed: bool
) -> None:
    """Eight tokens in one piece are not 40,000 tokens a second."""
    header = read_header(folder / "tiny.gguf")
    parameters = ModelParameters(path=str(header.path), context=256)
    answer = Generation(text="x", finish=Finish.STOP, usage=Usage(9, 8), model="tiny")
    run = measured(header, parameters, answer, (0.0, 1.0, 1.0 + seconds), pieces)
    assert (run.tokens_per_second is not None) is timed


def test_a_repository_that_is_named_as_a_path_names_the_pull() -> None:
    """As web pages write it."""
    done = CliRunner().invoke(command_line, ["run", "Qwen/Qwen3-4B-GGUF", "hi"])
    assert isinstance(done.exception, ModelError)
    assert (done.exception.hint or "").endswith("to fetch it: rung pull hf:Qwen/Qwen3-4B-GGUF")


def test_a_reference_that_is_not_pinned_names_the_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched on the way to an answer."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command_line, ["run", "hf:someone/tiny-GGUF:Q4_K_M", "hi"])
    assert isinstance(done.exception, ModelError)
    assert done.exception.hint == "rung pull hf:someone/tiny-GGUF:Q4_K_M"
