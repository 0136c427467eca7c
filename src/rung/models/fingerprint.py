"""What tells, without reading it, that a model file is not the one it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rung.errors import ModelError
from rung.models.bounded import facts_of


class Fingerprint(msgspec.Struct, frozen=True):
    """Changes when a file is replaced or written to, and is cheap to take.

    Attributes:
        device: that the file lies on.
        inode: number of the file there.
        size: bytes.
        modified_ns: when it was last written to, as programs may set it.
        changed_ns: when it was last written to, renamed, linked or given another time; programs cannot set it. On
            Windows, when it was made.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    def replaced_by(self, now: Fingerprint) -> bool:
        """Whether another is surely of another file or content; with `changed_ns` alone, it may be the same."""
        return msgspec.structs.replace(now, changed_ns=self.changed_ns) != self


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of a file as it is now.

    Raises:
        ModelError: there is none, it is no regular file, or it may not be read.
    """
    facts = facts_of(path)
    return Fingerprint(
        facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
    )


@contextmanager
def unchanged(paths: Sequence[Path]) -> Iterator[tuple[Fingerprint, ...]]:
    """Look at files of which all that is read is to be of one content; gives their fingerprints.

    Raises:
        ModelError: one is not there, or something wrote to it meanwhile.
    """
    before = tuple(fingerprint(path) for path in paths)
    yield before
    for path, was in zip(paths, before, strict=True):
        if fingerprint(path) != was:
            raise changed_meanwhile(path)


def changed_meanwhile(path: Path) -> ModelError:
    """What is said of a file that was written to while it was read."""
    return ModelError(
        f"the model file {str(path)!r} changed while it was read",
        hint="wait until nothing writes to it any more",
    )
