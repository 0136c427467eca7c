"""`rung lock` as a person types it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from gguf_models import tiny_lora, tiny_model
from hub import Hub
from rung.cli import root as command_line
from rung.errors import RungError
from rung.models.lock.file import LOCK_NAME, read_lock, update_lock
from rung.models.lock.record import Lock, Signature

RUNGS = """format = 1
[rungs.first]
engine = "llama_cpp"
model = "models/tiny.gguf"
[rungs.second]
engine = "llama_cpp"
model = "{second}"
[rungs.built-in]
engine = "llama_cpp"
model = "starter"
[ladders]
default = ["first", "second", "built-in"]
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a rung on a file that is here, one on a file of the test's choice, and the starter."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    tiny_model(root / "models" / "tiny.gguf")
    tiny_model(root / "models" / "other.gguf", seed=1)
    (root / "rung.toml").write_text(RUNGS.format(second="models/other.gguf"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Servers that imitate the sources."""
    with Hub() as servers:
        servers.use(monkeypatch)
        yield servers


def lock(*words: str) -> Result:
    """The command in the project."""
    return CliRunner().invoke(command_line, ["lock", *words])


def refused(*words: str) -> RungError:
    """The error that the command ends with."""
    error = lock(*words).exception
    assert isinstance(error, RungError)
    return error


def test_it_pins_what_the_rungs_name_once(project: Path) -> None:
    """And says what each is; the starter comes with Rung and needs none."""
    first = lock()
    assert (first.exit_code, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[0] == "pinned 2 models · rung.lock pins 2 models"
    assert lines[1].startswith("  tiny   F16 16.01 bits/weight · 1.6 M weights · context 2,048 · ")
    assert lines[1].endswith("… computed here")
    content = (project / LOCK_NAME).read_bytes()
    second = lock()
    assert second.stdout == "nothing to pin · rung.lock pins 2 models\n"
    assert (project / LOCK_NAME).read_bytes() == content
    assert str(project).encode() not in content


def test_json_holds_the_same_facts() -> None:
    """The pins as the lock has them."""
    facts = json.loads(lock("--json").stdout)
    assert (facts["format"], facts["models"], facts["unpinned"]) == (1, 2, [])
    assert [each["source"] for each in facts["pinned"]] == [
        "file:models/tiny.gguf",
        "file:models/other.gguf",
    ]


@pytest.mark.parametrize(
    ("model", "why", "hint"),
    [
        ("models/none.gguf", "is not there", "check the path in rung.toml"),
        ("../else.gguf", "lies outside this folder", "rung pull file:../else.gguf"),
        ("hf:a/b:Q4_K_M", "is not fetched", "rung pull hf:a/b:Q4_K_M"),
    ],
)
def test_what_cannot_be_pinned_is_said_with_what_to_do(
    project: Path, model: str, why: str, hint: str
) -> None:
    """The rest is pinned; --frozen calls it a disagreement."""
    (project / "rung.toml").write_text(RUNGS.format(second=model))
    found = lock()
    assert found.exit_code == 1
    assert found.stdout.startswith("pinned 1 model · 1 could not be pinned · ")
    assert f"not pinned   rungs.second.model '{model}' {why}" in found.stdout
    assert hint in found.stdout
    frozen = lock("--frozen")
    assert frozen.exit_code == 1
    assert f"rungs.second.model '{model}' {why}" in frozen.stdout


def test_frozen_agrees_or_says_where_not_and_changes_nothing(project: Path) -> None:
    """Models that are named and not pinned, and pins that nothing names."""
    assert lock("--frozen").exit_code == 1
    assert not (project / LOCK_NAME).exists()
    lock()
    agreed = lock("--frozen")
    assert (agreed.exit_code, agreed.stdout) == (
        0,
        "agreed   rung.lock pins what rung.toml names, and the files are what it says: 2 models\n",
    )
    (project / "rung.toml").write_text(RUNGS.format(second="models/tiny.gguf"))
    left = lock("--frozen")
    assert left.exit_code == 1
    assert "no rung names   other (file:models/other.gguf)" in left.stdout
    assert 'hint: name it in a rung, model = "models/other.gguf", or rung lock --remove other' in (
        left.stdout
    )
    assert json.loads(lock("--frozen", "--json").stdout)["unnamed"] == ["other"]
    assert lock("--remove", "other").exit_code == 0
    assert lock("--frozen").exit_code == 0
    assert (project / "models" / "other.gguf").exists()


def test_frozen_refuses_files_that_are_not_what_is_pinned(project: Path) -> None:
    """Changed, or gone; with what to do."""
    lock()
    path = project / "models" / "tiny.gguf"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    changed = lock("--frozen")
    assert changed.exit_code == 1
    assert changed.stdout.startswith("not agreed   files are not what rung.lock says\n")
    assert "  changed   models/tiny.gguf is sha256 " in changed.stdout
    assert "    hint: restore the file from where it came" in changed.stdout
    path.unlink()
    facts = json.loads(lock("--frozen", "--json").stdout)
    assert facts["agreed"] is False
    assert facts["changed"] == [{"name": "tiny", "path": "models/tiny.gguf", "kind": "missing"}]


def test_adapters_are_pinned_and_frozen_like_models(project: Path) -> None:
    """They decide what is answered as much."""
    tiny_lora(project / "models" / "lora.gguf")
    text = RUNGS.format(second="models/other.gguf")
    with_adapter = text.replace(
        "[rungs.second]",
        '[rungs.first.load]\nadapters = { a = "models/lora.gguf" }\n[rungs.second]',
    )
    lock()
    (project / "rung.toml").write_text(with_adapter)
    frozen = lock("--frozen")
    assert frozen.exit_code == 1
    assert "rungs.first.load.adapters.a 'models/lora.gguf' is here" in frozen.stdout
    assert lock().stdout.startswith("pinned 1 model · rung.lock pins 3 models\n  lora ")
    assert lock("--frozen").exit_code == 0


def test_a_file_pinned_again_changes_nothing(project: Path) -> None:
    """Not the time it was pinned, nor what was found out about it since."""
    lock("models/tiny.gguf")
    signature = Signature(bundle="ab" * 32, signer="key sha256:00", checked="2026-11-02T10:00:00Z")

    def sign(now: Lock) -> Lock:
        return now.put(msgspec.structs.replace(now.artefacts[0], signature=signature))

    update_lock(project / LOCK_NAME, sign)
    before = (project / LOCK_NAME).read_bytes()
    assert lock("models/tiny.gguf").stdout == "nothing to pin · rung.lock pins 1 model\n"
    assert json.loads(lock("models/tiny.gguf", "--json").stdout)["pinned"] == []
    assert (project / LOCK_NAME).read_bytes() == before


def test_one_reference_does_not_take_the_place_of_another(hub: Hub, project: Path) -> None:
    """A rung may name the other; a pin of the file itself gives way."""
    lock("models/tiny.gguf")
    hub.add_repo("a/tiny-GGUF", {"tiny.gguf": (project / "models" / "tiny.gguf").read_bytes()})
    assert lock("hf:a/tiny-GGUF:tiny.gguf").exit_code == 0
    error = refused("hf:a/tiny-GGUF@main:tiny.gguf")
    assert "is pinned as hf:a/tiny-GGUF:tiny.gguf already" in error.message
    assert "rung lock --remove tiny" in (error.hint or "")
    assert [each.source for each in read_lock(project / LOCK_NAME).artefacts] == [
        "hf:a/tiny-GGUF:tiny.gguf"
    ]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names cannot be had there")
@pytest.mark.parametrize("name", ["a\u202eb.gguf", "a\\b.gguf"])
def test_a_name_that_cannot_stand_in_the_lock_is_said_as_such(project: Path, name: str) -> None:
    """It does lie below the folder; nothing of it reaches the terminal as it is."""
    (project / "models" / "tiny.gguf").rename(project / "models" / name)
    error = refused(f"models/{name}")
    assert "has characters that cannot stand in rung.lock" in error.message
    assert error.message.isprintable()
    assert (error.hint or "").startswith("rename the file")
    (project / "rung.toml").write_text(RUNGS.format(second=f"models/{ascii(name)[1:-1]}"))
    if name.isprintable():
        assert "has a name that cannot stand in rung.lock" in lock().stdout


def test_a_file_that_is_named_is_pinned_again_when_it_is_another_one(project: Path) -> None:
    """It is what the person asked for, and said."""
    lock("models/tiny.gguf")
    tiny_model(project / "models" / "tiny.gguf", seed=2)
    again = lock("models/tiny.gguf")
    assert "· in place of another file" in again.stdout
    assert len(read_lock(project / LOCK_NAME).artefacts) == 1


def test_a_fetched_model_is_not_pinned_as_a_file_once_it_changed(project: Path) -> None:
    """That would be a promise of a publisher who never made it."""
    lock("models/tiny.gguf")

    def fetched(now: Lock) -> Lock:
        return now.put(msgspec.structs.replace(now.artefacts[0], source="hf:a/b:F16"))

    update_lock(project / LOCK_NAME, fetched)
    assert lock("models/tiny.gguf").stdout == "nothing to pin · rung.lock pins 1 model\n"
    tiny_model(project / "models" / "tiny.gguf", seed=2)
    error = refused("models/tiny.gguf")
    assert "is pinned from hf:a/b:F16 with sha256" in error.message
    assert "rung lock --remove tiny" in (error.hint or "")


def test_a_reference_is_pinned_by_the_publishers_digest(hub: Hub, project: Path) -> None:
    """Of the file that is here; another one, or none, is refused."""
    content = (project / "models" / "tiny.gguf").read_bytes()
    commit = hub.add_repo("a/tiny-GGUF", {"tiny.gguf": content}, licence="mit")
    done = lock("hf:a/tiny-GGUF:tiny.gguf")
    assert done.exit_code == 0, done.exception
    assert "publisher's" in done.stdout
    (artefact,) = read_lock(project / LOCK_NAME).artefacts
    assert (artefact.revision, artefact.licence) == (commit, "mit")
    assert hub.requests_for("/cdn/") == []
    hub.add_repo("a/tiny-GGUF", {"tiny.gguf": b"other"}, licence="mit")
    assert "is sha256" in refused("hf:a/tiny-GGUF:tiny.gguf").message
    (project / "models" / "tiny.gguf").unlink()
    assert refused("hf:a/tiny-GGUF:tiny.gguf").hint == "rung pull hf:a/tiny-GGUF:tiny.gguf"


def test_the_bill_of_materials_is_written_or_printed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes each time; a build may set its time."""
    lock()
    assert lock("--export", "bom.cdx.json").stdout == "exported   CycloneDX 1.6   bom.cdx.json\n"
    written = (project / "bom.cdx.json").read_text()
    assert lock("--export", "-").stdout == written
    assert [each["name"] for each in json.loads(written)["components"]] == ["other", "tiny"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    epoch = json.loads(lock("--export", "-").stdout)
    assert epoch["metadata"]["timestamp"] == "1970-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert "'soon', not a number of seconds" in refused("--export", "-").message


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("models/none.gguf",), "is not there|does not exist"),
        (("rung.toml",), "not a GGUF file|names a model|is none of"),
        (("../out.gguf",), "does not lie below"),
        (("models",), "not a regular file|is none of|names a model"),
        (("--export", "x/y.json"), "there is no rung.lock"),
        (("--remove", "none"), "there is no rung.lock"),
        (("--config", "none.toml"), "none.toml"),
    ],
)
def test_a_mistake_is_one_sentence(project: Path, words: tuple[str, ...], sentence: str) -> None:
    """And nothing is pinned."""
    error = refused(*words)
    assert error.exit_code == 2
    assert re.search(sentence, error.message), error.message
    assert not (project / LOCK_NAME).exists()


def test_a_bill_of_materials_makes_no_folder(project: Path) -> None:
    """That its path names by mistake."""
    lock()
    error = refused("--export", "none/bom.json")
    assert "there is no folder 'none'" in error.message
    assert not (project / "none").exists()


@pytest.mark.parametrize(
    "words",
    [("--frozen", "--remove"), ("a.gguf", "--frozen"), ("a", "--export", "-"), ("--remove",)],
)
def test_options_that_exclude_each_other_are_usage(words: tuple[str, ...]) -> None:
    """Exit 2."""
    assert lock(*words).exit_code == 2
