"""The model that `rung fit` is asked about: a file, the starter or a reference, known by its header alone.

Nothing is fetched but headers. Other quantisations of the same repository come along, as far as their sizes are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rung.errors import ModelError
from rung.models.fit.measured import model_key
from rung.models.fit.model import Model, model_of
from rung.models.fit.quants import requantised
from rung.models.header import Header
from rung.models.reference import Origin, Reference, parse_reference
from rung.models.shards import part_names, read_model
from rung.models.sources.choice import quant_of
from rung.models.sources.resolved import RemoteFile, Resolved, Role
from rung.quantities import counted

STARTER = "starter"
_CLEARLY_FEWER = 0.8
_FAR_FEWER = 0.25
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_MIB = 1024 * 1024


class Opened(NamedTuple):
    """A model and what is known around it.

    Attributes:
        model: what its header says.
        quants: other quantisations of the same repository.
        evidence: what was read, for people.
        key: what measurements of the model are kept under.
        beside: what is said of files that come along and are not counted.
    """

    model: Model
    quants: tuple[Model, ...]
    evidence: str
    key: str
    beside: tuple[str, ...] = ()


def open_model(name: str) -> Opened:
    """Read a model's header, wherever it is.

    Args:
        name: a path, `starter`, or a reference.

    Raises:
        InputError: the name is none.
        ModelError: there is no such model, or its header is damaged.
        SourceError: its source cannot be reached.
    """
    if name == STARTER:
        from rung.starter import model_path

        return _local(model_path())
    reference = parse_reference(name)
    if reference.origin is Origin.FILE:
        if repository := hub_reference(name):
            raise ModelError(
                f"the model file {name!r} does not exist",
                hint=f"check the path, or write {repository}",
            )
        return _local(Path(reference.repo))
    from rung.blocking import run_blocking  # it brings in asyncio, which a file does not need

    return run_blocking(_looked_up(reference))


def hub_reference(name: str) -> str | None:
    """What may be meant by a path that does not exist and looks like a repository, as web pages name them."""
    alike = _REPOSITORY.fullmatch(name) and not name.lower().endswith((".gguf", ".safetensors"))
    return f"hf:{name}" if alike and not Path(name).exists() else None


def smaller_models(model: Model) -> tuple[Model, ...]:
    """Catalogued models with clearly fewer parameters; those of the same family alone, if one is not far smaller."""
    from rung.models.catalog.models import all_catalogued

    every, size = all_catalogued(), model.weights.parameters
    fewer = [one for one in every if one.weights.parameters <= _CLEARLY_FEWER * size]
    families = {_family(one.name) for one in every}
    own = next((name for name in _words(model.name) if name in families), None)
    alike = [one for one in fewer if _family(one.name) == own]
    near = any(one.weights.parameters >= _FAR_FEWER * size for one in alike)
    return tuple(alike if near else fewer)


def _family(name: str) -> str:
    """What the names of one series begin with: `qwen3`, `llama`."""
    return next(iter(_words(name)), "")


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]{3,}\d*", name.casefold())


def _local(path: Path) -> Opened:
    if path.is_dir():
        raise ModelError(f"{str(path)!r} is a folder", hint="name one .gguf file in it")
    headers = read_model(path)
    return _opened(headers, path.name, (), "header read")


async def _looked_up(reference: Reference) -> Opened:
    from rung.models.sources.opening import Sources

    async with Sources() as sources:
        resolved = await sources.resolve(reference)
        headers = await sources.headers(resolved)
    name = resolved.weights[0].name.rpartition("/")[2]
    where = f"in the store of {resolved.store}" if resolved.store else "at its source"
    read = sum(min((t.start for t in header.tensors), default=0) for header in headers)
    opened = _opened(
        headers, name, _others(resolved), f"header of {read / _MIB:,.1f} MiB read {where}"
    )
    return opened._replace(beside=tuple(_beside(resolved)))


def _opened(
    headers: Sequence[Header], name: str, others: Sequence[tuple[str, int]], read: str
) -> Opened:
    model = model_of(headers, headers[0].text("general.name") or name)
    tensors = counted(sum(len(header.tensors) for header in headers), "tensor")
    parts = f" in {len(headers)} files" if len(headers) > 1 else ""
    quants = tuple(
        requantised(model, label, size) for label, size in others if label != model.file_type
    )
    return Opened(model, quants, f"{tensors}{parts}, {read}", model_key(*headers))


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
