"""A model file looked at before any engine is asked to load it: what it is, and what of it decides its memory.

`models.metadata` reads it. Whether the tensors are whole is left to the engine, which says so in its child process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rung.errors import ModelError
from rung.models.fingerprint import Fingerprint, changed_meanwhile, fingerprint
from rung.models.header import Header
from rung.models.metadata import Array, Entry, Scalar, read_metadata


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """What decides how a model is loaded.

    Attributes:
        path: as it was given.
        fingerprint: of the file that was read.
        architecture: `general.architecture`.
        metadata: every value by its key; arrays longer than a few thousand elements are left out.
        lengths: number of elements of every array by its key.
    """

    path: str
    fingerprint: Fingerprint
    architecture: str
    metadata: Mapping[str, Scalar | tuple[Scalar, ...]]
    lengths: Mapping[str, int]

    def number(self, key: str, default: int = 0) -> int:
        """A whole number among the architecture's own keys (`context_length`, `block_count`, …)."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return value if isinstance(value, int) else default

    def numbers(self, key: str, count: int, default: int = 0) -> tuple[int, ...]:
        """Like `number`, one for each of `count` layers: the file may give one for all or one each."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, tuple):
            return tuple(int(v) if isinstance(v, int) else default for v in value[:count])
        return (value if isinstance(value, int) else default,) * count


def read_model_file(path: Path) -> ModelFile:
    """Read what a GGUF file says about itself.

    Raises:
        ModelError: it is missing, no GGUF file, of a version or byte order that the engine does not read, it ends
            inside its header, or something writes to it.
    """
    before = fingerprint(path)
    return _told(path, before, read_metadata(path))


def model_file_of(header: Header, before: Fingerprint) -> ModelFile:
    """The same from a header that was read already.

    Args:
        header: of the model's file, or of its first part.
        before: fingerprint of that file before its header was read.

    Raises:
        ModelError: it names no architecture, or something writes to it.
    """
    return _told(Path(header.path), before, header.metadata)


def _told(path: Path, before: Fingerprint, entries: Mapping[str, Entry]) -> ModelFile:
    """What the entries tell of a file that is still as it was."""
    values = {key: entry.value for key, entry in entries.items()}
    if fingerprint(path) != before:
        raise changed_meanwhile(path)
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise ModelError(
            f"the model file {str(path)!r} names no architecture", hint="choose another file"
        )
    kept = {
        key: value.items if isinstance(value, Array) else value for key, value in values.items()
    }
    return ModelFile(
        path=str(path),
        fingerprint=before,
        architecture=architecture,
        metadata={key: value for key, value in kept.items() if value is not None},
        lengths={key: value.length for key, value in values.items() if isinstance(value, Array)},
    )
