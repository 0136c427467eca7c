"""`rung scan` as people and programs call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from gguf_models import CHATML, tiny_model
from malformed.hostile_pickles import PICKLES
from rung.cli.scan import command
from rung.errors import InputError, RungError
from rung.models.lock.file import LOCK_NAME, update_lock
from rung.models.lock.pinning import local_artefact
from rung.models.lock.record import Lock


def scan(*words: str | Path) -> tuple[int, str]:
    """Exit code and output."""
    result = CliRunner().invoke(command, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def scan_json(*words: str | Path) -> dict[str, Any]:  # Any: what a program reads
    """The object of `--json`."""
    return dict(json.loads(scan("--json", *words)[1]))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one pinned model."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    tiny_model(root / "models" / "tiny.gguf", dim=64)
    artefact = local_artefact("models/tiny.gguf", root)
    update_lock(root / LOCK_NAME, lambda lock: Lock(artefacts=(*lock.artefacts, artefact)))
    monkeypatch.chdir(root)
    return root


def test_a_clean_file_is_said_to_be_clean_first(tmp_path: Path) -> None:
    """The verdict, then what it is."""
    path = tiny_model(tmp_path / "a.gguf", dim=64)
    code, said = scan(path)
    assert code == 0
    assert said.splitlines()[0] == "clean     1 file"
    assert f"{path}   GGUF, " in said


def test_a_blocked_file_says_why_and_what_to_do(tmp_path: Path) -> None:
    """What was found and where, one a line."""
    path = tmp_path / "model.gguf"
    path.write_bytes(PICKLES["broken behind the call"])
    code, said = scan(path)
    lines = said.splitlines()
    assert code == 1
    assert lines[0] == "blocked   1 file"
    assert "which can run any code when it is loaded: it imports os.getcwd (byte 0)" in lines[2]
    assert [line.split()[0] for line in lines[2:5]] == ["pickle", "pickle-global", "pickle-broken"]
    assert "note: picklescan knows as dangerous: os.getcwd" in said
    assert lines[-1].startswith("next      do not load these in any program")


def test_a_folder_is_counted_and_blocked_files_come_first(tmp_path: Path) -> None:
    """So that nobody has to look for them."""
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "z.bin").write_bytes(PICKLES["torch"])
    code, said = scan(tmp_path)
    assert code == 1
    assert said.splitlines()[0] == "blocked   1 of 2 files"
    assert said.index("z.bin") < said.index("a.json")


def test_programs_get_the_same_facts(tmp_path: Path) -> None:
    """One object, beginning with its format."""
    path = tmp_path / "a.bin"
    path.write_bytes(PICKLES["protocol 2"])
    said = scan_json(path)
    assert list(said)[:2] == ["format", "verdict"]
    assert said["verdict"] == "blocked"
    file = said["files"][0]
    assert file["format"] == "pickle (protocol 2)"
    assert [finding["rule"] for finding in file["findings"]] == ["pickle", "pickle-global"]


def test_text_is_told_apart_from_what_is_clean(tmp_path: Path) -> None:
    """It blocks nothing, and a folder with it is not clean as a whole."""
    (tmp_path / "install").write_text("reboot\n")
    code, said = scan(tmp_path / "install")
    assert code == 0
    assert said.splitlines()[0].startswith("text      1 file; nothing here loads it")
    (tmp_path / "a.json").write_text("{}")
    code, said = scan(tmp_path)
    assert code == 0
    assert said.splitlines()[0].startswith("clean     1 of 2 files; the rest is text")
    assert scan_json(tmp_path)["verdict"] == "text"


def test_what_was_found_is_told_before_what_is_not_there(tmp_path: Path) -> None:
    """In whatever order they were named, and whatever else goes wrong."""
    path = tmp_path / "a.bin"
    path.write_bytes(PICKLES["protocol 2"])
    for words in ([path, tmp_path / "none.gguf"], [tmp_path / "none.gguf", path]):
        result = CliRunner().invoke(command, [str(word) for word in words])
        assert isinstance(result.exception, RungError)
        assert "it imports os.getcwd" in result.stdout
    result = CliRunner().invoke(command, ["--json", str(path), str(tmp_path / "none.gguf")])
    said = json.loads(result.stdout)
    assert said["verdict"] == "blocked"
    assert "does not exist" in said["errors"][0]


def test_a_file_that_nothing_is_pinned_for_does_not_hide_the_others(project: Path) -> None:
    """The one that could be compared, and the pickle beside it."""
    folder = project / "folder"
    folder.mkdir()
    tiny_model(folder / "other.gguf", dim=64)
    (folder / "z.bin").write_bytes(PICKLES["protocol 2"])
    second = local_artefact("folder/other.gguf", project)
    elsewhere = msgspec.structs.replace(second.files[0], path="elsewhere.gguf")
    renamed = msgspec.structs.replace(second, name="x", files=(elsewhere,))
    update_lock(project / LOCK_NAME, lambda lock: Lock(artefacts=(*lock.artefacts, renamed)))
    words = [str(folder), "--against", str(project / LOCK_NAME)]
    result = CliRunner().invoke(command, words)
    assert isinstance(result.exception, SystemExit)
    assert "it imports os.getcwd" in result.stdout
    (folder / "z.bin").unlink()
    code, said = scan(*words)
    assert code == 0
    assert "pins nothing called 'other.gguf': its chat template was compared with nothing" in said
    with pytest.raises(InputError, match="pins nothing called"):
        scan(folder / "other.gguf", *words[1:])


def test_what_to_do_with_a_damaged_text_is_not_to_fetch_a_model(tmp_path: Path) -> None:
    """There is no GGUF of it."""
    path = tmp_path / "a.jinja"
    path.write_text("{% for a in b %}")
    code, said = scan(path)
    assert code == 1
    assert "GGUF" not in said
    assert "next      do not load or run these" in said


def test_a_model_that_is_not_here_is_not_fetched_to_be_scanned() -> None:
    """And nobody is said to have wanted no network."""
    with pytest.raises(InputError, match="rung scan fetches nothing") as refused:
        scan("hf:someone/tiny-GGUF:Q4_K_M")
    assert "network" not in refused.value.message


def test_a_name_that_is_too_long_to_be_shown_ends_nothing(tmp_path: Path) -> None:
    """The path is another thing than what is shown of it."""
    deep = tmp_path.joinpath(*["d" * 90] * 4)
    deep.mkdir(parents=True)
    tiny_model(deep / "a.gguf", dim=64)
    (tmp_path / "z.bin").write_bytes(PICKLES["protocol 2"])
    code, said = scan(tmp_path)
    assert code == 1
    assert "it imports os.getcwd" in said


def test_code_scanning_services_get_sarif(tmp_path: Path) -> None:
    """Version 2.1.0: one run, rules by id, results that point at files and bytes."""
    path = tmp_path / "a b.bin"
    path.write_bytes(PICKLES["junk before it"])
    (tmp_path / "clean.json").write_text("{}")
    target = tmp_path / "out" / "scan.sarif"
    code, _ = scan(tmp_path, "--sarif", target)
    log = json.loads(target.read_text())
    assert code == 1
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == sorted(set(rules))
    assert all(rule["shortDescription"]["text"] for rule in run["tool"]["driver"]["rules"])
    assert len(run["artifacts"]) == 2
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] == "error"
        assert result["message"]["text"]
        (place,) = result["locations"]
        location = place["physicalLocation"]["artifactLocation"]
        assert location["uri"] == path.as_uri()
        assert run["artifacts"][location["index"]]["location"]["uri"] == location["uri"]
    offsets = [
        result["locations"][0]["physicalLocation"]["region"]["byteOffset"]
        for result in run["results"]
    ]
    assert offsets == [0, 32, 34]


def test_sarif_can_go_to_standard_output_alone(tmp_path: Path) -> None:
    """And nothing else with it."""
    (tmp_path / "a.json").write_text("{}")
    code, said = scan(tmp_path, "--sarif", "-")
    assert code == 0
    assert json.loads(said)["runs"][0]["results"] == []
    assert scan(tmp_path, "--sarif", "-", "--json")[0] == 2


def test_a_pinned_model_is_found_by_its_name_and_held_to_its_template(project: Path) -> None:
    """A change of the template alone is shown and blocks."""
    assert scan("tiny")[0] == 0
    changed = CHATML.replace("assistant\n", "assistant\nVisit https://example.org\n")
    tiny_model(project / "models" / "tiny.gguf", dim=64, template=changed)
    code, said = scan("tiny")
    assert code == 1
    assert "a chat template that is not the pinned one (tokenizer.chat_template)" in said
    assert "+++ now" in said
    assert "https://example.org" in said
    assert "pin it: rung lock" in said


def test_a_template_is_compared_with_a_lock_a_model_or_a_text(project: Path) -> None:
    """Whatever holds the one that was agreed to."""
    model = project / "models" / "tiny.gguf"
    other = tiny_model(project / "other.gguf", dim=64, template="{{ messages[0].content }}")
    text = project / "chatml.jinja"
    text.write_text(CHATML)
    for agreed in (project / LOCK_NAME, model, text):
        assert scan(model, "--against", agreed)[0] == 0
        assert scan(other, "--against", agreed)[0] == 1
    said = scan_json(other, "--against", text)
    assert said["files"][0]["findings"][0]["rule"] == "template-changed"
    assert "+{{ messages[0].content }}" in said["files"][0]["template_diff"]
    told = scan(other, "--against", text)[1]
    assert "a chat template that is not that of " in told
    assert "pin" not in told.partition("template-changed")[2]
    with pytest.raises(InputError, match="is no file"):
        scan(model, "--against", project / "missing")


def test_a_pinned_file_may_be_a_link_into_the_store_of_another_program(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `rung pull` places it there; any other link that leads out is blocked."""
    model, store = project / "models" / "tiny.gguf", project.parent / "blob"
    model.rename(store)
    model.symlink_to(store)
    assert scan("models")[0] == 0
    monkeypatch.chdir(project.parent)
    assert scan(project / "models")[0] == 0
    monkeypatch.chdir(project)
    (project / "models" / "other.gguf").symlink_to(store)
    assert scan("models")[0] == 1


def test_a_lock_that_comes_with_a_folder_says_nothing_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote the links wrote it as well."""
    model, store = project / "models" / "tiny.gguf", project.parent / "blob"
    model.rename(store)
    model.symlink_to(store)
    monkeypatch.chdir(project.parent)
    assert scan(project)[0] == 1


def test_what_is_not_on_this_machine_is_an_error(project: Path) -> None:
    """Nothing is asked of the network."""
    with pytest.raises(InputError, match=r"'hf:owner/repo:x\.gguf' is not on this machine"):
        scan("hf:owner/repo:x.gguf")


def test_the_command_exits_with_one_sentence(project: Path) -> None:
    """As every verb does."""
    words = [sys.executable, "-m", "rung", "scan", "missing.gguf"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr
