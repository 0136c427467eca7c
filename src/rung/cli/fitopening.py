"""The model that `rung fit` is asked about: a file, the starter or a reference, known by its header alone.

What lies elsewhere is `fitsource`'s, which a file has no need of.
"""

from __future__ import annotations

import re
from pathlib import Path

from rung.cli.fitmodel import Opened, opened
from rung.errors import ModelError
from rung.models.shards import read_model

STARTER = "starter"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


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


def _local(path: Path) -> Opened:
    if path.is_dir():
        raise ModelError(f"{str(path)!r} is a folder", hint="name one .gguf file in it")
    headers = read_model(path)
    return opened(headers, path.name, (), "header read")
