"""What `rung fit` knows of a model once its headers are read, and which smaller ones there are beside it.

Where the headers come from is `fitopening`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rung.models.fit.measured import model_key
from rung.models.fit.model import Model, model_of
from rung.models.fit.quants import requantised
from rung.models.header import Header
from rung.quantities import counted

_CLEARLY_FEWER = 0.8
_FAR_FEWER = 0.25


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
