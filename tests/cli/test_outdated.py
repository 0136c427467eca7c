"""`rung outdated` as a person types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gguf_models import CHATML, tiny_model
from hub import Fault, Hub, Mode
from rung.cli import root as command_line

SOURCE = "hf:a/tiny-GGUF:tiny.gguf"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Servers that imitate the sources."""
    with Hub() as servers:
        servers.use(monkeypatch)
        yield servers


@pytest.fixture(autouse=True)
def project(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one model that is pinned from the hub, and one file."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    path = tiny_model(root / "models" / "tiny.gguf")
    tiny_model(root / "models" / "own.gguf", seed=1)
    monkeypatch.chdir(root)
    hub.add_repo("a/tiny-GGUF", {"tiny.gguf": path.read_bytes()}, licence="mit")
    assert run("lock", SOURCE, "models/own.gguf").exit_code == 0
    return root


def run(*words: str) -> Result:
    """A command in the project."""
    return CliRunner().invoke(command_line, list(words))


def test_nothing_changed_is_said_for_each_model() -> None:
    """A file has no publisher to ask; that is no failure."""
    done = run("outdated")
    assert (done.exit_code, done.stderr) == (0, "")
    first, _, own, tiny = done.stdout.splitlines()
    assert first == "no change known for 2 pinned models"
    assert own.startswith("own    not known: a file of this machine has no publisher to ask")
    assert tiny.startswith("tiny   current   ")


def test_a_changed_template_is_shown_and_nothing_is_fetched(hub: Hub, project: Path) -> None:
    """Exit 0: it is an answer. The pinned file is as it was."""
    before = (project / "models" / "tiny.gguf").read_bytes()
    other = tiny_model(project / "new.gguf", template=CHATML.replace("<|im_end|>", ""))
    hub.add_repo("a/tiny-GGUF", {"tiny.gguf": other}, licence="apache-2.0")
    done = run("outdated", "tiny")
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert lines[0] == "1 model of 1 changed at the source"
    what = "changed: chat template and licence (weights the same at 16 places)"
    assert lines[2].startswith(f"tiny   {what}   ")
    assert "       licence mit → apache-2.0" in lines
    assert any("-{{ message['content'] }}<|im_end|>" in line for line in lines)
    assert lines[-1] == "hint: rung pull --force MODEL fetches and pins what is there now"
    assert (project / "models" / "tiny.gguf").read_bytes() == before


def test_what_a_publisher_writes_does_not_reach_the_terminal_as_commands(
    hub: Hub, project: Path
) -> None:
    """A licence forges no line of Rung's own, and is the pinned one when it was pinned."""
    content = (project / "models" / "tiny.gguf").read_bytes()
    forged = "\x1b]0;x\x07\nverified   all"
    hub.add_repo("a/tiny-GGUF", {"tiny.gguf": content}, licence=forged)
    assert "licence mit → ?]0;x??verified   all" in run("outdated", "tiny").stdout
    assert run("lock", SOURCE).exit_code == 0
    assert "tiny   current   " in run("outdated", "tiny").stdout


def test_json_holds_the_same_facts(hub: Hub, project: Path) -> None:
    """State, revisions, parts."""
    now = hub.add_repo(
        "a/tiny-GGUF", {"tiny.gguf": tiny_model(project / "n.gguf", seed=5)}, licence="mit"
    )
    found = json.loads(run("outdated", "tiny", "--json").stdout)
    assert found["format"] == 1
    (model,) = found["models"]
    assert (model["state"], model["parts"], model["now"]) == ("changed", ["weights"], now)


def test_a_change_whose_parts_cannot_be_read_is_told_with_exit_3(hub: Hub, project: Path) -> None:
    """It is known from the digests; what changed is not."""
    hub.add_repo("a/tiny-GGUF", {"tiny.gguf": tiny_model(project / "n.gguf", seed=5)})
    hub.fail(Fault(Mode.STATUS, status=503), times=9)
    done = run("outdated", "tiny")
    assert done.exit_code == 3
    assert "tiny   changed: the file   " in done.stdout
    assert "its header cannot be read: '127.0.0.1' failed with status 503" in done.stdout


def test_a_setting_that_is_wrong_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing of any model."""
    monkeypatch.setenv("HF_ENDPOINT", "ftp://nothing")
    done = run("outdated")
    assert done.exit_code != 0
    assert done.stdout == ""
    assert "HF_ENDPOINT is 'ftp://nothing'" in str(done.exception or done.stderr)


def test_a_source_that_cannot_be_asked_is_said_and_exit_3(hub: Hub) -> None:
    """After the others were."""
    hub.fail(Fault(Mode.STATUS, status=500), times=99, path="/api/")
    done = run("outdated")
    assert done.exit_code == 3
    assert "the sources of 1 model could not be asked" in done.stdout.splitlines()[0]
    assert "tiny   not asked: " in done.stdout
    assert "own    not known: " in done.stdout


def test_with_no_source_to_ask_nothing_sounds_like_good_news(hub: Hub) -> None:
    """What is not known is not called unchanged."""
    hub.fail(Fault(Mode.STATUS, status=500), times=99, path="/api/")
    assert "no change" not in run("outdated", "tiny").stdout


def test_a_repository_that_is_gone_is_an_answer(project: Path) -> None:
    """Exit 0, in the words of the source."""
    path = project / "rung.lock"
    path.write_text(path.read_text().replace("hf:a/tiny-GGUF", "hf:a/gone"))
    done = run("outdated", "tiny")
    assert done.exit_code == 0
    assert "tiny   cannot be had any more: " in done.stdout
