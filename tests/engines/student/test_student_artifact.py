"""Artefacts on disk: saved, loaded, and refused when anything about them is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from student_examples import Examples

from rung.engines.student.artifact import StudentArtifact, load
from rung.errors import ModelError


def _file(store: Path, name: str) -> Path:
    return next(store.glob(f"*/{name}"))


def test_what_is_loaded_is_what_was_saved(
    artifact: StudentArtifact, store: Path, examples: Examples
) -> None:
    """Digest, labels and every probability survive the disk."""
    loaded = load(store)
    texts = [text for text, _ in examples]
    assert loaded.digest == artifact.digest
    assert loaded.header == artifact.header
    assert np.array_equal(
        loaded.model().probabilities(texts), artifact.model().probabilities(texts)
    )


def test_the_store_holds_only_safetensors_and_json(artifact: StudentArtifact, store: Path) -> None:
    """Three files, the folder named by the digest, `format` 1 in both JSON files."""
    folder = artifact.digest[:16]
    names = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
    assert names == {"current.json", f"{folder}/student.json", f"{folder}/student.safetensors"}
    assert json.loads((store / "current.json").read_text())["format"] == 1
    assert json.loads(_file(store, "student.json").read_text())["format"] == 1


def test_training_rows_are_known(artifact: StudentArtifact, examples: Examples) -> None:
    """A training text is recognised in any case and spacing; a new one is not."""
    known = examples[0][0]
    assert artifact.trained_on([known, f"  {known.upper()} ", "new text"]).tolist() == [
        True,
        True,
        False,
    ]
    assert artifact.trained_on([]).tolist() == []


def test_saving_twice_is_harmless(artifact: StudentArtifact, store: Path) -> None:
    """The same artefact goes to the same place and leaves no temporary file."""
    artifact.save(store)
    assert len([path for path in store.rglob("*") if path.is_file()]) == 3


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_truncate, _flip, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["student.json", "student.safetensors", "current.json"])
def test_a_damaged_file_is_refused_by_name(
    store: Path, name: str, damage: Callable[[Path], object]
) -> None:
    """Cut short, one bit changed, or empty: a sentence that names the store, never a traceback."""
    damage(store / name if name == "current.json" else _file(store, name))
    with pytest.raises(ModelError, match=str(store)) as caught:
        load(store)
    assert "\n" not in caught.value.message
    assert caught.value.hint is not None


@pytest.mark.parametrize("name", ["student.json", "student.safetensors", "current.json"])
def test_a_missing_file_is_refused_by_name(store: Path, name: str) -> None:
    """Without one of its files there is no student."""
    (store / name if name == "current.json" else _file(store, name)).unlink()
    with pytest.raises(ModelError, match=name):
        load(store)


def test_another_format_is_refused(store: Path) -> None:
    """A later format is not guessed at."""
    current = store / "current.json"
    current.write_text(current.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ModelError, match="format"):
        load(store)


def test_a_digest_cannot_lead_out_of_the_store(store: Path) -> None:
    """A path in the place of the digest is refused before it is followed."""
    (store / "current.json").write_text('{"format": 1, "digest": "../../../../etc"}')
    with pytest.raises(ModelError, match="is not a digest"):
        load(store)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {**t, "rows": t["rows"].astype(np.float32)}, "its tensors are"),
        (lambda t: {**t, "rows": t["rows"][:, :2].copy()}, "rows are"),
        (lambda t: {**t, "buckets": t["buckets"][::-1].copy()}, "not ascending"),
        (lambda t: {**t, "buckets": t["buckets"] + 2**20}, "out of range"),
        (lambda t: {**t, "rows": np.full_like(t["rows"], np.nan)}, "not finite"),
        (lambda t: {name: t[name] for name in ("buckets", "rows")}, "its tensors are"),
    ],
)
def test_well_named_but_wrong_tensors_are_refused(
    artifact: StudentArtifact,
    tmp_path: Path,
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    reason: str,
) -> None:
    """Digests that fit do not make tensors of the wrong type, shape, order or value acceptable."""
    folder = artifact.save(tmp_path)
    tensors = save_tensors(change(load_tensors((folder / "student.safetensors").read_bytes())))
    _republish(artifact, tensors, tmp_path)
    with pytest.raises(ModelError, match=reason):
        load(tmp_path)


def _republish(artifact: StudentArtifact, tensors: bytes, store: Path) -> None:
    """Save under a header that names these tensors."""
    digest = hashlib.sha256(tensors).hexdigest()
    header = msgspec.structs.replace(artifact.header, tensors_sha256=digest)
    folder = StudentArtifact(header, artifact.weights, np.ones(1, np.uint64)).save(store)
    (folder / "student.safetensors").write_bytes(tensors)
