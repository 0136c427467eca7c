"""What computing a step takes beside weights and cache: a rule, with the settings in which it is known to miss.

Buffers are reused along the graph, so a device needs the most that is alive at one point: inside a layer (the feed-
forward part or attention, with the masks), or at the end. Every term is in floats per token of a step, times 4 bytes:

- end: vocabulary + embedding, where there is room for the logits of every token;
- feed-forward part: a few times its inner width and the embedding;
- attention: a few times queries, keys and embedding; without flash attention also the scores, heads x cells.

How many times is the rule set's to say (`rules.Step`). Sources: 52 buffers in allocator logs for the end and the
scores; for the inside of the engine of 2026 build b11549's own log on a CPU, to 0.1 MiB where the feed-forward part is
the larger, up to 0.4 times too much for experts.
"""

from __future__ import annotations

import msgspec

from rung.models.fit.cache import cells, stream_cells
from rung.models.fit.rules import Doubt, Logits, Rules
from rung.models.fit.run import Run
from rung.models.fit.shape import Shape
from rung.models.fit.tags import NOTHING, Amount, Tag
from rung.models.fit.weights import Weights

LONG_CONTEXT = 100_000
"""Cells of one cache from which the rule was seen to miss on cards."""

_UNKNOWN_TIMES = 2
"""How many times the rule is taken for a family that it was never checked on."""

_FLOAT = 4
_FLAT_TYPES = ("f32", "f16", "bf16")
_WHY = {
    Doubt.LATENT_ON_CARD: "latent attention on a card took several times as much",
    Doubt.EXPERTS_ON_HOST: "experts kept on the host are copied to the card step by step",
    Doubt.LONG_CONTEXT: "contexts of 100,000 tokens and more took up to 1.4 GiB beside the rule",
    Doubt.SEVERAL_CARDS: "several cards keep copies of their inputs",
    Doubt.SCORES_ON_CARD: "without flash attention cards keep scores in pools that no log tells of",
    Doubt.SLOTS_ON_CARD: "the server of 2026 takes more with every slot",
    Doubt.RECURRENT: "what recurrent layers compute with is not part of the rule",
}


class Compute(msgspec.Struct, frozen=True):
    """What a step takes of the host's memory and of each card's."""

    host: Amount
    card: Amount


def compute(
    shape: Shape,
    weights: Weights,
    run: Run,
    rules: Rules,
    *,
    cards: int = 0,
    output_on_card: bool = True,
) -> Compute:
    """What computing takes of each kind of device.

    Args:
        shape: of the model.
        weights: of which the output is copied to a card that computes without holding it.
        run: how it runs.
        rules: of the engine.
        cards: graphics cards in use, 0 for the processor alone.
        output_on_card: whether the output lies on a card, where there is one.

    Returns:
        Of the host, and of each of the cards (nothing without any).
    """
    doubts = _doubts(shape, run, rules, cards)
    note = "; ".join(_WHY[doubt] for doubt in doubts)
    masks = _masks(shape, run, rules)
    end, inside = _end(shape, run, rules), _layer(shape, run, rules) + masks
    if not cards:
        return Compute(_amount(shape, max(end, inside), note), NOTHING)
    inputs = masks + _embeddings(shape, run, rules)
    if rules.keeps_inputs:
        end += masks
    if not output_on_card:
        end += weights.output + (weights.embedding if shape.tied else 0)
        end += _embeddings(shape, run, rules)
    card = max(end, inside)
    if cards > 1 and not run.experts_on_host:
        card += rules.pipeline_copies * inputs
    return Compute(_amount(shape, inputs, note), _amount(shape, card, note))


def _amount(shape: Shape, size: int, doubts: str) -> Amount:
    if shape.known:
        return Amount(size, Tag.RULE, doubts, low_confidence=bool(doubts))
    note = "twice what the rule says, as the architecture is not known"
    together = "; ".join(filter(None, (note, doubts)))
    return Amount(_UNKNOWN_TIMES * size, Tag.UNKNOWN, together, low_confidence=True)


def output_bytes(shape: Shape, run: Run, rules: Rules) -> Amount:
    """What the host keeps of a step's results: one token's logits per slot, or embeddings."""
    width = shape.vocabulary if shape.causal else shape.embedding
    return Amount(_FLOAT * width * run.slots, Tag.EXACT if shape.known else Tag.RULE)


def _end(shape: Shape, run: Run, rules: Rules) -> int:
    """Logits and what they are made from."""
    if not shape.causal:
        return 0
    tokens = run.tokens_at_once
    rows = tokens if rules.logits is Logits.UBATCH else min(run.slots, tokens)
    return _FLOAT * (rows * shape.vocabulary + tokens * shape.embedding)


def _layer(shape: Shape, run: Run, rules: Rules) -> int:
    """The most that is alive inside a layer, masks left out."""
    times = rules.step
    keys = max((layer.width_k for layer in shape.layers), default=0)
    attention = times.queries * shape.heads * shape.head_width + times.keys * keys
    if run.flash_attention:
        attention += times.flash * shape.embedding
    else:
        attention += times.plain * shape.embedding + shape.heads * _most_cells(shape, run, rules)
    inside = _inner(shape, rules) + times.beside * shape.embedding
    floats = max(attention, inside, 6 * shape.embedding)
    return _FLOAT * run.tokens_at_once * floats + _rotations(shape, run, rules)


def _inner(shape: Shape, rules: Rules) -> int:
    """Floats inside the feed-forward part; of experts, inside all those that a token uses, and what comes out of them.

    An upper bound for experts: the two share memory in some models of b11549, and not in others of nearly that size.
    """
    inside = shape.experts_used * shape.expert_feed_forward
    experts = rules.step.inner * inside + shape.experts_used * shape.embedding if inside else 0
    return max(rules.step.inner * shape.feed_forward, experts)


def _most_cells(shape: Shape, run: Run, rules: Rules) -> int:
    """Cells of the largest cache; a model without one attends within the step."""
    owned = (cells(layer, run, rules) for layer in shape.layers if layer.owns_cache)
    return max(owned, default=run.tokens_at_once)


def _masks(shape: Shape, run: Run, rules: Rules) -> int:
    """What may attend to what: one mask for each length that caches have."""
    lengths = {cells(one, run, rules) for one in shape.layers if one.owns_cache and not one.window}
    windows = {cells(one, run, rules) for one in shape.layers if one.owns_cache and one.window}
    if not shape.causal:  # tokens of a step attend to each other
        lengths = {run.tokens_at_once}
    entry = rules.flash_mask_bytes if run.flash_attention else _FLOAT
    return entry * run.tokens_at_once * (sum(lengths) + sum(windows))


def _embeddings(shape: Shape, run: Run, rules: Rules) -> int:
    """A step's tokens as they enter the first layer."""
    return _FLOAT * shape.embedding * run.tokens_at_once


def _rotations(shape: Shape, run: Run, rules: Rules) -> int:
    """Matrices of head by head that quantised keys and values are turned by."""
    if not rules.rotated_cache:
        return 0
    quantised = sum(kind not in _FLAT_TYPES for kind in (run.type_k, run.type_v))
    return quantised * _FLOAT * shape.head_width**2


def _doubts(shape: Shape, run: Run, rules: Rules, cards: int) -> tuple[Doubt, ...]:
    """Which of the set's doubts apply."""
    scores = shape.heads * _most_cells(shape, run, rules)
    applies = {
        Doubt.LATENT_ON_CARD: bool(cards and shape.mla),
        Doubt.EXPERTS_ON_HOST: bool(cards and run.experts_on_host and shape.experts),
        Doubt.LONG_CONTEXT: stream_cells(run, rules) >= LONG_CONTEXT,
        Doubt.SEVERAL_CARDS: cards > 1,
        Doubt.SCORES_ON_CARD: bool(cards) and not run.flash_attention and scores > shape.vocabulary,
        Doubt.SLOTS_ON_CARD: bool(cards) and run.slots > 1,
        Doubt.RECURRENT: any(layer.state for layer in shape.layers),
    }
    return tuple(doubt for doubt in rules.doubts if applies[doubt])
