"""How each family of models keeps what it has read: windows, states, layers without a cache. The table is data.

Sources: the hyperparameters that llama.cpp sets per architecture, as `bench/fit.py` checks them on the
logs of other people's runs.
"""

from __future__ import annotations

import enum
import functools
from importlib.resources import files

import msgspec


class Windows(enum.StrEnum):
    """Which layers look back on a window only."""

    NONE = "none"
    """None of them, whatever the header says of a window."""
    PERIOD = "period"
    """All but the last of each group of `Family.period`."""
    EXPLICIT = "explicit"
    """Those that the header lists."""


class Recurrent(enum.StrEnum):
    """Which layers keep a state instead of, or beside, keys and values."""

    NONE = "none"
    ALL = "all"
    BESIDE = "beside"
    """All of them, and they attend as well."""
    INTERVAL = "interval"
    """All but every n-th."""
    HEADLESS = "headless"
    """Those without heads of keys and values."""
    BARE = "bare"
    """Those without such heads and without a feed-forward part."""


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for the models of one architecture.

    Attributes:
        cache: whether keys and values are kept at all.
        windows: which layers have a window.
        period: layers of a group, of which one attends to the whole context.
        dense_first: whether that is the first of them instead of the last.
        window: tokens, where the header does not say; 0 for no window then.
        cached_layers: only so many of the first layers own a cache; 0 for all.
        recurrent: which layers keep a state.
        interval: every so many layers attend, where the header does not say.
        latent: whether latent attention keeps the latent, rather than the heads made of it.
    """

    cache: bool = True
    windows: Windows = Windows.NONE
    period: int = 0
    dense_first: bool = False
    window: int = 0
    cached_layers: int = 0
    recurrent: Recurrent = Recurrent.NONE
    interval: int = 0
    latent: bool = False


def family(architecture: str) -> Family | None:
    """What is known of an architecture; None for an unknown one."""
    return _families().get(architecture)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data file: plain architectures by name, the others with what is special."""

    plain: tuple[str, ...]
    special: dict[str, Family]


@functools.cache
def _families() -> dict[str, Family]:
    text = files("rung.models.fit").joinpath("families.json").read_bytes()
    table = msgspec.json.decode(text, type=_Table)
    return {name: Family() for name in table.plain} | table.special
