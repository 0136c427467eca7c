"""Which part of a model lies on which device, as llama.cpp lays them out.

The table of tokens stays in the host's memory; the last layers go to cards first, and the output after all of them.
How much each part takes is `weights`', `cache`'s and `state`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rung.models.fit.model import Model
from rung.models.fit.run import Run
from rung.models.hardware.machine import Device, Machine


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What lies on one device.

    Attributes:
        device: which.
        layers: numbers of the layers whose cache, state and weights lie here.
        output: whether the output matrix lies here.
        table: whether the table of tokens does.
        copied_output: whether the output is a second copy of that table, which both stand for.
        experts: layers whose experts lie here; those of a card may be on the host.
    """

    device: Device
    layers: range
    output: bool
    table: bool
    copied_output: bool
    experts: Sequence[int]


def offloadable(model: Model) -> int:
    """What llama.cpp's `-ngl` counts up to: the layers, and the output as one more."""
    return len(model.shape.layers) + 1


def places(model: Model, run: Run, machine: Machine, on_cards: int) -> tuple[Place, ...]:
    """Where everything lies, the host first.

    Args:
        model: what is placed.
        run: whether experts stay on the host.
        machine: where it is placed.
        on_cards: layers on cards, as `offloadable` counts; ignored on a machine without any.
    """
    count = len(model.shape.layers)
    if not machine.cards or not on_cards:
        everything = range(count)
        return (
            Place(
                device=machine.host,
                layers=everything,
                output=True,
                table=True,
                copied_output=False,
                experts=everything,
            ),
        )
    first = max(0, count - on_cards)
    output_on_card = on_cards > count
    spans = _split(first, count, machine.cards)
    on_host = Place(
        device=machine.host,
        layers=range(first),
        output=not output_on_card,
        table=True,
        copied_output=False,
        experts=range(count if run.experts_on_host else first),
    )
    cards = tuple(
        Place(
            device=card,
            layers=span,
            output=output_on_card and card is machine.cards[-1],
            table=False,
            copied_output=model.shape.tied,
            experts=() if run.experts_on_host else span,
        )
        for card, span in zip(machine.cards, spans, strict=True)
    )
    return (on_host, *cards)


def weight_bytes(model: Model, place: Place) -> int:
    """Bytes of the weights that lie there."""
    weights = model.weights
    dense = (weights.per_layer[n] - weights.experts_per_layer[n] for n in place.layers)
    size = sum(dense) + sum(weights.experts_per_layer[n] for n in place.experts)
    if place.output:
        size += weights.output + (weights.embedding if place.copied_output else 0)
    if place.table:
        size += weights.total - weights.output - sum(weights.per_layer)
    return size


def active_bytes(model: Model, place: Place) -> int:
    """Bytes of those weights that decoding one token reads."""
    weights, shape = model.weights, model.shape
    used = shape.experts_used / shape.experts if shape.experts else 1.0
    output = weights.output + (weights.embedding if shape.tied else 0)

    def read(layers: Sequence[int], experts: Sequence[int]) -> float:
        dense = sum(weights.per_layer[n] - weights.experts_per_layer[n] for n in layers)
        return dense + used * sum(weights.experts_per_layer[n] for n in experts)

    every = range(len(shape.layers))
    in_layers = max(0, weights.active_bytes - output)
    share = read(place.layers, place.experts) / max(1.0, read(every, every))
    return int(in_layers * share) + (output if place.output else 0)


def _split(first: int, end: int, cards: Sequence[Device]) -> list[range]:
    """Consecutive spans of layers, in the cards' order and by how much memory each has free."""
    total = sum(card.available for card in cards) or len(cards)
    spans, start, before = [], first, 0
    for card in cards:
        before += card.available or 1
        stop = first + round((end - first) * before / total)
        spans.append(range(start, min(stop, end)))
        start = min(stop, end)
    return spans
