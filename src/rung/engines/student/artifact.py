"""A trained student on disk: safetensors and JSON only, named by its content, checked whole on
loading.

    <store>/current.json                       which artefact is in use
    <store>/<digest16>/student.json            what it is, how it was made, and the tensors' digest
    <store>/<digest16>/student.safetensors     buckets, rows, and digests of the texts it was
    trained on

The digest is the SHA-256 of `student.json`, which names the SHA-256 of the tensors, so it covers
every byte. Nothing here knows how a student is trained or what a ladder does with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from rung.engines.student.features import FeatureSettings
from rung.engines.student.model import StudentModel, Weights
from rung.errors import ModelError
from rung.files import write_atomically
from rung.text import text_digest

CURRENT = "current.json"
HEADER = "student.json"
TENSORS = "student.safetensors"

_TENSOR_TYPES = {"buckets": "int32", "rows": "float16", "trained": "uint64"}


class TrainingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a student was made.

    Attributes:
        settings: name and value of every training setting.
        suite_digest: SHA-256 over the training examples, in order.
        examples: how many there were.
        label_counts: how many of each label, in label order.
        versions: versions of the packages the weights depend on.
    """

    settings: dict[str, int | float]
    suite_digest: str
    examples: int
    label_counts: tuple[int, ...]
    versions: dict[str, str]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `student.json`."""

    format: Literal[1]
    labels: tuple[str, ...]
    features: FeatureSettings
    training: TrainingRecord
    tensors_sha256: str


class _Current(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `current.json`."""

    format: Literal[1]
    digest: str


class StudentArtifact:
    """A student that is, or can be, on disk.

    Attributes:
        header: what it is.
        weights: what it learnt.
        digest: SHA-256 of its header's bytes, 64 hexadecimal digits.
    """

    def __init__(self, header: Header, weights: Weights, trained: npt.NDArray[np.uint64]) -> None:
        self.header = header
        self.weights = weights
        self.digest = hashlib.sha256(_encoded(header)).hexdigest()
        self._trained = trained

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the probability columns."""
        return self.header.labels

    def model(self) -> StudentModel:
        """What classifies texts."""
        return StudentModel(self.header.features, self.weights)

    def trained_on(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(texts,) whether each text, normalised, was among the training examples."""
        digests = np.fromiter((text_digest(text) for text in texts), np.uint64, len(texts))
        places = np.searchsorted(self._trained, digests)
        nearest = self._trained[np.minimum(places, len(self._trained) - 1)]
        return np.equal(nearest, digests)

    def save(self, store: Path) -> Path:
        """Write the artefact into `store` and make it the current one; returns its folder.

        Raises:
            StorageError: the folder cannot be written; what was current before still is.
        """
        folder = store / self.digest[:16]
        write_atomically(folder / TENSORS, _tensors(self.weights, self._trained))
        write_atomically(folder / HEADER, _encoded(self.header))
        write_atomically(store / CURRENT, _encoded(_Current(1, self.digest)))
        return folder


def assemble(
    labels: tuple[str, ...],
    features: FeatureSettings,
    training: TrainingRecord,
    weights: Weights,
    digests: npt.NDArray[np.uint64],
) -> StudentArtifact:
    """An artefact from what training gives; `digests` are `text_digest`s of the training texts."""
    trained = np.unique(digests)
    tensors_sha256 = hashlib.sha256(_tensors(weights, trained)).hexdigest()
    return StudentArtifact(Header(1, labels, features, training, tensors_sha256), weights, trained)


def load(store: Path) -> StudentArtifact:
    """The current artefact of `store`.

    Raises:
        ModelError: there is none, or a file is missing, damaged, changed or of another format.
    """
    current = _decoded(_read(store / CURRENT), _Current, store / CURRENT)
    folder = store / current.digest[:16]
    if len(current.digest) != 64 or not set(current.digest) <= set("0123456789abcdef"):
        raise _damaged(store / CURRENT, f"{current.digest!r} is not a digest")
    content = _read(folder / HEADER)
    if hashlib.sha256(content).hexdigest() != current.digest:
        raise _damaged(folder / HEADER, f"its content is not the one that {CURRENT} names")
    header = _decoded(content, Header, folder / HEADER)
    tensors = _read(folder / TENSORS)
    if hashlib.sha256(tensors).hexdigest() != header.tensors_sha256:
        raise _damaged(folder / TENSORS, f"its content is not the one that {HEADER} names")
    return _assembled(header, tensors, folder / TENSORS)


def _assembled(header: Header, content: bytes, path: Path) -> StudentArtifact:
    """The artefact from its tensors, after checking that they are what the header says."""
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, f"it is not a safetensors file ({error})") from error
    types = {name: str(tensor.dtype) for name, tensor in tensors.items()}
    if types != _TENSOR_TYPES:
        raise _damaged(path, f"its tensors are {types!r}, not {_TENSOR_TYPES!r}")
    buckets, rows, trained = tensors["buckets"], tensors["rows"], tensors["trained"]
    if rows.shape != (len(buckets), len(header.labels)) or trained.ndim != 1:
        raise _damaged(path, f"rows are {rows.shape}, labels {len(header.labels)}")
    in_range = not len(buckets) or (buckets[0] >= 0 and buckets[-1] < 1 << header.features.bits)
    if not (in_range and _ascending(buckets) and len(trained) and _ascending(trained)):
        raise _damaged(path, "its buckets or text digests are not ascending or out of range")
    if not np.isfinite(rows).all():
        raise _damaged(path, "it holds weights that are not finite numbers")
    return StudentArtifact(header, Weights(buckets, rows), trained)


def _ascending(numbers: npt.NDArray[np.int32] | npt.NDArray[np.uint64]) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def _tensors(weights: Weights, trained: npt.NDArray[np.uint64]) -> bytes:
    return save_tensors({"buckets": weights.buckets, "rows": weights.rows, "trained": trained})


def _encoded(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


_Decoded = TypeVar("_Decoded", bound=msgspec.Struct)


def _decoded(content: bytes, kind: type[_Decoded], path: Path) -> _Decoded:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"no trained student: {str(path)!r} does not exist",
            hint="train one: rung train TASK --on SUITE",
        ) from error
    except OSError as error:
        raise ModelError(
            f"cannot read {str(path)!r}: {error.strerror}",
            hint="check the path and its permissions",
        ) from error


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(
        f"the student artefact {str(path)!r} cannot be used: {what}",
        hint="train it again: rung train TASK --on SUITE",
    )
