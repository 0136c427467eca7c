"""A model that `rung fit` is asked about and that lies elsewhere: nothing of it is fetched but headers.

Other quantisations of the same repository come along, as far as their sizes are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rung.blocking import run_blocking
from rung.cli.fitmodel import Opened, opened
from rung.cli.modeltext import size
from rung.models.reference import Reference
from rung.models.shards import part_names
from rung.models.sources.choice import quant_of
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import RemoteFile, Resolved, Role

_MIB = 1024 * 1024


def look_up(reference: Reference) -> Opened:
    """Read the header of a model that lies elsewhere.

    Raises:
        ModelError: there is no such model, or its header is damaged.
        SourceError: its source cannot be reached.
    """
    return run_blocking(_looked_up(reference))


async def _looked_up(reference: Reference) -> Opened:
    async with Sources() as sources:
        resolved = await sources.resolve(reference)
        headers = await sources.headers(resolved)
    name = resolved.weights[0].name.rpartition("/")[2]
    where = f"in the store of {resolved.store}" if resolved.store else "at its source"
    read = sum(min((t.start for t in header.tensors), default=0) for header in headers)
    found = opened(headers, name, _others(resolved), f"header of {size(read)} read {where}")
    return found._replace(beside=tuple(_beside(resolved)))


def _beside(resolved: Resolved) -> Iterator[str]:
    """What loading projectors and adapters would add."""
    for file in resolved.files:
        if file.role in (Role.PROJECTOR, Role.ADAPTER):
            size = "" if file.size is None else f" of {file.size / _MIB:,.1f} MiB"
            yield f"the {file.role} {file.name!r}{size} comes along and is not counted"


def _others(resolved: Resolved) -> tuple[tuple[str, int], ...]:
    """Label and size of the other quantisations, parts added up; those whose size is unknown left out."""
    sizes: dict[str, list[int | None]] = {}
    for label, file in _labelled(resolved.others):
        sizes.setdefault(label, []).append(file.size)
    return tuple(
        (label, sum(size for size in each if size is not None))
        for label, each in sizes.items()
        if None not in each
    )


def _labelled(files: Sequence[RemoteFile]) -> Iterator[tuple[str, RemoteFile]]:
    """Each file with its label; of two models with one label (parts aside) the first counts."""
    taken: dict[str, str] = {}
    for file in files:
        label = quant_of(file.name)
        whole = part_names(file.name.rpartition("/")[2])[0]
        if label and taken.setdefault(label, whole) == whole:
            yield label, file
