"""From a reference to a pinned model: what becomes visible when, and what is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from pullable import (
    FILE,
    LARGE,
    REFERENCE,
    REPO,
    Told,
    drift,
    left_over,
    model,
    pulled,
    sha256,
    split_model,
    visible,
)

from gguf_models import tiny_lora
from hub import LICENSE_LAYER, MODEL_LAYER, PARAMS_LAYER, TEMPLATE_LAYER, Fault, Hub, Mode
from rung.blocking import run_blocking
from rung.errors import GateError, InputError, ModelError, SourceError, StorageError
from rung.exclusive import let_go, take
from rung.models.fit.estimate import Estimate
from rung.models.header import Header
from rung.models.lock.file import LOCK_NAME, read_lock, update_lock
from rung.models.lock.record import Verified
from rung.models.pull.events import Event, Fetching, Hashing, Here, Linked, Settled, Tell
from rung.models.pull.facts import surprises
from rung.models.pull.fitting import Fitting
from rung.models.pull.leftovers import remove_leftovers
from rung.models.pull.obtaining import Obtaining
from rung.models.pull.plan import wanted
from rung.models.pull.pulling import Pulled, pull
from rung.models.pull.restoring import pinned, restore
from rung.models.pull.room import check_room
from rung.models.reference import parse_reference
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import Resolved


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that are made once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Servers of this test, and no store of another program."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "no-ollama"))
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    with Hub() as hub:
        hub.use(monkeypatch)
        yield hub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a project."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def test_a_pulled_model_is_the_publishers_byte_for_byte_and_pinned(
    hub: Hub, models: Path, root: Path
) -> None:
    """With the commit, the digest, the licence and what it is expected to take."""
    original = model(models)
    commit = hub.add_repo(REPO, {FILE: original}, licence="apache-2.0")
    told = Told()
    done = run_blocking(pulled(REFERENCE, root, tell=told))
    assert visible(root) == [FILE]
    assert (root / "models" / FILE).read_bytes() == original.read_bytes()
    assert (root / "models" / FILE).stat().st_mode & 0o777 == 0o644
    (artefact,) = read_lock(root / LOCK_NAME).artefacts
    assert artefact == done.artefact
    assert (artefact.source, artefact.revision, artefact.licence) == (
        REFERENCE,
        commit,
        "apache-2.0",
    )
    assert [(f.path, f.sha256, f.verified) for f in artefact.files] == [
        (f"models/{FILE}", sha256(original), Verified.PUBLISHER)
    ]
    assert artefact.fit is not None
    assert artefact.fit.predicted > original.stat().st_size // 2
    assert drift(root) == []
    assert left_over(root) == []
    assert told.kinds() == ["Settled", "Fetching"]


def test_pulled_again_nothing_is_fetched_and_nothing_changes(
    hub: Hub, models: Path, root: Path
) -> None:
    """But for the time of the pin."""
    hub.add_repo(REPO, {FILE: model(models)})
    first = run_blocking(pulled(REFERENCE, root))
    served, told = len(hub.requests_for("/cdn/")), Told()
    second = run_blocking(pulled(REFERENCE, root, tell=told))
    ranged = [r for r in hub.requests_for("/cdn/")[served:] if r.sent > 5_000_000]
    assert ranged == []
    assert any(isinstance(event, Here) for event in told.events)
    assert msgspec.structs.replace(second.artefact, retrieved="") == msgspec.structs.replace(
        first.artefact, retrieved=""
    )


def test_a_moved_branch_does_not_move_the_pin_unasked(hub: Hub, models: Path, root: Path) -> None:
    """Refused with both revisions; `force` moves it."""
    hub.add_repo(REPO, {FILE: model(models)})
    first = run_blocking(pulled(REFERENCE, root)).artefact
    other = model(models, seed=7)
    hub.add_repo(REPO, {FILE: other})
    with pytest.raises(GateError, match=f"is pinned at {first.revision[:12]} and is at"):
        run_blocking(pulled(REFERENCE, root))
    assert sha256(root / "models" / FILE) == first.files[0].sha256
    moved = run_blocking(pulled(REFERENCE, root, force=True))
    assert sha256(root / "models" / FILE) == sha256(other) == moved.artefact.files[0].sha256
    assert len(read_lock(root / LOCK_NAME).artefacts) == 1
    assert drift(root) == []


def test_a_pin_is_not_lost_to_another_source_with_a_file_of_its_name(
    hub: Hub, models: Path, root: Path
) -> None:
    """Not even while the pinned file is away, nor to another name of the same bytes, which no rung may know."""
    hub.add_repo(REPO, {FILE: model(models)})
    hub.add_repo("other/tiny", {FILE: model(models, seed=7)})
    hub.add_repo("mirror/tiny", {FILE: model(models)})
    run_blocking(pulled(REFERENCE, root))
    (root / "models" / FILE).unlink()
    with pytest.raises(GateError, match=f"{FILE}' is the file of {REFERENCE} already") as refused:
        run_blocking(pulled("hf:other/tiny:Q4_K_M", root))
    assert "--into FOLDER keeps both" in (refused.value.hint or "")
    for other in ("hf:mirror/tiny:Q4_K_M", f"hf:{REPO}"):
        with pytest.raises(GateError, match=f"is pinned as {REFERENCE} already, which {other}"):
            run_blocking(pulled(other, root))
    assert visible(root) == []
    run_blocking(pulled("hf:mirror/tiny:Q4_K_M", root, force=True))
    assert [a.source for a in read_lock(root / LOCK_NAME).artefacts] == ["hf:mirror/tiny:Q4_K_M"]


def test_two_models_with_one_file_name_are_kept_in_two_folders(
    hub: Hub, models: Path, root: Path
) -> None:
    """Pulled again, and brought back, the second one is where it was put."""
    hub.add_repo(REPO, {FILE: model(models)})
    hub.add_repo("other/tiny", {FILE: model(models, seed=7)})
    run_blocking(pulled(REFERENCE, root))
    second = f"models/other/{FILE}"
    for into in ("other", None, "other"):
        done = run_blocking(pulled("hf:other/tiny:Q4_K_M", root, into=into))
        assert [file.path for file in done.artefact.files] == [second]
    (root / second).unlink()
    assert (second,) in brought_back(root)
    assert drift(root) == []
    for wrong in ("elsewhere", "../other", ""):
        with pytest.raises(InputError):
            run_blocking(pulled("hf:other/tiny:Q4_K_M", root, into=wrong))


def test_another_licence_is_not_adopted_unasked(hub: Hub, models: Path, root: Path) -> None:
    """Somebody may have agreed to the old one; both are said."""
    hub.add_repo(REPO, {FILE: model(models)}, licence="apache-2.0")
    run_blocking(pulled(REFERENCE, root))
    before = (root / LOCK_NAME).read_bytes()
    hub.add_repo(REPO, {FILE: model(models), "README.md": b"new"}, licence="research-only")
    with pytest.raises(GateError, match=r"is 'research-only' now, and 'apache-2.0' is pinned"):
        run_blocking(pulled(REFERENCE, root))
    assert (root / LOCK_NAME).read_bytes() == before
    assert run_blocking(pulled(REFERENCE, root, force=True)).artefact.licence == "research-only"


def test_an_adapter_is_fetched_without_an_estimate(hub: Hub, models: Path, root: Path) -> None:
    """It says nothing of the model that it is for; the scan decides."""
    tiny_lora(models / "lora.gguf")
    hub.add_repo(REPO, {"lora.gguf": models / "lora.gguf"})
    done = run_blocking(pulled(f"hf:{REPO}:lora.gguf", root))
    assert (done.estimate, done.artefact.fit) == (None, None)
    assert drift(root) == []


def test_a_changed_file_that_is_pinned_is_put_right(hub: Hub, models: Path, root: Path) -> None:
    """By pulling its reference, or everything."""
    hub.add_repo(REPO, {FILE: model(models)})
    artefact = run_blocking(pulled(REFERENCE, root)).artefact
    for again in (lambda: run_blocking(pulled(REFERENCE, root)), lambda: brought_back(root)):
        (root / "models" / FILE).write_bytes(b"GGUF, but no more")
        again()
        assert sha256(root / "models" / FILE) == artefact.files[0].sha256


def brought_back(root: Path) -> list[tuple[str, ...]]:
    """What `rung pull` alone fetches, by artefact."""

    async def work() -> list[tuple[str, ...]]:
        async with Sources() as sources:
            return [
                (await restore(artefact, root, sources, lambda event: None)).fetched
                for artefact in pinned(root)
            ]

    return run_blocking(work())


def test_everything_pinned_comes_back_at_its_revision(hub: Hub, models: Path, root: Path) -> None:
    """Though the branch and the tag have moved since."""
    hub.add_repo(REPO, {FILE: model(models)})
    hub.add_ollama("library/tiny", "1b", [(MODEL_LAYER, model(models, seed=2))])
    run_blocking(pulled(REFERENCE, root))
    run_blocking(pulled("ollama:tiny:1b", root))
    before = (root / LOCK_NAME).read_bytes()
    hub.add_repo(REPO, {FILE: model(models, seed=3)})
    hub.add_ollama("library/tiny", "1b", [(MODEL_LAYER, model(models, seed=4))])
    for name in visible(root):
        (root / "models" / name).unlink()
    assert sorted(brought_back(root)) == [
        ("models/tiny-1b.gguf",),
        (f"models/{FILE}",),
    ]
    assert drift(root) == []
    assert (root / LOCK_NAME).read_bytes() == before
    assert brought_back(root) == [(), ()]


def test_pinned_bytes_that_are_gone_are_an_error(hub: Hub, models: Path, root: Path) -> None:
    """An address that serves another file now; nothing is put in the place of the pinned one."""
    url = hub.add_file("own.gguf", model(models))
    run_blocking(pulled(url, root))
    (root / "models" / "own.gguf").unlink()
    hub.add_file("own.gguf", model(models, seed=5))
    with pytest.raises((SourceError, ModelError)):
        brought_back(root)
    assert visible(root) == []


def test_an_address_is_trusted_on_first_use_and_held_to_it(
    hub: Hub, models: Path, root: Path
) -> None:
    """Its digest is computed here, said to be, and pinned."""
    original = model(models)
    url = hub.add_file("own.gguf", original)
    done = run_blocking(pulled(url, root))
    assert [(f.sha256, f.verified) for f in done.artefact.files] == [
        (sha256(original), Verified.COMPUTED)
    ]
    assert done.artefact.revision
    assert run_blocking(pulled(url, root)).artefact.files == done.artefact.files
    hub.add_file("own.gguf", model(models, seed=5))
    with pytest.raises((GateError, InputError)):
        run_blocking(pulled(url, root))
    assert sha256(root / "models" / "own.gguf") == sha256(original)
    run_blocking(pulled(url, root, force=True))
    assert sha256(root / "models" / "own.gguf") == sha256(model(models, seed=5))


def test_a_file_of_somebody_else_is_not_overwritten(hub: Hub, models: Path, root: Path) -> None:
    """Before anything is fetched."""
    hub.add_repo(REPO, {FILE: model(models)})
    (root / "models").mkdir()
    (root / "models" / FILE).write_text("mine")
    with pytest.raises(InputError, match="is there already and is another file"):
        run_blocking(pulled(REFERENCE, root))
    assert (root / "models" / FILE).read_text() == "mine"
    assert not (root / LOCK_NAME).exists()
    run_blocking(pulled(REFERENCE, root, force=True))
    assert drift(root) == []


def in_parts(models: Path) -> list[Path]:
    """A model in two parts, made once."""
    folder = models / "parts"
    if not folder.is_dir():
        folder.mkdir()
        split_model(folder, model(models), 12)
    return sorted(folder.iterdir())


def test_a_split_model_is_pinned_with_all_its_parts(hub: Hub, models: Path, root: Path) -> None:
    """In their order, and read as one model."""
    parts = in_parts(models)
    assert len(parts) == 2
    hub.add_repo(REPO, {f"Q8_0/{path.name}": path for path in parts})
    done = run_blocking(pulled(f"hf:{REPO}:Q8_0", root))
    assert visible(root) == [path.name for path in parts]
    assert [file.sha256 for file in done.artefact.files] == [sha256(path) for path in parts]
    assert drift(root) == []


def test_of_a_split_model_no_part_is_visible_when_one_is_wrong(
    hub: Hub, models: Path, root: Path, tmp_path: Path
) -> None:
    """Here the last one; what is right of the others is kept for the next attempt."""
    parts = in_parts(models)
    reference = f"hf:{REPO}:Q8_0"
    hub.add_repo(REPO, {f"Q8_0/{path.name}": path for path in parts})
    run_blocking(pulled(reference, tmp_path))  # so that headers are known and only bytes are read
    hub.fail(Fault(Mode.WRONG_BYTES), times=1, path=f"/cdn/{sha256(parts[-1])}")
    with pytest.raises(SourceError, match="its publisher states"):
        run_blocking(pulled(reference, root))
    assert visible(root) == []
    assert not (root / LOCK_NAME).exists()
    served = hub.bytes_served
    run_blocking(pulled(reference, root))
    assert visible(root) == [path.name for path in parts]
    assert hub.bytes_served - served < parts[-1].stat().st_size + 10_000


def test_a_malformed_model_that_has_the_right_digest_never_becomes_visible(
    hub: Hub, models: Path, root: Path
) -> None:
    """The publisher's digest says who made it, not that it is harmless."""
    bad = bytearray(model(models).read_bytes())
    at = bad.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8 + 4
    bad[at : at + 8] = (1 << 50).to_bytes(8, "little")  # where its data begins
    hub.add_repo(REPO, {FILE: bytes(bad)})
    with pytest.raises((GateError, ModelError)):
        run_blocking(pulled(REFERENCE, root))
    assert visible(root) == []
    assert left_over(root) == []
    assert not (root / LOCK_NAME).exists()


def test_a_scan_that_blocks_leaves_nothing(hub: Hub, models: Path, root: Path) -> None:
    """A template that would run for ever is found after the download only."""
    bomb = "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}"
    hub.add_repo(REPO, {FILE: model(models, template=bomb)})
    with pytest.raises(GateError, match="blocked"):
        run_blocking(pulled(REFERENCE, root))
    assert visible(root) == []
    assert left_over(root) == []
    assert not (root / LOCK_NAME).exists()


def test_a_model_that_does_not_fit_is_not_begun(hub: Hub, models: Path, root: Path) -> None:
    """The sentence has what it takes and what there is."""
    hub.add_repo(REPO, {FILE: model(models)})
    host = msgspec.structs.replace(LARGE.host, total=2**20, available=2**20)
    small = msgspec.structs.replace(LARGE, name="small", devices=(host,))

    async def work(force: bool) -> None:
        async with Sources() as sources:
            await pull(
                parse_reference(REFERENCE),
                root,
                sources,
                fit=Fitting(small, context=None, force=force),
                tell=lambda event: None,
            )

    with pytest.raises(GateError, match="does not fit: with 2,048 tokens it takes"):
        run_blocking(work(False))
    assert visible(root) == []
    run_blocking(work(True))
    assert visible(root) == [FILE]


def test_a_disk_without_room_is_not_begun_to_be_filled(tmp_path: Path) -> None:
    """Asked of the real disk, for a folder that is yet to be made."""
    check_room(tmp_path / "a" / "b", [1000, 1000])
    with pytest.raises(StorageError, match=r"1,000,000,000,000\.0 MB are to be fetched and"):
        check_room(tmp_path / "a" / "b", [10**18])


def test_layers_of_ollama_get_names_and_are_pinned(hub: Hub, models: Path, root: Path) -> None:
    """Licence and parameters lie beside the model; the template of another language only shows in the revision."""
    digest = hub.add_ollama(
        "library/tiny",
        "1b",
        [
            (MODEL_LAYER, model(models)),
            (TEMPLATE_LAYER, b"{{- if .System }}{{ .System }}{{ end }}{{ .Prompt }}"),
            (LICENSE_LAYER, b"Apache License\nVersion 2.0, January 2004\n"),
            (LICENSE_LAYER, b"Apache License\nVersion 2.0, January 2004\n"),  # the same once more
            (LICENSE_LAYER, b"Acceptable use\n"),
            (PARAMS_LAYER, b'{"stop": ["<|im_end|>"]}'),
        ],
    )
    done = run_blocking(pulled("ollama:tiny:1b", root))
    assert done.artefact.revision == digest
    assert any("template" in said for said in surprises(done.resolved, done.artefact))
    assert sorted(file.path for file in done.artefact.files) == [
        "models/tiny-1b.3.licence.txt",
        "models/tiny-1b.gguf",
        "models/tiny-1b.licence.txt",
        "models/tiny-1b.parameters.json",
    ]
    assert drift(root) == []


def test_a_file_of_this_machine_is_linked_not_copied(hub: Hub, models: Path, root: Path) -> None:
    """And theirs stays as it was."""
    theirs = root.parent / "store" / "theirs.gguf"
    theirs.parent.mkdir()
    theirs.write_bytes(model(models).read_bytes())
    theirs.chmod(0o600)
    told = Told()
    done = run_blocking(pulled(str(theirs), root, tell=told))
    assert (root / "models" / "theirs.gguf").samefile(theirs)
    assert theirs.stat().st_mode & 0o777 == 0o600
    assert any(isinstance(event, Linked) for event in told.events)
    assert done.artefact.source == "file:models/theirs.gguf"
    assert drift(root) == []
    assert run_blocking(pulled("file:" + str(theirs), root)).artefact.files == done.artefact.files
    assert left_over(root) == []


def test_a_store_on_another_file_system_is_linked_symbolically(
    hub: Hub, models: Path, root: Path
) -> None:
    """Hard links end at the border of a file system."""
    shm = Path("/dev/shm")  # noqa: S108  # a file system of its own on Linux
    if not shm.is_dir() or shm.stat().st_dev == root.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    theirs = shm / f"rung-test-{os.getpid()}.gguf"
    try:
        theirs.write_bytes(model(models).read_bytes())
        run_blocking(pulled(str(theirs), root))
        assert (root / "models" / theirs.name).is_symlink()
        assert drift(root) == []
    finally:
        theirs.unlink(missing_ok=True)


def ollama_store(hub: Hub, folder: Path, original: Path) -> Path:
    """The folder that Ollama keeps the model `tiny:1b` in; gives the file with its weights."""
    hub.add_ollama("library/tiny", "1b", [(MODEL_LAYER, original)])
    manifest = folder / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "1b"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(hub.manifest("library/tiny", "1b"))
    blob = folder / "blobs" / f"sha256-{sha256(original)}"
    blob.parent.mkdir()
    blob.write_bytes(original.read_bytes())
    return blob


def test_what_ollama_has_is_not_fetched(
    hub: Hub, models: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file becomes visible under a second name."""
    store = root.parent / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    blob = ollama_store(hub, store, model(models))
    told = Told()
    run_blocking(pulled("ollama:tiny:1b", root, tell=told))
    assert (root / "models" / "tiny-1b.gguf").samefile(blob)
    assert hub.requests_for(f"/cdn/{sha256(blob)}") == []
    assert [event.store for event in told.events if isinstance(event, Linked)] == ["Ollama"]
    assert drift(root) == []


def test_a_damaged_file_of_a_store_is_fetched_instead(
    hub: Hub, models: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and the store is left as it is."""
    store = root.parent / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    blob = ollama_store(hub, store, model(models))
    damaged = bytearray(blob.read_bytes())
    damaged[-1] ^= 1
    blob.write_bytes(damaged)
    told = Told()
    run_blocking(pulled("ollama:tiny:1b", root, tell=told))
    assert sha256(root / "models" / "tiny-1b.gguf") == sha256(model(models))
    assert blob.read_bytes() == damaged
    assert "Restarted" in told.kinds()


def test_a_projector_is_fetched_when_asked_for_and_stays_part_of_the_pin(
    hub: Hub, models: Path, root: Path
) -> None:
    """A later pull without the wish does not lose it."""
    hub.add_repo(REPO, {FILE: model(models), "mmproj-F16.gguf": model(models, layers=1)})
    assert len(run_blocking(pulled(REFERENCE, root)).artefact.files) == 1
    both = ["models/mmproj-F16.gguf", f"models/{FILE}"]
    for asked in ("mmproj-F16.gguf", None):
        done = run_blocking(pulled(REFERENCE, root, projector=asked))
        assert sorted(file.path for file in done.artefact.files) == both
    (root / both[0]).unlink()
    assert brought_back(root) == [(both[0],)]
    assert drift(root) == []


def test_projectors_of_one_name_do_not_take_each_others_place(
    hub: Hub, models: Path, root: Path
) -> None:
    """Nearly every repository calls its own `mmproj-F16.gguf`."""
    for number, name in enumerate(("one", "two")):
        hub.add_repo(
            f"maker/{name}",
            {
                f"{name}-Q4_K_M.gguf": model(models, seed=number),
                "mmproj-F16.gguf": model(models, layers=1, seed=number),
            },
        )
        run_blocking(pulled(f"hf:maker/{name}", root, projector="mmproj-F16.gguf"))
    second = "models/two-Q4_K_M.with.mmproj-F16.gguf"
    assert (root / "models/mmproj-F16.gguf").is_file()
    assert drift(root) == []
    done = run_blocking(pulled("hf:maker/two", root))
    assert [file.path for file in done.artefact.files] == ["models/two-Q4_K_M.gguf", second]
    (root / second).unlink()
    assert (second,) in brought_back(root)
    assert drift(root) == []


def test_an_address_with_a_query_is_pinned_without_it(hub: Hub, models: Path, root: Path) -> None:
    """It may be a key; with another one the same file is the same pin."""
    address = hub.add_file(FILE, model(models))
    for query in ("sig=abc", "sig=def"):
        done = run_blocking(pulled(f"{address}?{query}", root))
        assert done.artefact.source == f"{address}?"
    assert len(read_lock(root / LOCK_NAME).artefacts) == 1
    kept = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".gguf"]
    assert not any(b"sig=" in path.read_bytes() for path in kept)
    (root / "models" / FILE).unlink()
    with pytest.raises(ModelError, match="cannot be asked again"):
        brought_back(root)


def test_what_was_shown_and_not_pinned_is_pinned_without_a_download(
    hub: Hub, models: Path, root: Path
) -> None:
    """As after a kill between the two; with and without a publisher's digest."""
    hub.add_repo(REPO, {FILE: model(models)})
    run_blocking(pulled(REFERENCE, root))
    (root / LOCK_NAME).unlink()
    told = Told()
    run_blocking(pulled(REFERENCE, root, tell=told))
    assert told.kinds()[-1] == "Here"
    assert "Fetching" not in told.kinds()
    assert drift(root) == []


def test_two_pins_at_once_lose_nothing(hub: Hub, models: Path, root: Path) -> None:
    """The lock has both."""
    for seed in range(3):
        hub.add_repo(f"maker/m{seed}", {f"m{seed}.gguf": model(models, seed=seed)})

    async def work() -> None:
        await asyncio.gather(*(pulled(f"hf:maker/m{n}:m{n}.gguf", root) for n in range(3)))

    run_blocking(work())
    assert [a.name for a in read_lock(root / LOCK_NAME).artefacts] == ["m0", "m1", "m2"]
    assert drift(root) == []


def test_a_server_that_sends_elsewhere_gives_nothing(hub: Hub, models: Path, root: Path) -> None:
    """A redirect to an address that a server of models has no business with."""
    hub.add_repo(REPO, {FILE: model(models)})
    hub.fail(Fault(Mode.REDIRECT, to="http://169.254.169.254/latest/"), times=99, path="/resolve/")
    with pytest.raises((SourceError, ModelError)):
        run_blocking(pulled(REFERENCE, root))
    assert visible(root) == []


def test_what_is_settled_is_told_before_the_first_byte(hub: Hub, models: Path, root: Path) -> None:
    """So that a person can stop it."""
    hub.add_repo(REPO, {FILE: model(models)}, licence="llama3.2")
    told = Told()
    run_blocking(pulled(REFERENCE, root, tell=told))
    first = told.events[0]
    assert isinstance(first, Settled)
    assert first.resolved.licence == "llama3.2"
    assert first.estimate is not None


def test_a_damaged_lock_is_found_before_anything_is_fetched(
    hub: Hub, models: Path, root: Path
) -> None:
    """What could not be pinned need not be fetched."""
    hub.add_repo(REPO, {FILE: model(models)})
    run_blocking(pulled(REFERENCE, root))
    update_lock(root / LOCK_NAME, lambda lock: lock)
    (root / LOCK_NAME).write_text("{")
    served = len(hub.log)
    with pytest.raises(Exception, match=r"rung\.lock"):
        run_blocking(pulled(REFERENCE, root, force=True))
    assert hub.requests_for("/cdn/")[served:] == []


def other_file(root: Path) -> None:
    """Somebody's own."""
    (root / "models" / FILE).write_text("mine")


def folder_(root: Path) -> None:
    """Empty."""
    (root / "models" / FILE).mkdir()


def dangling_link(root: Path) -> None:
    """To a disk that is not there, say."""
    (root / "models" / FILE).symlink_to(root / "nowhere")


@pytest.mark.parametrize("taken", [other_file, folder_, dangling_link])
@pytest.mark.parametrize("published", [True, False])
def test_a_taken_place_is_found_before_any_byte_is_fetched(
    hub: Hub,
    models: Path,
    root: Path,
    taken: Callable[[Path], None],
    published: bool,
) -> None:
    """With a digest to compare and without; only headers are read."""
    hub.add_repo(REPO, {FILE: model(models)})
    reference = REFERENCE if published else hub.add_file(FILE, model(models))
    (root / "models").mkdir()
    taken(root)
    told = Told()
    with pytest.raises(InputError, match=r"is there already|is a folder"):
        run_blocking(pulled(reference, root, tell=told))
    assert "Fetching" not in told.kinds()
    assert left_over(root) == []


def test_a_taken_place_of_a_later_part_is_found_before_the_first_is_fetched(
    hub: Hub, models: Path, root: Path
) -> None:
    """Parts of a model come one after another."""
    parts = in_parts(models)
    hub.add_repo(REPO, {f"Q8_0/{path.name}": path for path in parts})
    (root / "models" / parts[-1].name).mkdir(parents=True)
    told = Told()
    with pytest.raises(InputError, match="is a folder"):
        run_blocking(pulled(f"hf:{REPO}:Q8_0", root, tell=told))
    assert "Fetching" not in told.kinds()


def test_of_two_models_with_one_file_name_the_second_is_not_fetched(
    hub: Hub, models: Path, root: Path
) -> None:
    """It waits for the first, and is refused."""
    hub.add_repo("maker/one", {FILE: model(models)})
    hub.add_repo("maker/two", {FILE: model(models, seed=7)})
    told = Told()

    async def work() -> list[Pulled | BaseException]:
        both = (pulled(f"hf:maker/{name}:Q4_K_M", root, tell=told) for name in ("one", "two"))
        return await asyncio.gather(*both, return_exceptions=True)

    ended = run_blocking(work())
    assert sorted(isinstance(each, InputError) for each in ended) == [False, True], ended
    assert "Waiting" in told.kinds()
    whole = [r for r in hub.requests_for("/cdn/") if r.range is None and r.sent]
    assert len(whole) == 1
    assert drift(root) == []


def test_a_pinned_address_that_is_as_it_was_is_not_fetched_again(
    hub: Hub, models: Path, root: Path
) -> None:
    """Its etag says so, and the file here has the pinned digest."""
    url = hub.add_file("own.gguf", model(models))
    first = run_blocking(pulled(url, root)).artefact
    told = Told()
    again = run_blocking(pulled(url, root, tell=told)).artefact
    assert "Fetching" not in told.kinds()
    assert again == first
    assert first.files[0].verified is Verified.COMPUTED


def swapped(hub: Hub, models: Path) -> tuple[str, Tell, list[str]]:
    """An address whose file is another one of the same size once its header was read; what tells it, and its events."""
    real, announced = model(models).read_bytes(), bytearray(model(models).read_bytes())
    at = announced.index(b"llama.context_length") + len(b"llama.context_length") + 4
    announced[at : at + 4] = (512).to_bytes(4, "little")
    kinds: list[str] = []

    def tell(event: Event) -> None:
        kinds.append(type(event).__name__)
        if isinstance(event, Settled):
            hub.add_file("own.gguf", real)

    return hub.add_file("own.gguf", bytes(announced)), tell, kinds


def test_what_is_fitted_and_recorded_is_what_came(hub: Hub, models: Path, root: Path) -> None:
    """Not what was announced."""
    url, tell, kinds = swapped(hub, models)
    done = run_blocking(pulled(url, root, tell=tell))
    assert "Changed" in kinds
    assert done.artefact.fit is not None
    assert (done.artefact.context_length, done.artefact.fit.context) == (2048, 2048)
    assert done.artefact.revision == f'"{sha256(model(models))}"'


def test_what_came_and_does_not_fit_is_not_shown(hub: Hub, models: Path, root: Path) -> None:
    """Though what was announced did."""
    url, tell, _ = swapped(hub, models)

    def fit(resolved: Resolved, headers: Sequence[Header]) -> Estimate | None:
        small = msgspec.structs.replace(LARGE.host, total=2**20, available=2**20)
        fits = headers[0].number("llama.context_length") == 512
        machine = LARGE if fits else msgspec.structs.replace(LARGE, devices=(small,))
        return Fitting(machine, context=None, force=False)(resolved, headers)

    async def work() -> None:
        async with Sources() as sources:
            await pull(parse_reference(url), root, sources, fit=fit, tell=tell)

    with pytest.raises(GateError, match="does not fit: with 2,048 tokens"):
        run_blocking(work())
    assert visible(root) == []
    assert not (root / LOCK_NAME).exists()


def rewrite(path: Path) -> None:
    """Change a byte of the weights, in place."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_a_file_that_changes_after_its_scan_is_not_linked(
    hub: Hub, models: Path, root: Path
) -> None:
    """A first part, while the second one is looked at."""
    store = root.parent / "store"
    store.mkdir()
    for part in in_parts(models):
        (store / part.name).write_bytes(part.read_bytes())
    first, second, *_ = sorted(store.iterdir())
    done: list[str] = []

    def tell(event: Event) -> None:
        if isinstance(event, Hashing) and event.name == second.name and not done:
            done.append(event.name)
            rewrite(first)

    with pytest.raises(ModelError, match="changed after it was scanned"):
        run_blocking(pulled(str(first), root, tell=tell))
    assert done
    assert visible(root) == []
    assert not (root / LOCK_NAME).exists()


def test_a_download_that_somebody_changes_after_its_scan_is_not_shown(
    hub: Hub, models: Path, root: Path
) -> None:
    """A first part, while the second one comes."""
    parts = in_parts(models)
    hub.add_repo(REPO, {f"Q8_0/{path.name}": path for path in parts})
    done: list[str] = []

    def tell(event: Event) -> None:
        if isinstance(event, Fetching) and event.name.endswith(parts[1].name) and not done:
            done.append(event.name)
            rewrite(root / "models" / ".part" / f"{sha256(parts[0])}.part")

    with pytest.raises(ModelError, match="changed after it was scanned"):
        run_blocking(pulled(f"hf:{REPO}:Q8_0", root, tell=tell))
    assert done
    assert visible(root) == []
    run_blocking(pulled(f"hf:{REPO}:Q8_0", root))
    assert drift(root) == []


def test_a_link_to_what_changes_before_it_is_pinned_is_taken_back(
    hub: Hub, models: Path, root: Path
) -> None:
    """Neither visible nor pinned; theirs is left as it is."""
    theirs = root.parent / "theirs.gguf"
    theirs.write_bytes(model(models).read_bytes())

    def tell(event: Event) -> None:
        if isinstance(event, Linked):
            theirs.write_bytes(b"\x80\x04cos\nsystem\n")

    with pytest.raises(ModelError, match="changed after it was scanned"):
        run_blocking(pulled(str(theirs), root, tell=tell))
    assert visible(root) == []
    assert theirs.is_file()
    assert not (root / LOCK_NAME).exists()


def test_a_file_of_the_user_that_changes_meanwhile_stays_where_it_is(
    hub: Hub, models: Path, root: Path
) -> None:
    """It lies where it is to lie already; no link was made that could be taken back."""
    own = root / "models" / "own.gguf"
    own.parent.mkdir()
    own.write_bytes(model(models).read_bytes())

    async def work() -> None:
        async with Sources() as sources:
            resolved = await sources.resolve(parse_reference(f"file:{own}"))
            (file,) = wanted(resolved, root, projector=False, replace=False)
            obtaining = Obtaining(file, sources, None, Told())
            obtained = await obtaining.get()
            obtaining.show(obtained)
            rewrite(own)
            obtaining.confirm_shown(obtained)

    with pytest.raises(ModelError, match="changed after it was scanned"):
        run_blocking(work())
    assert own.is_file()


def test_a_new_link_to_a_file_of_a_store_is_no_change(hub: Hub, models: Path, root: Path) -> None:
    """Another project may link it at the same time; only its times show it."""
    store = root.parent / "store"
    store.mkdir()
    for part in in_parts(models):
        (store / part.name).write_bytes(part.read_bytes())
    first, second, *_ = sorted(store.iterdir())

    def tell(event: Event) -> None:
        if isinstance(event, Hashing) and event.name == second.name:
            (root.parent / "link.gguf").unlink(missing_ok=True)
            (root.parent / "link.gguf").hardlink_to(first)

    run_blocking(pulled(str(first), root, tell=tell))
    assert drift(root) == []


def test_unfinished_files_of_an_older_version_go_with_the_pin(
    hub: Hub, models: Path, root: Path
) -> None:
    """Those of other models stay, until somebody removes them all."""
    hub.add_repo("maker/other", {"other.gguf": model(models, seed=3)})
    hub.add_repo(REPO, {FILE: model(models)})
    for reference in ("hf:maker/other:other.gguf", REFERENCE):
        cut_off(reference, root)
    assert left_over(root).count(".part") == 2
    hub.add_repo(REPO, {FILE: model(models, layers=3)})
    run_blocking(pulled(REFERENCE, root))
    assert left_over(root) == [".json", ".part"]
    removed = remove_leftovers(root / "models")
    assert (removed.files, removed.held) == (1, 0)
    assert removed.size > 0
    assert left_over(root) == []


class _Stopped(Exception):
    """Ends a pull."""


def cut_off(reference: str, root: Path) -> None:
    """A pull that ends while its bytes come."""

    def tell(event: Event) -> None:
        if isinstance(event, Fetching):
            raise _Stopped

    with pytest.raises(_Stopped):
        run_blocking(pulled(reference, root, tell=tell))


def test_what_another_process_is_fetching_is_not_removed(tmp_path: Path) -> None:
    """It holds the lock of the file."""
    part = tmp_path / ".part"
    part.mkdir()
    for key in ("held", "free"):
        (part / f"{key}.part").write_bytes(b"12345")
    descriptor = take(part / "held.lock")
    assert descriptor is not None
    try:
        removed = remove_leftovers(tmp_path)
    finally:
        let_go(part / "held.lock", descriptor)
    assert (removed.files, removed.size, removed.held) == (1, 5, 1)
    assert (part / "held.part").exists()


def test_harmless_bytes_that_are_no_weights_are_refused(hub: Hub, models: Path, root: Path) -> None:
    """JSON is clean to the scan, and no projector."""
    hub.add_repo(REPO, {FILE: model(models), "mmproj-F16.gguf": b'{"a": 1}'})
    with pytest.raises(GateError, match=r"'mmproj-F16\.gguf' is no projector but JSON"):
        run_blocking(pulled(REFERENCE, root, projector="mmproj-F16.gguf"))
    assert visible(root) == []
    assert not (root / LOCK_NAME).exists()


def test_the_query_of_an_address_is_kept_nowhere(
    hub: Hub, models: Path, root: Path, tmp_path: Path
) -> None:
    """Neither in the lock, nor beside unfinished files, nor at home; the same file goes on with another query."""
    url = hub.add_file("own.gguf", model(models))
    cut_off(f"{url}?token=SECRET123", root)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".json" and path.parent.name == ".part" for path in kept)
    told = Told()
    run_blocking(pulled(f"{url}?token=SECRET456", root, tell=told))
    assert "Resumed" in told.kinds()
    kept += [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [p for p in kept if p.exists() and b"SECRET" in p.read_bytes()] == []
    assert "SECRET" not in repr(read_lock(root / LOCK_NAME))
