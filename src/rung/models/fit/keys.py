"""Numbers of a header that memory depends on, each within bounds, so that a damaged file is refused in a sentence.

What they mean is `layers`' and `shape`'s; the names of the keys are those of the GGUF specification.
"""

from __future__ import annotations

from rung.errors import ModelError
from rung.models.header import Header

MOST_LAYERS = 2048
MOST_WIDTH = 1 << 24
"""Bound of everything that counts elements, heads, experts or tokens of a vocabulary."""
MOST_CONTEXT = 1 << 40


class Keys:
    """The numbers of one architecture; every method raises `ModelError` for what no model can have."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.architecture = header.architecture

    def has(self, name: str) -> bool:
        """Whether the header says anything under a key."""
        return self._key(name) in self.header.metadata

    def names(self) -> tuple[str, ...]:
        """Every key of the architecture, without it."""
        prefix = f"{self.architecture}."
        every = self.header.metadata
        return tuple(key.removeprefix(prefix) for key in every if key.startswith(prefix))

    def count(self, name: str, default: int, *, least: int = 0, most: int = MOST_WIDTH) -> int:
        """One whole number, or the largest of an array.

        Args:
            name: of the key, without the architecture.
            default: what holds where there is no such key.
            least: of it.
            most: of it.
        """
        return max(self._numbers(name, least, most), default=default)

    def needed(self, name: str, *, most: int = MOST_WIDTH) -> int:
        """One whole number from 1 that every model states."""
        if not self.has(name):
            raise self._wrong(name, "is missing")
        return self.count(name, 0, least=1, most=most)

    def per_layer(self, name: str, layers: int, default: int) -> tuple[int, ...]:
        """One number for each layer, written once for all of them or as an array; arrays may be longer than need be."""
        found = self._numbers(name, 0, MOST_WIDTH)
        if len(found) <= 1:
            return (found or (default,)) * layers
        if len(found) < layers:
            raise self._wrong(name, f"has {len(found)} numbers for {layers} layers")
        return found[:layers]

    def flags(self, name: str, layers: int) -> tuple[bool, ...] | None:
        """One yes or no for each layer; None where there is no array."""
        if (self.header.length(self._key(name)) or 0) == 0:
            return None
        return tuple(bool(number) for number in self.per_layer(name, layers, 0))

    def _numbers(self, name: str, least: int, most: int) -> tuple[int, ...]:
        if not self.has(name):
            return ()
        found = self.header.numbers(self._key(name))
        if not found:
            raise self._wrong(name, "is not one whole number or some")
        for number in found:
            if not least <= number <= most:
                raise self._wrong(name, f"is {number:,}, not {least:,} to {most:,}")
        return found

    def _key(self, name: str) -> str:
        return f"{self.architecture}.{name}"

    def _wrong(self, name: str, what: str) -> ModelError:
        return ModelError(
            f"the model {self.header.name!r} cannot be estimated: {self._key(name)!r} {what}",
            hint="download it again, or choose another file",
        )
