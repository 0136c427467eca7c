"""The n-grams of a training suite, hashed once and kept in a temporary file that any minibatch is
read from.

Memory holds 20 bytes an example (its label, its digest, its place in the file), never its n-grams,
which take about 1.5 KB an example on disk. What the n-grams are is the business of `features`; what
is learnt from them, of `training`.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from rung.engines.student.features import (
    BLOCK_TEXTS,
    FeatureSettings,
    Ngrams,
    blocks,
    count_ngrams,
)
from rung.errors import SuiteError, UserError
from rung.files import storage_error
from rung.text import normalize, text_digest

Corpus = Callable[[], Iterable[tuple[str, str]]]
"""Yields (text, label) in suite order, anew on every call; it need not hold the suite in memory."""

IN_MEMORY_BYTES = 64 << 20
"""A file up to this size is read from memory; above it, memory no longer grows with the suite."""

_ENTRY = np.dtype([("bucket", "<u4"), ("value", "<f4")])


class SpoolIndex(msgspec.Struct, frozen=True):
    """What is known of the examples without reading the file; small enough to hand to another
    process.

    Attributes:
        path: the temporary file of n-grams.
        labels: the label names, in the order of their numbers.
        features: how the n-grams were made.
        targets: (examples,) int32, number of each example's label.
        digests: (examples,) uint64, `rung.text.text_digest` of each text.
        offsets: (examples + 1,) int64, where each example's entries begin in the file, in entries.
        buckets: (buckets,) int64, the buckets that occur, ascending.
        suite_digest: SHA-256 over (text, label) of every example, in order.
    """

    path: Path
    labels: tuple[str, ...]
    features: FeatureSettings
    targets: npt.NDArray[np.int32]
    digests: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]
    buckets: npt.NDArray[np.int64]
    suite_digest: str

    def __len__(self) -> int:
        return len(self.targets)


class Spool:
    """Hashed examples on disk, read by example number; opened by each process that reads."""

    def __init__(self, index: SpoolIndex) -> None:
        self.index = index
        self._file: io.BytesIO | io.FileIO = io.FileIO(index.path)
        if index.path.stat().st_size <= IN_MEMORY_BYTES:
            with self._file as file:
                self._file = io.BytesIO(file.readall())

    def read(self, examples: npt.NDArray[np.int64]) -> Ngrams:
        """The n-grams of these examples, in this order."""
        offsets = self.index.offsets
        begins, ends = offsets[examples], offsets[examples + 1]
        starts = np.zeros(len(examples) + 1, np.int64)
        np.cumsum(ends - begins, out=starts[1:])
        content = bytearray(int(starts[-1]) * _ENTRY.itemsize)
        view = memoryview(content)
        places = (starts * _ENTRY.itemsize).tolist()
        for number, begin in enumerate((begins * _ENTRY.itemsize).tolist()):
            self._file.seek(begin)
            self._file.readinto(view[places[number] : places[number + 1]])
        entries = np.frombuffer(content, _ENTRY)
        return Ngrams(starts, entries["bucket"].copy(), entries["value"].copy())

    def close(self) -> None:
        """Close the file; it is the one who made it that removes it."""
        self._file.close()


@contextmanager
def spooled(
    corpus: Corpus,
    labels: Sequence[str],
    *,
    features: FeatureSettings | None = None,
    scratch: Path | None = None,
) -> Iterator[Spool]:
    """Hash a training suite into a temporary file that is removed on leaving the `with` block.

    Args:
        corpus: the examples; iterated once.
        labels: the task's labels, in the task's order.
        features: which n-grams are counted; None for the defaults.
        scratch: folder of the temporary file; None for the system's.

    Raises:
        SuiteError: there is no example, fewer than two labels, an unknown label, or a label without
            example.
        UserError: fewer than two labels are given, or one twice.
        StorageError: the temporary file cannot be written.
    """
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UserError(f"a student needs two or more different labels, not {list(labels)!r}")
    folder = Path(tempfile.gettempdir()) if scratch is None else scratch
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".rung-train.")
    except OSError as error:
        raise storage_error(folder, error) from error
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            index = _Writer(path, tuple(labels), features or FeatureSettings()).write(
                corpus(), file
            )
        spool = Spool(index)
        try:
            yield spool
        finally:
            spool.close()
    finally:
        path.unlink(missing_ok=True)


class _Writer:
    """Writes the file and gathers its index."""

    def __init__(self, path: Path, labels: tuple[str, ...], features: FeatureSettings) -> None:
        self._path = path
        self._labels = labels
        self._features = features
        self._number = {label: number for number, label in enumerate(labels)}
        self._targets = array("i")
        self._digests = array("Q")
        self._offsets = array("q", [0])
        self._seen = np.zeros(1 << features.bits, bool)
        self._suite = hashlib.sha256()

    def write(self, examples: Iterable[tuple[str, str]], file: BinaryIO) -> SpoolIndex:
        """Hash every example into `file`."""
        remaining = iter(examples)
        while batch := list(islice(remaining, BLOCK_TEXTS)):
            self._note(batch)
            for block in blocks([text for text, _ in batch]):
                self._put(file, self._entries(count_ngrams(block, self._features)))
        targets = np.array(self._targets, np.int32)
        self._check(targets)
        return SpoolIndex(
            path=self._path,
            labels=self._labels,
            features=self._features,
            targets=targets,
            digests=np.array(self._digests, np.uint64),
            offsets=np.array(self._offsets, np.int64),
            buckets=np.flatnonzero(self._seen),
            suite_digest=self._suite.hexdigest(),
        )

    def _put(self, file: BinaryIO, content: bytes) -> None:
        try:
            file.write(content)
            file.flush()
        except OSError as error:
            raise storage_error(self._path, error) from error

    def _note(self, batch: Sequence[tuple[str, str]]) -> None:
        for text, label in batch:
            place = len(self._targets) + 1
            number = self._number.get(label)
            if number is None:
                raise SuiteError(
                    f"example {place}: label {label!r} is not one of the task's "
                    f"{len(self._labels)} labels",
                    hint="correct the label, or add it to the task",
                )
            if not normalize(text):
                raise SuiteError(f"example {place}: the text is empty")
            try:
                content, name = text.encode(), label.encode()
            except UnicodeEncodeError as error:
                raise SuiteError(
                    f"example {place}: the text is not valid Unicode (a lone surrogate)"
                ) from error
            self._targets.append(number)
            self._digests.append(text_digest(text))
            # Lengths first: no two different suites are written as the same bytes.
            self._suite.update(f"{len(content)} {len(name)} ".encode() + content + name)

    def _entries(self, ngrams: Ngrams) -> bytes:
        self._seen[ngrams.buckets] = True
        entries = np.empty(len(ngrams.buckets), _ENTRY)
        entries["bucket"], entries["value"] = ngrams.buckets, ngrams.values
        base = self._offsets[-1]
        self._offsets.extend((ngrams.starts[1:] + base).tolist())
        return entries.tobytes()

    def _check(self, targets: npt.NDArray[np.int32]) -> None:
        if not len(targets):
            raise SuiteError("the training suite has no examples", hint="add labelled examples")
        counts = np.bincount(targets, minlength=len(self._labels))
        if np.count_nonzero(counts) == 1:
            only = self._labels[int(targets[0])]
            raise SuiteError(
                f"all {len(targets)} training examples have the label {only!r}",
                hint="a student learns to tell labels apart: add examples of the others",
            )
        missing = [label for label, count in zip(self._labels, counts, strict=True) if not count]
        if missing:
            named = ", ".join(repr(label) for label in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise SuiteError(
                f"the training suite has no example of {named}{more}",
                hint="add examples of each label, or remove the label from the task",
            )
