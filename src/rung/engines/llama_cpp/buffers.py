"""What llama.cpp's log says it allocated, read line by line while a model is loaded.

Lines look like `0.00.017 I sched_reserve:        CPU compute buffer size =   302.75 MiB`; others are passed over.
Keeping what was found is `observation`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_INFORMATION = re.compile(r"^[\d.]+ I ")
_LEVELLED = re.compile(r"^[\d.]+ [A-Z] ")
_QUOTES = "chat template, example_format: "
_BUFFER = re.compile(
    r"[\w~]{1,64}: +(?P<device>[\w.-]{1,64}) +(?P<what>model|KV|RS|compute|output) buffer size = +"
    r"(?P<size>[0-9]{1,9}\.[0-9]{2}) MiB ?"
)
_MOST_BUFFERS = 64
_MIB = 1024 * 1024


class Buffers(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by the engine's name of the device or buffer; the log rounds them to 0.01 MiB.

    Attributes:
        weights: of the model; `CPU_REPACK` are copies in another order.
        cache: of keys and values.
        state: of recurrent layers.
        compute: of one evaluation.
        output: of logits and embeddings.
    """

    weights: Mapping[str, int] = {}
    cache: Mapping[str, int] = {}
    state: Mapping[str, int] = {}
    compute: Mapping[str, int] = {}
    output: Mapping[str, int] = {}

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(sum(getattr(self, name).values()) for name in self.__struct_fields__)


_FIELDS = {
    "model": "weights",
    "KV": "cache",
    "RS": "state",
    "compute": "compute",
    "output": "output",
}


class BufferLog:
    """Takes the lines of an engine's log, one after another."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, int]] = {name: {} for name in _FIELDS.values()}
        self._quoting = False

    def take(self, line: str) -> bool:
        """Look at a line.

        Returns:
            Whether it is mere information, which says nothing about a failure: also where the log quotes the model's
            chat template, whose text is the model's and has no level.
        """
        information = _INFORMATION.match(line)
        if information is None:
            self._quoting = self._quoting and _LEVELLED.match(line) is None
            return self._quoting
        said = line[information.end() :]
        self._quoting = _QUOTES in said
        if (buffer := _BUFFER.fullmatch(said)) is not None:
            self._add(buffer)
        return True

    def buffers(self) -> Buffers:
        """What was allocated so far."""
        return Buffers(**{name: dict(sizes) for name, sizes in self._found.items()})

    def _add(self, buffer: re.Match[str]) -> None:
        """Caches of several kinds are named alike and lie beside each other; evaluations take turns."""
        sizes, device = self._found[_FIELDS[buffer["what"]]], buffer["device"]
        size = round(float(buffer["size"]) * _MIB)
        if buffer["what"] == "compute":
            sizes[device] = max(size, sizes.get(device, 0))
        elif device in sizes or len(sizes) < _MOST_BUFFERS:
            sizes[device] = sizes.get(device, 0) + size
