"""A model that another program keeps on this machine; finding them is `local`'s and the stores' own modules'."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One model file in another program's store, read where it lies and never changed.

    Attributes:
        store: the program.
        reference: what `parse_reference` takes to name it.
        path: the file.
        size: its bytes.
    """

    store: str
    reference: str
    path: Path
    size: int


def whole_file(path: Path, size: int | None, *, within: Path) -> Path | None:
    """A file of a store when it is there whole: regular, of its size, and not a link that leads out of the store.

    Args:
        path: the file, or a link to it.
        size: bytes it must have; None for any.
        within: the store's folder.
    """
    try:
        real = path.resolve(strict=True)
        facts = real.stat()
    except OSError:
        return None
    inside = real.is_relative_to(within.resolve()) and real.is_file()
    return path if inside and size in {None, facts.st_size} else None
