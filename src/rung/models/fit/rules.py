"""How engines lay memory out, as versioned sets of rules; the sets are data, one file each in `rulesets`.

A set is named after the engine and the year from which it holds. What MLX does is not in the reference data, and vLLM
turns the question round (it takes all that is left for its cache), so there is no set for either.
"""

from __future__ import annotations

import difflib
import enum
import functools
from importlib.resources import files

import msgspec

from rung.errors import InputError

DEFAULT = "llama.cpp-2026"
"""The embedded engine's."""

_ALIKE = 0.75
"""Likeness above which a name counts as mistyped; vllm is another engine than ollama."""

EMBEDDED = ("rung", "embedded")
"""Aliases of the default that mean the embedded engine itself, which opens the slots it is told to, rather than
llama.cpp's server, which opens some unasked."""


class LatentCache(enum.StrEnum):
    """What latent attention keeps of a token."""

    HEADS = "heads"
    """Keys and values of every head, as the header states them."""
    LATENT = "latent"
    """The latent alone."""
    LATENT_AND_VALUE = "latent+value"
    """The latent as the key, and its shared part once more as the value."""


class Logits(enum.StrEnum):
    """For how many tokens of a step there is room for logits."""

    UBATCH = "ubatch"
    SLOTS = "slots"


class Doubt(enum.StrEnum):
    """A setting in which the compute rule is known to miss, or was never checked."""

    LATENT_ON_CARD = "latent-on-card"
    EXPERTS_ON_HOST = "experts-on-host"
    LONG_CONTEXT = "long-context"
    SEVERAL_CARDS = "several-cards"
    SCORES_ON_CARD = "scores-on-card"
    SLOTS_ON_CARD = "slots-on-card"
    RECURRENT = "recurrent"


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Floats that are alive at once inside a layer, per token of a step.

    Attributes:
        inner: times the width inside the feed-forward part.
        beside: times the embedding, at the same time.
        queries: times the queries of all heads, in attention.
        keys: times the keys of all heads, at the same time.
        flash: times the embedding, at the same time, with flash attention.
        plain: times the embedding without, where the scores come on top.
    """

    inner: int
    beside: int
    queries: int
    keys: int
    flash: int
    plain: int


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine's arithmetic.

    Attributes:
        name: what it is called.
        title: in words.
        source: where the figures are from.
        aliases: further names: products that run this engine.
        context_padding: cells are a multiple of this, per cache.
        plain_padding: likewise without flash attention.
        window_cache: whether sliding windows have caches of their own instead of one of the whole context.
        absorbed: what is kept where the file is made for keeping the latent.
        plain: what is kept where it is not.
        logits: for how many tokens of a step.
        step: coefficients of what a layer computes with.
        keeps_inputs: whether cards hold a step's masks until its end, beside the logits.
        flash_mask_bytes: of one entry of the attention mask with flash attention; 4 without.
        rotated_cache: whether quantised keys and values are rotated by a matrix that is kept.
        pipeline_copies: of a step's inputs on each of several cards; 1 where experts stay on the host.
        repacked: types of matrices that the processor's backend copies into an order of its own (with AVX2).
        repacks_beside_cards: whether it does so where there is a graphics card, too.
        checkpoints: copies of windows and states that a server keeps per slot.
        checkpoint_spacing: tokens between two of them.
        default_slots: that its server opens unasked.
        default_unified: whether those share one cache.
        doubts: settings in which its compute rule is not to be trusted.
    """

    name: str
    title: str
    source: str
    step: Step
    aliases: tuple[str, ...] = ()
    context_padding: int = 256
    plain_padding: int = 256
    window_cache: bool = True
    absorbed: LatentCache = LatentCache.LATENT
    plain: LatentCache = LatentCache.HEADS
    logits: Logits = Logits.UBATCH
    keeps_inputs: bool = False
    flash_mask_bytes: int = 4
    rotated_cache: bool = False
    pipeline_copies: int = 4
    repacked: tuple[str, ...] = ()
    repacks_beside_cards: bool = False
    checkpoints: int = 0
    checkpoint_spacing: int = 8192
    default_slots: int = 1
    default_unified: bool = False
    doubts: tuple[Doubt, ...] = ()


def rules(name: str | None = None) -> Rules:
    """A set of rules by its name or an alias; None for the embedded engine's.

    Raises:
        InputError: there is no such set.
    """
    every = _sets()
    for found in every.values():
        if (name or DEFAULT) in (found.name, *found.aliases):
            return found
    names = [*every, *(alias for found in every.values() for alias in found.aliases)]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=_ALIKE)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}"
    raise InputError(f"there are no rules for the engine {name!r}", hint=hint)


def default_rules() -> Rules:
    """The embedded engine's rules."""
    return rules(DEFAULT)


def rule_names() -> tuple[str, ...]:
    """Every set by its own name."""
    return tuple(_sets())


@functools.cache
def _sets() -> dict[str, Rules]:
    folder = files("rung.models.fit").joinpath("rulesets")
    texts = sorted(
        (file.name, file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".json")
    )
    found = (msgspec.json.decode(text, type=Rules) for _, text in texts)
    return {one.name: one for one in found}
