"""The model that `rung fit` is asked about: a file, the starter or a reference, known by its header alone.

What lies elsewhere is `fitsource`'s, which a file has no need of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rung.errors import ModelError
from rung.models.fit.measured import model_key
from rung.models.fit.model import Model, model_of
from rung.models.fit.quants import requantised
from rung.models.header import Header
from rung.models.shards import read_model
from rung.quantities import counted

STARTER = "starter"
_CLEARLY_FEWER = 0.8
_FAR_FEWER = 0.25
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


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
    if ":" not in name and Path(name).is_file():
        return _local(Path(name))
    from rung.cli.fitsource import look_up
    from rung.models.reference import Origin, parse_reference

    reference = parse_reference(name)
    if reference.origin is not Origin.FILE:
        return look_up(reference)
    if repository := hub_reference(name):
        raise ModelError(
            f"the model file {name!r} does not exist",
            hint=f"check the path, or write {repository}",
        )
    return _local(Path(reference.repo))


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
    return opened(headers, path.name, (), "header read")


def opened(
    headers: Sequence[Header], name: str, others: Sequence[tuple[str, int]], read: str
) -> Opened:
    """What is known of a model once its headers are read.

    Args:
        headers: of all parts.
        name: of the file, where the header names no model.
        others: label and bytes of other quantisations.
        read: how the headers came, for people.
    """
    model = model_of(headers, headers[0].text("general.name") or name)
    tensors = counted(sum(len(header.tensors) for header in headers), "tensor")
    parts = f" in {len(headers)} files" if len(headers) > 1 else ""
    quants = tuple(
        requantised(model, label, size) for label, size in others if label != model.file_type
    )
    return Opened(model, quants, f"{tensors}{parts}, {read}", model_key(*headers))
