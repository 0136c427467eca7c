"""The catalogue of widely used small models that comes with Rung: a dated data file, every figure with its source.

It is a cache: what a file really is, its header says. Scores are kept with the harness that took them, because figures
of two harnesses are not comparable even when they name the same benchmark.
"""

from __future__ import annotations

import enum
import functools
import importlib.resources

import msgspec


class Terms(enum.StrEnum):
    """What a licence allows, coarsely: anything, some uses under conditions, or no commercial use."""

    PERMISSIVE = "permissive"
    CONDITIONAL = "conditional"
    NON_COMMERCIAL = "non-commercial"


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One published result.

    Attributes:
        benchmark: its name as the harness has it.
        harness: who took it; a vendor's own figures are a harness of that vendor.
        setting: what was special, such as `thinking`; empty for nothing.
        value: as published, larger is better.
        recalled: taken from memory, not read again at the source.
    """

    benchmark: str
    harness: str
    setting: str
    value: float
    recalled: bool


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True):
    """What memory follows from; counts, 0 for none. `window` is in tokens."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    embedding: int
    feed_forward: int
    vocabulary: int
    tied: bool
    experts: int
    experts_used: int
    expert_feed_forward: int
    window: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One model.

    Attributes:
        name: as published.
        repository: where its GGUF files are on Hugging Face, as far as is known: which quantisations are there was not
            looked up. `repositories` has further places.
        ollama: its tag there; None where there is none.
        published: the repository of its publisher.
        developer: who made it.
        released: ISO 8601, as exactly as is known.
        architecture: `general.architecture` of its GGUF files.
        parameters: how many; `parameters_check` tells how that compares with its hyperparameters.
        active_parameters: of a mixture of experts, those that one token uses.
        context: tokens it was trained for.
        licence: its name, `licence_kind` what it allows.
        languages: two-letter codes that its publisher lists.
        languages_claimed: a claim of many languages without a list.
        q4_k_m_bytes: of its Q4_K_M file; `size_source` tells where from, `size_recalled` whether from memory.
        scores: published results.
        sources: of the figures.
        recalled: which figures were taken from memory.
        notes: what surprises people.
    """

    name: str
    repository: str
    repositories: tuple[str, ...]
    ollama: str | None
    published: str
    developer: str
    released: str
    architecture: str
    parameters: int
    parameters_check: str
    active_parameters: int | None
    context: int
    licence: str
    licence_kind: Terms
    languages: tuple[str, ...]
    languages_claimed: str | None
    hyperparameters: Hyperparameters
    q4_k_m_bytes: int
    size_source: str
    size_recalled: bool
    scores: tuple[Score, ...]
    sources: tuple[str, ...]
    recalled: tuple[str, ...]
    notes: str

    def reference(self, quantisation: str) -> str:
        """What `rung pull` takes for it."""
        return f"hf:{self.repository}:{quantisation}"


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """All models, and the day they were looked at."""

    format: int
    dated: str
    models: tuple[Entry, ...]


@functools.cache
def catalog() -> Catalog:
    """The catalogue that comes with this version of Rung."""
    text = importlib.resources.files(__package__).joinpath("models.json").read_bytes()
    return msgspec.json.decode(text, type=Catalog)
