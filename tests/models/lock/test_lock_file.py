"""`rung.lock` as a file: what is written is read back, what is damaged is a sentence, and no writer loses another's."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from locked import DIGEST, artefact

from rung.errors import ConfigError, StorageError
from rung.models.lock.file import LOCK_NAME, encoded, read_lock, update_lock
from rung.models.lock.record import FitRecord, Lock, LockedFile, Signature, Verified
from rung.models.lock.sound import is_below, is_nameable


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Every field, whatever the order of pinning."""
    fit = FitRecord(
        context=4096, slots=1, kv_type="f16", predicted=1, machine="this", rules="llama.cpp-2026"
    )
    signature = Signature(bundle=DIGEST, signer="key sha256:00", checked="2026-11-02T10:00:00Z")
    lock = Lock(artefacts=(artefact("b", fit=fit), artefact("a", signature=signature)))
    path = tmp_path / LOCK_NAME
    update_lock(path, lambda _: lock)
    assert read_lock(path).artefacts == (lock.artefacts[1], lock.artefacts[0])
    assert path.read_bytes() == encoded(lock) == encoded(read_lock(path))


def test_the_file_is_stable_and_one_change_is_a_few_lines(tmp_path: Path) -> None:
    """The format comes first, names are sorted, it ends with a line end, and no path is absolute."""
    before = encoded(Lock(artefacts=(artefact("a"), artefact("b"))))
    after = encoded(Lock(artefacts=(artefact("b", licence="mit"), artefact("a"))))
    assert before.startswith(b'{\n  "format": 1,\n')
    assert before.endswith(b"}\n")
    changed = set(after.splitlines()) ^ set(before.splitlines())
    assert changed == {b'      "licence": "mit",'}
    assert str(tmp_path).encode() not in before


def test_no_file_pins_nothing(tmp_path: Path) -> None:
    """And reading makes none."""
    assert read_lock(tmp_path / LOCK_NAME) == Lock()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"size": 7', '"size": -7', r"rung\.lock:12: .*\(artefacts\[0\]\.files\[0\]\.size\)"),
        ('"size": 7', '"size": "7"', r"rung\.lock:12: Expected `int`, got `str`"),
        (DIGEST, DIGEST[1:], r"rung\.lock:13: .*sha256\)"),
        (DIGEST, DIGEST.upper(), r"rung\.lock:13: "),
        ('"role"', '"rôle"', r"rung\.lock:9: .*unknown field `rôle`"),
        ('"revision"', '"name"', r"rung\.lock:4: .*missing required field `revision`"),
        ('"format": 1', '"format": 2', r"format 2 is newer than Rung .* reads format 1"),
        ('"format": 1', '"format": 0', r"0 is not a format"),
        ('"format": 1', '"format": "1"', r"rung\.lock:2: Expected `int`"),
        ('"format": 1,', '"format": 1', r"rung\.lock:3: JSON is malformed"),
        ("models/tiny.gguf", "../tiny.gguf", r"does not lie below this folder"),
        ("models/tiny.gguf", "/etc/passwd", r"does not lie below this folder"),
        ("models/tiny.gguf", "C:/tiny.gguf", r"does not lie below this folder"),
        ('"role": "weights"', '"role": "other"', r"has no weights"),
        ("2026-11-02T10:00:00.000+00:00", "yesterday", r"'yesterday' for when it was retrieved"),
        ("2026-11-02T10:00:00.000+00:00", "2026-11-02", r"'2026-11-02' for when it was retrieved"),
        ("2026-11-02T10:00:00.000", "0001-01-01T00:00:00.000+23:00", r"which is no time"),
        ('"parameters": 1573632', '"parameters": -5', r"Expected `int` >= 0 .*parameters\)"),
        ('"parameters": 1573632', f'"parameters": {10**30}', r"rung\.lock:\d+: "),
        ('"context_length": 2048', '"context_length": -1', r"Expected `int` >= 0"),
        ('"bits_per_weight": 4.85', '"bits_per_weight": -1', r"Expected `float` >= 0"),
        ('"name": "tiny"', '"name": ""', r"a model without a name"),
        ('"name": "tiny"', '"name": "a\\u001b[2J"', r"a text that cannot be shown, .*\(name\)"),
        ("apache-2.0", "a\\nverified", r"cannot be shown, 'a\\nverified' \(licence\)"),
        ("hf:someone", "hf:some\\u202eone", r"\(source\)"),
        (f'"{DIGEST}"', f'"{DIGEST}\\n"', r"rung\.lock:13: "),
        ('  "artefacts"', '<<<<<<< ours\n  "artefacts"', r"rung\.lock:3: a merge left its"),
    ],
)
def test_a_damaged_lock_is_one_sentence_with_its_line(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    """And nothing of it is used."""
    path = tmp_path / LOCK_NAME
    text = encoded(Lock(artefacts=(artefact(),))).decode()
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence) as refused:
        read_lock(path)
    assert refused.value.hint


def test_one_name_is_pinned_once(tmp_path: Path) -> None:
    """Else it would not say which."""
    path = tmp_path / LOCK_NAME
    path.write_bytes(encoded(Lock(artefacts=(artefact(), artefact()))))
    with pytest.raises(ConfigError, match="pins 'tiny' twice"):
        read_lock(path)


def test_one_file_is_the_weights_of_one_model(tmp_path: Path) -> None:
    """Which of two digests counted would be chance."""
    path = tmp_path / LOCK_NAME
    twin = msgspec.structs.replace(artefact(), name="twin", source="hf:b/b:Q4_K_M")
    path.write_bytes(encoded(Lock(artefacts=(artefact(), twin))))
    with pytest.raises(ConfigError, match=r"'models/tiny\.gguf' twice, as 'tiny' and 'twin'"):
        read_lock(path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 3000), st.integers(0, 40))
def test_no_damage_is_a_traceback(junk: bytes, at: int, cut: int) -> None:
    """Any bytes anywhere: a lock, or a sentence."""
    path = Path(_SCRATCH, LOCK_NAME)
    content = encoded(Lock(artefacts=(artefact(),)))
    path.write_bytes(content[:at] + junk + content[at + cut :])
    try:
        read_lock(path)
    except ConfigError as error:
        assert error.message.startswith(str(path))


@pytest.fixture(scope="module", autouse=True)
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _SCRATCH  # noqa: PLW0603 - hypothesis takes no fixtures of a test's own
    _SCRATCH = str(tmp_path_factory.mktemp("damage"))


_SCRATCH = ""


def _pin_some(path: Path, letter: str) -> None:
    for number in range(8):
        update_lock(path, lambda lock, n=number: lock.put(artefact(f"{letter}{n}")))  # type: ignore[misc]


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two processes and two threads, eight pins each; nothing else is left in the folder."""
    path = tmp_path / LOCK_NAME
    context = multiprocessing.get_context("spawn")
    workers: list[threading.Thread | multiprocessing.process.BaseProcess] = [
        *(context.Process(target=_pin_some, args=(path, letter)) for letter in "ab"),
        *(threading.Thread(target=_pin_some, args=(path, letter)) for letter in "cd"),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    names = [each.name for each in read_lock(path).artefacts]
    assert names == sorted(f"{letter}{number}" for letter in "abcd" for number in range(8))
    assert [file.name for file in tmp_path.iterdir()] == [LOCK_NAME]


def test_a_change_that_fails_leaves_the_lock_as_it_was(tmp_path: Path) -> None:
    """And lets the next one in."""
    path = tmp_path / LOCK_NAME
    update_lock(path, lambda lock: lock.put(artefact()))
    before = path.read_bytes()

    def fail(lock: Lock) -> Lock:
        raise StorageError("no")

    def outside(lock: Lock) -> Lock:
        file = msgspec.structs.replace(lock.artefacts[0].files[0], path="../x.gguf")
        return lock.put(artefact("x", files=(file,)))

    for change, kind in ((fail, StorageError), (outside, ConfigError)):
        with pytest.raises(kind):
            update_lock(path, change)
        assert path.read_bytes() == before
    update_lock(path, lambda lock: lock.put(artefact("next")))


def test_a_source_and_a_file_are_pinned_once() -> None:
    """What is pinned again takes its place; another model of the same name is called by its path."""
    lock = Lock().put(artefact()).put(artefact(revision="other"))
    assert [each.revision for each in lock.artefacts] == ["other"]
    moved = LockedFile(
        role="weights", path="sub/tiny.gguf", size=7, sha256=DIGEST, verified=Verified.COMPUTED
    )
    both = lock.put(artefact(source="file:sub/tiny.gguf", files=(moved,)))
    assert [each.name for each in both.artefacts] == ["sub/tiny", "tiny"]
    assert both.find("tiny") is not both.find("sub/tiny.gguf")
    assert both.holder("sub/tiny.gguf") == (both.artefacts[0], moved)


def test_models_of_one_stem_have_names_of_their_own(tmp_path: Path) -> None:
    """However many there are."""
    path = tmp_path / LOCK_NAME
    for place in ("models/m.gguf", "models/a/m.gguf", "models/a/m.bin", "m.gguf"):
        file = msgspec.structs.replace(artefact().files[0], path=place)
        model = artefact("m", source=f"file:{place}", files=(file,))
        update_lock(path, lambda lock, model=model: lock.put(model))  # type: ignore[misc]
    names = [each.name for each in read_lock(path).artefacts]
    assert names == ["m", "m.gguf", "models/a/m", "models/a/m.bin"]


def test_the_same_files_pinned_again_are_no_change() -> None:
    """What is known besides is kept; other files make another pin, of which nothing is known."""
    fit = FitRecord(context=1, slots=1, kv_type="f16", predicted=1, machine="m", rules="r")
    signature = Signature(bundle=DIGEST, signer="key sha256:00", checked="2026-11-02T10:00:00Z")
    lock = Lock().put(artefact(fit=fit, signature=signature))
    assert lock.put(artefact(retrieved="2026-12-01T10:00:00.000+00:00", rung="0.2.0")) == lock
    (moved,) = lock.put(artefact(revision="other", retrieved="2026-12-01T10:00:00Z")).artefacts
    assert (moved.fit, moved.signature, moved.revision) == (fit, signature, "other")
    assert moved.retrieved == "2026-12-01T10:00:00Z"
    other = msgspec.structs.replace(artefact().files[0], sha256="cd" * 32)
    (replaced,) = lock.put(artefact(files=(other,))).artefacts
    assert (replaced.fit, replaced.signature) == (None, None)


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("models/a.gguf", True),
        ("models/ä b.gguf", True),
        ("", False),
        (".", False),
        ("..", False),
        ("a/../b", False),
        ("a//b", False),
        ("./a", False),
        ("/a", False),
        ("a\\b", False),
        ("C:a", False),
        ("a\0b", False),
        ("a\nb", False),
    ],
)
def test_paths_of_a_lock_stay_below_it(path: str, below: bool) -> None:
    """In one spelling, on every platform."""
    assert (is_below(path) and is_nameable(path)) is below


def test_a_lock_that_is_nested_without_end_is_a_sentence(tmp_path: Path) -> None:
    """Deeper than any parser goes."""
    path = tmp_path / LOCK_NAME
    path.write_bytes(b'{"format": 1, "artefacts": ' + b"[" * 200_000)
    with pytest.raises(ConfigError, match=r"rung\.lock:1: "):
        read_lock(path)


def test_the_lock_is_plain_json() -> None:
    """For programs that are not Rung."""
    assert json.loads(encoded(Lock(artefacts=(artefact(),))))["artefacts"][0]["name"] == "tiny"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither")
def test_a_pipe_or_a_held_folder_holds_nothing_up(tmp_path: Path) -> None:
    """A pipe is refused before it is opened; a lock on the project's folder is nobody's that changes the lock."""
    import fcntl

    path = tmp_path / LOCK_NAME
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is not a regular file"):
        update_lock(path, lambda lock: lock)
    path.unlink()
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_SH)
    update_lock(path, lambda lock: lock.put(artefact()))
    os.close(folder)
    assert [file.name for file in tmp_path.iterdir()] == [LOCK_NAME]
