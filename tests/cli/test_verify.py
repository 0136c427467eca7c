"""`rung verify` as a person types it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gguf_models import CHATML, tiny_model
from rung.cli import root as command_line
from rung.cli.verify import note_signature
from rung.errors import ConfigError, RungError
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.models.lock.record import Signature
from signatures import keys, library_missing, sign


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two pinned files, and no network."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    tiny_model(root / "models" / "tiny.gguf")
    tiny_model(root / "models" / "other.gguf", seed=1)
    monkeypatch.chdir(root)
    assert run("lock", "models/tiny.gguf", "models/other.gguf").exit_code == 0
    return root


def run(*words: str) -> Result:
    """A command in the project."""
    return CliRunner().invoke(command_line, list(words))


def flip(path: Path) -> tuple[str, str]:
    """Flip a bit; gives the digests before and after."""
    content = bytearray(path.read_bytes())
    before = hashlib.sha256(content).hexdigest()
    content[-9] ^= 1
    path.write_bytes(content)
    return before, hashlib.sha256(content).hexdigest()


def test_files_as_they_were_pinned_are_verified() -> None:
    """First the answer, then each model."""
    done = run("verify")
    assert (done.exit_code, done.stderr) == (0, "")
    first, *models = done.stdout.splitlines()
    assert first.startswith("verified   2 models, 2 files, 6.3")
    assert first.endswith("MB: every sha256 is as rung.lock says")
    assert models == [
        "  ok       other   file:models/other.gguf",
        "  ok       tiny   file:models/tiny.gguf",
    ]


def test_a_flipped_bit_is_drift_with_both_digests(project: Path) -> None:
    """Exit 1; the other model is fine, and so is the answer when only that is asked after."""
    before, after = flip(project / "models" / "tiny.gguf")
    done = run("verify")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "changed    1 of 2 models is not what was pinned"
    assert lines[4:] == [
        f"model file changed since it was pinned: models/tiny.gguf is sha256 {after}, rung.lock says {before}",
        "changed: weights",
        "hint: restore the file from where it came; if the new one is meant, rung lock models/tiny.gguf",
    ]
    assert run("verify", "other").exit_code == 0


def test_a_changed_template_is_shown_as_a_diff(project: Path) -> None:
    """The weights are the same, as far as they were compared."""
    tiny_model(project / "models" / "tiny.gguf", template=CHATML.replace("<|im_end|>", ""))
    done = run("verify", "tiny")
    assert done.exit_code == 1
    assert "changed: chat template only (weights the same at 16 places)" in done.stdout
    assert "-{{ message['content'] }}<|im_end|>" in done.stdout
    assert "+{{ message['content'] }}" in done.stdout
    found = json.loads(run("verify", "tiny", "--json").stdout)
    assert (found["format"], found["verified"]) == (1, False)
    assert found["changed"][0]["parts"] == ["template"]
    changed = found["changed"][0]
    assert changed["found"]["sha256"] != changed["expected"]["sha256"]
    assert changed["template"] == CHATML.replace("<|im_end|>", "")


def test_what_a_lock_says_does_not_reach_the_terminal_as_commands(project: Path) -> None:
    """A line of Rung's own cannot be forged."""
    path = project / LOCK_NAME
    text = path.read_text()
    for field, old in (("name", "tiny"), ("source", "file:models/tiny.gguf"), ("engine", None)):
        content = json.loads(text)
        for each in content["artefacts"]:
            if old in (None, each[field]):
                each[field] = "\x1b]0;x\x07\nverified   all"
        path.write_text(json.dumps(content))
        error = run("verify").exception
        assert isinstance(error, RungError)
        assert f"cannot be shown, '\\x1b]0;x\\x07\\nverified   all' ({field})" in error.message
        assert error.message.isprintable()


def test_json_says_whether_weights_were_compared(project: Path) -> None:
    """And at how many places; of a file that is gone it says neither."""
    tiny_model(project / "models" / "tiny.gguf", template=None)
    (project / "models" / "other.gguf").unlink()
    other, tiny = json.loads(run("verify", "--json").stdout)["changed"]
    assert (tiny["weights_compared"], tiny["places"]) == (True, 16)
    assert (other["weights_compared"], other["places"]) == (None, 0)


def test_a_missing_file_is_said_with_what_to_do(project: Path) -> None:
    """There is nothing to pin in its place."""
    (project / "models" / "tiny.gguf").unlink()
    done = run("verify")
    assert done.exit_code == 1
    assert done.stdout.startswith("missing ")
    assert "changed" not in done.stdout
    assert "models/tiny.gguf is not there\nhint: restore the file from where it came" in done.stdout


def test_a_quick_look_says_that_it_was_one(project: Path) -> None:
    """And finds a file that was written to since."""
    done = run("verify", "--quick")
    assert done.exit_code == 0
    assert "or unchanged since it was last read (--quick)" in done.stdout
    flip(project / "models" / "tiny.gguf")
    assert run("verify", "--quick").exit_code == 1


def test_a_fetched_model_is_restored_by_pull(project: Path) -> None:
    """Its source has it still."""
    path = project / LOCK_NAME
    path.write_text(path.read_text().replace("file:models/tiny.gguf", "hf:a/b:F16"))
    flip(project / "models" / "tiny.gguf")
    assert "restores the pinned file" in run("verify", "hf:a/b:F16").stdout


@pytest.mark.skipif(library_missing() is not None, reason=f"model-signing: {library_missing()}")
def test_a_good_signature_is_noted_in_the_lock(project: Path) -> None:
    """By whom and when; a bad one is exit 1 and changes nothing."""
    private, public = keys(project)
    bundle = sign(project / "models" / "tiny.gguf", private, project / "model.sig")
    words = ("verify", "tiny", "--signature", str(bundle), "--public-key", str(public))
    done = run(*words)
    assert done.exit_code == 0, done.exception
    assert " · signed by key sha256:" in done.stdout
    artefact = read_lock(project / LOCK_NAME).find("tiny")
    assert artefact is not None
    assert artefact.signature is not None
    assert artefact.signature.bundle == hashlib.sha256(bundle.read_bytes()).hexdigest()
    before = (project / LOCK_NAME).read_bytes()
    error = run("verify", "other", *words[2:]).exception
    assert isinstance(error, RungError)
    assert (error.exit_code, "is good and not about" in error.message) == (1, True)
    assert (project / LOCK_NAME).read_bytes() == before


def test_a_signature_of_what_is_pinned_no_more_is_not_noted(project: Path) -> None:
    """Another process pinned something else while it was checked; that is said, not that it is signed."""
    path = project / LOCK_NAME
    before = read_lock(path).find("tiny")
    assert before is not None
    tiny_model(project / "models" / "tiny.gguf", seed=3)
    assert run("lock", "models/tiny.gguf").exit_code == 0
    signature = Signature(bundle="ab" * 32, signer="key", checked="2026-11-02T10:00:00Z")
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="'tiny' was pinned anew while it was checked"):
        note_signature(path, before, signature)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "words",
    [
        ("--public-key", "k"),
        ("tiny", "--signature", "s"),
        ("tiny", "--signature", "s", "--identity", "me"),
        ("--signature", "s", "--public-key", "k"),
    ],
)
def test_half_of_a_question_is_usage(words: tuple[str, ...]) -> None:
    """Exit 2."""
    assert run("verify", *words).exit_code == 2


def test_what_is_not_pinned_is_said(project: Path) -> None:
    """With what is."""
    error = run("verify", "none").exception
    assert isinstance(error, RungError)
    assert (error.exit_code, error.hint) == (2, "it pins other, tiny")
    (project / LOCK_NAME).unlink()
    error = run("verify").exception
    assert isinstance(error, RungError)
    assert (error.exit_code, "there is no rung.lock in" in error.message) == (2, True)
