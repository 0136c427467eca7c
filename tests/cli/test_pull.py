"""`rung pull` as a person types it: what it says, how it ends, and what it leaves."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from gguf_models import tiny_lora, tiny_model
from hub import LICENSE_LAYER, MODEL_LAYER, Fault, Hub, Mode
from rung.cli import main
from rung.models.lock.drift import check
from rung.models.lock.file import LOCK_NAME, read_lock, update_lock
from rung.models.lock.record import Lock, Signature

REPO = "maker/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
REFERENCE = f"hf:{REPO}:Q4_K_M"
TEMPLATE = (
    "{% if tools %}{{ tools | length }} tools{% endif %}"
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if enable_thinking %}<think>{% endif %}"
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to be pulled."""
    return tiny_model(tmp_path_factory.mktemp("original") / FILE, template=TEMPLATE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to pull into."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def hub(original: Path) -> Iterator[Hub]:
    """A hub that has the model."""
    with Hub() as hub:
        hub.add_repo(REPO, {FILE: original}, licence="apache-2.0")
        yield hub


def environment(root: Path, hub: Hub) -> Mapping[str, str]:
    """Of a user who has no other program's store."""
    own = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    places = {name: str(root.parent / "home") for name in ("HOME", "HF_HOME", "RUNG_HOME")}
    return {**own, **hub.environment, **places, "OLLAMA_MODELS": str(root.parent / "none")}


def begin(root: Path, hub: Hub, *words: str) -> subprocess.Popen[str]:
    """The real command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "rung", "pull", *words],
        cwd=root,
        env=environment(root, hub),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Rung(Protocol):
    """`rung pull` in this process."""

    def __call__(self, *words: str, folder: Path | None = None) -> tuple[int, str, str]:
        """Exit code, output and messages of the command in a folder, that of the project if none is named."""


@pytest.fixture
def rung(
    root: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Rung:
    """The command line as the program runs it, but for the process."""
    for name in os.environ:
        if "proxy" in name.lower():
            monkeypatch.delenv(name)
    for name, value in environment(root, hub).items():
        monkeypatch.setenv(name, value)

    def run(*words: str, folder: Path | None = None) -> tuple[int, str, str]:
        monkeypatch.chdir(folder or root)
        monkeypatch.setattr(sys, "argv", ["rung", "pull", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return run


def visible(root: Path) -> list[str]:
    """Names of what is to be seen in the folder of models."""
    folder = root / "models"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if not path.name.startswith("."))


def partial_bytes(root: Path) -> int:
    """Bytes that wait to be gone on with."""
    return sum(path.stat().st_size for path in (root / "models" / ".part").glob("*.part"))


def test_it_says_what_was_got_and_pins_it(root: Path, rung: Rung, original: Path) -> None:
    """Revision, fit, licence; then how it was checked; then what it really is."""
    code, output, messages = rung(REFERENCE)
    assert (code, messages) == (0, "warning: " + messages.removeprefix("warning: "))
    lines = {line.split()[0]: line for line in output.splitlines()}
    assert list(lines) == ["resolve", "fetch", "verify", "pinned", "file", "next", "in"]
    assert lines["in"].endswith(f'model = "{REFERENCE}"')
    assert "main → " in lines["resolve"]
    assert "licence apache-2.0" in lines["resolve"]
    assert lines["fetch"].endswith("in 1 file")
    assert "sha256 matches the publisher · header valid · template compiles" in lines["verify"]
    assert "rung.lock (+1)" in lines["pinned"]
    assert "bits/weight" in lines["pinned"]
    assert lines["pinned"].endswith("context 2,048 · tools, thinking")
    assert (root / "models" / FILE).read_bytes() == original.read_bytes()
    assert check(read_lock(root / LOCK_NAME), root) == ()


def test_a_name_that_promises_other_bits_is_a_warning(rung: Rung) -> None:
    """The file called Q4_K_M is in half precision."""
    _, _, messages = rung(REFERENCE)
    assert f"warning: {REFERENCE} names 4 bits, the file is F16 with 16." in messages


def test_json_holds_the_same_facts(rung: Rung, original: Path) -> None:
    """One object; a second pull says that nothing changed."""
    code, output, _ = rung(REFERENCE, "--json")
    facts = json.loads(output)
    assert (code, facts["format"], facts["source"]) == (0, 1, REFERENCE)
    assert facts["files"][0]["size"] == original.stat().st_size
    assert facts["files"][0]["way"] == "fetched"
    assert facts["abilities"] == ["tools", "thinking"]
    assert (facts["licence"], facts["permissive"]) == ("apache-2.0", True)
    assert facts["fit"]["context"] == 2048
    again = json.loads(rung(REFERENCE, "--json")[1])
    assert (again["pinned"], again["files"][0]["way"]) == ("unchanged", "here")


def test_the_same_bytes_of_a_new_revision_are_not_called_unchanged(
    root: Path, hub: Hub, rung: Rung, original: Path
) -> None:
    """Revision and licence are, and what was known of the bytes stays."""
    rung(REFERENCE)
    signature = Signature(bundle="ab" * 32, signer="key", checked="2026-11-02T10:00:00Z")

    def sign(now: Lock) -> Lock:
        return now.put(msgspec.structs.replace(now.artefacts[0], signature=signature))

    update_lock(root / LOCK_NAME, sign)
    hub.add_repo(REPO, {FILE: original, "README.md": b"new"}, licence="mit")
    _, output, _ = rung(REFERENCE, "--force")
    assert (
        "pinned    rung.lock (the same files, new revision and licence (apache-2.0 → mit))"
        in output
    )
    (artefact,) = read_lock(root / LOCK_NAME).artefacts
    assert (artefact.licence, artefact.signature) == ("mit", signature)
    before = (root / LOCK_NAME).read_bytes()
    _, output, _ = rung(REFERENCE, "--force")
    assert "pinned    rung.lock (unchanged)" in output
    assert (root / LOCK_NAME).read_bytes() == before


def test_a_licence_reaches_neither_terminal_nor_lock_as_commands(
    root: Path, hub: Hub, rung: Rung, original: Path
) -> None:
    """Whoever publishes writes it."""
    hub.add_repo(REPO, {FILE: original}, licence="\x1b]0;x\x07\nverified   all")
    code, output, messages = rung(REFERENCE)
    assert code == 0
    assert "\x1b" not in output + messages
    assert not [line for line in output.splitlines() if line.startswith("verified")]
    (artefact,) = read_lock(root / LOCK_NAME).artefacts
    assert artefact.licence is None or artefact.licence.isprintable()


def test_everything_pinned_comes_back(root: Path, rung: Rung, original: Path) -> None:
    """Without a reference; the project is found from a folder below it."""
    (root / "rung.toml").write_text("format = 1\n")
    below = root / "deep" / "below"
    below.mkdir(parents=True)
    assert rung(REFERENCE, folder=below)[0] == 0
    (root / "models" / FILE).unlink()
    code, output, _ = rung(folder=below)
    assert (code, output.split(maxsplit=1)) == (
        0,
        ["tiny-Q4_K_M", f"brought back: models/{FILE}\n"],
    )
    assert (root / "models" / FILE).read_bytes() == original.read_bytes()
    assert json.loads(rung("--json")[1])["models"][0]["fetched"] == []


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((), 2, "nothing is pinned here"),
        (("--force",), 2, "need the MODEL"),
        (("hf:maker/../x",), 2, "does not name"),
        (("hf:maker/tiny-GGUF:Q2_K",), 2, "Q2_K"),
        (("hf:maker/nothing:Q4_K_M",), 2, "maker/nothing"),
        ((REFERENCE, "--frozen"), 1, "is not in rung.lock"),
        ((REFERENCE, "--ctx", "999999999"), 1, "does not fit"),
        ((REFERENCE, "--with", "mmproj"), 2, "is not the name of a projector's file"),
        ((REFERENCE, "--with", "mmproj-F16.gguf"), 2, "has no projector 'mmproj-F16.gguf'"),
    ],
)
def test_a_refusal_is_one_sentence_before_anything_is_fetched(
    root: Path, rung: Rung, words: tuple[str, ...], code: int, sentence: str
) -> None:
    """With the exit code of its kind."""
    found, _, messages = rung(*words)
    assert (found, sentence in messages) == (code, True)
    assert visible(root) == []


def test_one_pinned_model_comes_back_by_name_or_path_and_its_pin_stays(
    root: Path, hub: Hub, rung: Rung, original: Path
) -> None:
    """Also where its publisher has another one by now; frozen, by its reference, too."""
    assert rung(REFERENCE)[0] == 0
    before = (root / "rung.lock").read_bytes()
    tiny_model(root / "newer.gguf", seed=9)
    hub.add_repo(REPO, {FILE: root / "newer.gguf"})
    (root / "models" / "sub").mkdir()
    path = root / "models" / FILE
    for words in (
        ("tiny-Q4_K_M",),
        (f"models/{FILE}",),
        (f"./models/sub/../{FILE}",),
        (str(path),),
        (REFERENCE, "--frozen"),
        ("tiny-Q4_K_M", "--frozen"),
    ):
        path.unlink()
        assert rung(*words)[:2] == (0, f"{'tiny-Q4_K_M':<22}  brought back: models/{FILE}\n"), words
        assert path.read_bytes() == original.read_bytes()
        assert (root / "rung.lock").read_bytes() == before
    code, _, messages = rung(REFERENCE)
    assert (code, "is pinned at" in messages) == (1, True)
    assert rung("tiny-Q4_K_M", "--force")[0] == 0
    assert path.read_bytes() == (root / "newer.gguf").read_bytes()


def test_the_starter_needs_no_pull(rung: Rung) -> None:
    """It comes with Rung."""
    code, output, _ = rung("starter")
    assert (code, "comes with Rung" in output) == (0, True)


def test_an_adapter_is_said_to_be_named_in_rung_toml(root: Path, hub: Hub, rung: Rung) -> None:
    """It cannot be run by itself."""
    tiny_lora(root / "lora.gguf")
    hub.add_repo(REPO, {"lora.gguf": root / "lora.gguf"})
    code, output, _ = rung(f"hf:{REPO}:lora.gguf")
    assert (code, 'load = { adapters = { NAME = "models/lora.gguf" } }' in output) == (0, True)
    assert "rung run" not in output
    assert "unknown" not in output


def test_a_licence_that_is_a_text_is_named(
    root: Path, hub: Hub, rung: Rung, original: Path
) -> None:
    """Models of Ollama's registry come with theirs."""
    hub.add_ollama("library/tiny", "1b", [(MODEL_LAYER, original), (LICENSE_LAYER, b"Be good.")])
    code, _, messages = rung("ollama:tiny:1b")
    assert (code, "states no licence" in messages) == (0, False)
    assert "read models/tiny-1b.licence.txt" in messages


def test_other_bytes_than_published_end_with_exit_3(root: Path, hub: Hub, rung: Rung) -> None:
    """Both digests are said, and nothing is left; here the second pull, whose header is known already."""
    assert rung(REFERENCE)[0] == 0
    (root / "models" / FILE).unlink()
    hub.fail(Fault(Mode.WRONG_BYTES), times=9)
    code, _, messages = rung()
    assert (code, "its publisher states" in messages) == (3, True)
    assert visible(root) == []
    assert partial_bytes(root) == 0


def test_a_full_disk_is_one_sentence_and_the_rest_can_follow(
    root: Path, hub: Hub, rung: Rung
) -> None:
    """A real failing write, at a limit of the system on the size of files."""
    process = begin(root, hub, REFERENCE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the file may not grow further" in messages
    assert visible(root) == []
    assert partial_bytes(root) == 1_000_000
    code, _, messages = rung(REFERENCE)
    assert (code, "goes on from 1.00 MB" in messages) == (0, True)


def test_a_folder_that_cannot_be_made_is_one_sentence(root: Path, rung: Rung) -> None:
    """A file is in its place."""
    (root / "models").write_text("mine")
    code, _, messages = rung(REFERENCE)
    assert (code, "cannot write" in messages, "Traceback" in messages) == (3, True, False)
    assert (root / "models").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_one_sentence(root: Path, rung: Rung) -> None:
    """As on a shared disk."""
    (root / "models").mkdir(mode=0o555)
    code, _, messages = rung(REFERENCE)
    assert (code, "permission denied" in messages, "Traceback" in messages) == (3, True, False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_is_heeded_and_the_same_command_goes_on(
    root: Path, hub: Hub, rung: Rung, original: Path, number: signal.Signals, code: int
) -> None:
    """Nothing is visible, what has come is kept."""
    hub.rate = 2e6
    process = begin(root, hub, REFERENCE)
    until = time.monotonic() + 30
    while partial_bytes(root) < 100_000 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(number)
    _, messages = process.communicate(timeout=30)
    assert (process.returncode, "the same command goes on" in messages) == (code, True)
    assert visible(root) == []
    assert partial_bytes(root) >= 100_000
    hub.rate = None
    code, _, messages = rung(REFERENCE)
    assert (code, "goes on from" in messages) == (0, True)
    assert (root / "models" / FILE).read_bytes() == original.read_bytes()


def test_what_is_left_of_a_stop_is_removed_on_demand(root: Path, rung: Rung) -> None:
    """`--clean`, alone; it says how much that was."""
    part = root / "models" / ".part"
    part.mkdir(parents=True)
    (part / f"{'0' * 64}.part").write_bytes(bytes(2_000_000))
    assert rung("--clean", REFERENCE)[0] == 2
    assert rung("--clean")[:2] == (0, "1 unfinished file removed, 2.00 MB\n")
    assert json.loads(rung("--clean", "--json")[1]) == {
        "format": 1,
        "files": 0,
        "size": 0,
        "held": 0,
    }
    assert list(part.iterdir()) == []


def test_what_is_left_below_is_removed_too(root: Path, rung: Rung) -> None:
    """Models lie in folders below `models` where two have one name."""
    left = root / "models" / "maker" / ".part" / f"{'ab' * 32}.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(1000))
    code, output, _ = rung("--clean")
    assert (code, output) == (0, "1 unfinished file removed, 1.00 kB\n")
    assert not left.exists()


def test_an_address_is_said_with_its_etag_and_without_its_query(
    root: Path, hub: Hub, rung: Rung, original: Path
) -> None:
    """It has no branch; the query may be a key, whatever goes wrong."""
    url = hub.add_file(FILE, original)
    code, output, messages = rung(f"{url}?key=SECRET")
    assert code == 0
    assert output.startswith(f"resolve   {url} with the etag ")
    said = [output, messages]
    (root / "models" / FILE).unlink()
    hub.fail(Fault(Mode.CUT, after=1_000_000), times=2, path="/files/")
    code, output, messages = rung(f"{url}?key=SECRET")
    assert (code, "next attempt" in messages) == (0, True)
    said += [output, messages]
    hub.fail(Fault(Mode.STATUS, status=403), times=9, path="/files/")
    said += map(str, rung(f"{url}?key=SECRET", "--force"))
    (root / "models" / FILE).unlink()
    said += map(str, rung())
    hub.fail(Fault(Mode.REDIRECT, to=f"{url}?key=SECRET"), times=99, path="/files/")
    said += map(str, rung(f"{url}?key=SECRET", "--json"))
    assert [words for words in said if "SECRET" in words] == []


def test_of_two_pulls_at_once_one_fetches_and_the_other_waits(root: Path, original: Path) -> None:
    """Both end well, and the bytes come once."""
    with Hub(rate=4e6) as hub:
        hub.add_repo(REPO, {FILE: original})
        both = [begin(root, hub, REFERENCE) for _ in range(2)]
        ended = [process.communicate(timeout=60) for process in both]
        served = sum(r.sent for r in hub.requests_for("/cdn/"))
    assert [process.returncode for process in both] == [0, 0], ended
    said = [messages for _, messages in ended]
    assert sum("another process is fetching" in messages for messages in said) == 1
    size = original.stat().st_size
    assert served < 2 * size + 1_000_000
    assert (root / "models" / FILE).read_bytes() == original.read_bytes()
    assert check(read_lock(root / LOCK_NAME), root) == ()
    assert list((root / "models" / ".part").iterdir()) == []
