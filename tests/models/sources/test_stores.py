"""Models that other programs keep on this machine: found, used where they lie, and not when they are damaged."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from hub import MODEL_LAYER, TEMPLATE_LAYER, Hub
from lookups import read_file, resolve
from rung.errors import ModelError, SourceError
from rung.models.sources.local import local_models

WEIGHTS = b"GGUF" + bytes(1000)
SHA = hashlib.sha256(WEIGHTS).hexdigest()
NAME = "x-Q4_K_M.gguf"


def cache(tmp_path: Path, commit: str, content: bytes = WEIGHTS, repo: str = "o/r") -> Path:
    """Lay a file down as the library of Hugging Face does; gives the blob."""
    home = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
    blob = home / "blobs" / SHA
    snapshot = home / "snapshots" / commit
    for folder in (blob.parent, snapshot, home / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    (snapshot / NAME).symlink_to(os.path.relpath(blob, snapshot))
    (home / "refs" / "main").write_text(commit)
    return blob


def store(tmp_path: Path, manifest: bytes, blobs: dict[str, bytes], tag: str = "1b") -> Path:
    """Lay a model down as Ollama does; gives the folder of blobs."""
    path = tmp_path / "ollama" / "manifests" / "registry.ollama.ai" / "library" / "tiny" / tag
    folder = tmp_path / "ollama" / "blobs"
    for parent in (path.parent, folder):
        parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(manifest)
    for digest, content in blobs.items():
        (folder / f"sha256-{digest}").write_bytes(content)
    return folder


def sha(content: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(content).hexdigest()


def test_the_cache_of_hugging_face_serves_what_the_network_named(hub: Hub, tmp_path: Path) -> None:
    """The revision is asked for, the bytes are not fetched."""
    commit = hub.add_repo("o/r", {NAME: WEIGHTS}, licence="mit")
    blob = cache(tmp_path, "0" * 40)  # another commit with the same file
    found = resolve("hf:o/r")
    assert (found.revision, found.licence, found.store) == (commit, "mit", "Hugging Face cache")
    assert found.files[0].path == blob
    assert found.files[0].url
    assert read_file(found.files[0])[3] == WEIGHTS
    assert len(hub.log) == 1
    assert resolve("hf:o/r", stores=False).store is None


def test_what_hugging_faces_own_library_fetched_is_found(hub: Hub, tmp_path: Path) -> None:
    """Its client takes our servers for the real ones, and lays its cache down as we read it."""
    from huggingface_hub import HfApi, hf_hub_download

    commit = hub.add_repo("o/r", {NAME: WEIGHTS}, licence="mit")
    info = HfApi(endpoint=hub.url).model_info("o/r", files_metadata=True)
    assert info.sha == commit
    path = hf_hub_download("o/r", NAME, endpoint=hub.url, cache_dir=tmp_path / "hub")
    found = resolve(f"hf:o/r@{commit}:{NAME}", offline=True)
    assert [(str(file.path), file.sha256) for file in found.files] == [(path, None)]
    assert resolve("hf:o/r").store == "Hugging Face cache"


def test_a_cache_that_holds_a_part_of_a_repository_does_not_choose(
    hub: Hub, tmp_path: Path
) -> None:
    """A commit names one model, whatever was fetched of it here before."""
    both = {"x-Q8_0.gguf": WEIGHTS, NAME: WEIGHTS + b"4"}
    commit = hub.add_repo("o/r", both, licence="mit")
    cache(tmp_path, commit)
    snapshot = tmp_path / "hub" / "models--o--r" / "snapshots" / commit
    (snapshot / NAME).rename(snapshot / "x-Q8_0.gguf")
    found = resolve(f"hf:o/r@{commit}")
    assert found == resolve(f"hf:o/r@{commit}", stores=False)
    assert (found.files[0].name, found.licence) == (NAME, "mit")
    assert resolve(f"hf:o/r@{commit}:Q8_0").store == "Hugging Face cache"
    with pytest.raises(SourceError, match="only the hub knows") as caught:
        resolve(f"hf:o/r@{commit}:Q8_0", offline=True)
    assert f"hf:o/r@{commit}:model.gguf" in (caught.value.hint or "")


def test_the_name_of_a_cached_file_is_no_digest_of_the_publishers(hub: Hub, tmp_path: Path) -> None:
    """Other bytes under their own digest: online the publisher's are asked for, offline nobody vouches for any."""
    theirs = b"GGUF" + bytes(999) + b"!"
    commit = hub.add_repo("o/r", {NAME: theirs})
    cache(tmp_path, commit)  # WEIGHTS, in a blob that is rightly called by their digest
    found = resolve(f"hf:o/r@{commit}:{NAME}")
    assert (found.files[0].sha256, found.files[0].path) == (sha(theirs), None)
    found = resolve(f"hf:o/r@{commit}:{NAME}", offline=True)
    assert (found.revision, found.store, found.files[0].sha256) == (
        commit,
        "Hugging Face cache",
        None,
    )
    assert found.notes == (
        "found in the Hugging Face cache: nobody asked whether these are the publisher's bytes",
    )


def test_offline_a_branch_is_what_it_was(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cache does not hold is an error, and the network is left alone."""
    cache(tmp_path, "2" * 40)
    assert resolve(f"hf:o/r:{NAME}", offline=True).revision == "2" * 40
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for missing in (
        "hf:o/r",
        "hf:o/r:Q8_0",
        "hf:o/r:y.gguf",
        "ollama:tiny:1b",
        "https://model.example/x.gguf",
    ):
        with pytest.raises(SourceError, match="the network is to be left alone"):
            resolve(missing)
    assert hub.log == []


@pytest.mark.parametrize("damage", ["short", "gone", "elsewhere", "folder"])
def test_a_damaged_entry_of_the_cache_is_not_used(hub: Hub, tmp_path: Path, damage: str) -> None:
    """A wrong size, a missing blob, a link that leads out of the store: it is fetched instead."""
    commit = hub.add_repo("o/r", {NAME: WEIGHTS})
    blob = cache(tmp_path, commit)
    blob.unlink()
    if damage == "short":
        blob.write_bytes(WEIGHTS[:-1])
    elif damage == "elsewhere":
        (tmp_path / "outside").write_bytes(WEIGHTS)
        blob.symlink_to(tmp_path / "outside")
    elif damage == "folder":
        blob.mkdir()
    found = resolve("hf:o/r")
    assert (found.store, found.files[0].path) == (None, None)


def test_the_store_of_ollama_serves_its_registrys_models(hub: Hub, tmp_path: Path) -> None:
    """By tag the registry says what it is; by digest or offline the store does."""
    digest = hub.add_ollama("library/tiny", "1b", [(MODEL_LAYER, WEIGHTS), (TEMPLATE_LAYER, b"t")])
    manifest = hub.manifest("library/tiny", "1b")
    folder = store(tmp_path, manifest, {SHA: WEIGHTS, sha(b"t"): b"t"})
    found = resolve("ollama:tiny:1b")
    assert (found.revision, found.store) == (digest, "Ollama")
    assert found.files[0].path == folder / f"sha256-{SHA}"
    assert len(hub.log) == 1
    assert resolve(f"ollama:tiny@{digest}").revision == digest
    assert resolve("ollama:tiny:1b", offline=True).revision == digest
    assert len(hub.log) == 1


def test_a_damaged_store_of_ollama_is_not_used(hub: Hub, tmp_path: Path) -> None:
    """A missing or short layer, or a manifest that is none, sends us to the registry."""
    digest = hub.add_ollama("library/tiny", "1b", [(MODEL_LAYER, WEIGHTS)])
    manifest = hub.manifest("library/tiny", "1b")
    folder = store(tmp_path, manifest, {SHA: WEIGHTS[:-1]})
    assert resolve(f"ollama:tiny@{digest}").store is None
    (folder / f"sha256-{SHA}").unlink()
    assert resolve(f"ollama:tiny@{digest}").store is None
    store(tmp_path, b"{", {})
    with pytest.raises(SourceError, match="to be left alone"):
        resolve("ollama:tiny:1b", offline=True)


def test_a_file_of_hugging_face_may_lie_in_ollamas_store(hub: Hub, tmp_path: Path) -> None:
    """The same digest is the same file, whoever fetched it."""
    hub.add_repo("o/r", {NAME: WEIGHTS})
    store(tmp_path, b"{}", {SHA: WEIGHTS})
    assert resolve("hf:o/r").store == "Ollama"


def test_lm_studios_models_are_named_by_its_folders(hub: Hub, tmp_path: Path) -> None:
    """By publisher, repository and file; nothing is asked of the network."""
    folder = tmp_path / "lmstudio" / "models" / "p" / "r"
    folder.mkdir(parents=True)
    for name in (NAME, "x-Q8_0.gguf", "mmproj-F16.gguf"):
        (folder / name).write_bytes(WEIGHTS)
    found = resolve("lmstudio:p/r")
    assert (found.store, found.files[0].path) == ("LM Studio", folder / NAME)
    assert resolve("lmstudio:p/r/x-Q8_0.gguf").files[0].path == folder / "x-Q8_0.gguf"
    with pytest.raises(ModelError, match=r"no file 'y\.gguf'"):
        resolve("lmstudio:p/r/y.gguf")
    with pytest.raises(ModelError, match="LM Studio has no 'p/other'"):
        resolve("lmstudio:p/other")
    assert hub.log == []


def test_lm_studios_home_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pointer file says where."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LMSTUDIO_HOME", raising=False)
    usual = tmp_path / ".lmstudio" / "models" / "p" / "r"
    moved = tmp_path / "moved" / "models" / "p" / "r"
    for folder in (usual, moved):
        folder.mkdir(parents=True)
        (folder / NAME).write_bytes(WEIGHTS)
    assert resolve("lmstudio:p/r").files[0].path == usual / NAME
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'moved'}\n")
    assert resolve("lmstudio:p/r").files[0].path == moved / NAME


def test_local_models_are_listed_with_names_that_can_be_used(hub: Hub, tmp_path: Path) -> None:
    """Every whole model of every store, and each name leads to the file."""
    cache(tmp_path, "3" * 40)
    layer = {"mediaType": MODEL_LAYER, "digest": f"sha256:{SHA}", "size": len(WEIGHTS)}
    manifest = json.dumps({"schemaVersion": 2, "layers": [layer]}).encode()
    store(tmp_path, manifest, {SHA: WEIGHTS})
    store(tmp_path, b"damaged", {}, tag="2b")
    folder = tmp_path / "lmstudio" / "models" / "p" / "r"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(WEIGHTS)
    (folder / "mmproj-F16.gguf").write_bytes(WEIGHTS)
    found = local_models()
    assert [(model.store, model.reference, model.size) for model in found] == [
        ("Hugging Face cache", f"hf:o/r@{'3' * 40}:{NAME}", len(WEIGHTS)),
        ("Ollama", "ollama:library/tiny:1b", len(WEIGHTS)),
        ("LM Studio", f"lmstudio:p/r/{NAME}", len(WEIGHTS)),
    ]
    for model in found:
        assert resolve(model.reference, offline=True).files[0].path == model.path
    assert hub.log == []


def test_without_stores_nothing_is_listed(hub: Hub) -> None:
    """Folders that are not there are no error."""
    assert local_models() == ()
