"""What each device is asked for: every part of a model that takes memory, under the engine's rules.

Where the parts lie is `placement`'s; whether it is too much is `verdict`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rung.models.fit.cache import cache_bytes, cells, stream_cells, token_bytes
from rung.models.fit.compute import compute, output_bytes
from rung.models.fit.model import Model
from rung.models.fit.placement import Place, weight_bytes
from rung.models.fit.repacked import repacked_bytes
from rung.models.fit.reserve import reserve
from rung.models.fit.rules import Rules
from rung.models.fit.run import Run
from rung.models.fit.state import state_bytes
from rung.models.fit.tags import NOTHING, Amount, Tag
from rung.models.hardware.machine import DeviceKind

WEIGHTS, REPACKED = "weights", "repacked weights"
CACHE, STATE, CHECKPOINTS = "KV cache", "recurrent state", "checkpoints"
COMPUTE, OUTPUT, PROCESS = "compute", "output", "process"
PARTS = (WEIGHTS, REPACKED, CACHE, STATE, CHECKPOINTS, COMPUTE, OUTPUT, PROCESS)
"""What parts are called everywhere that they are shown, in their order."""


class Part(msgspec.Struct, frozen=True):
    """One thing that takes memory.

    Attributes:
        what: one of the names above.
        device: the name of the device whose memory it takes.
        amount: how much, and how that is known.
    """

    what: str
    device: str
    amount: Amount


def demand(
    model: Model,
    run: Run,
    rules: Rules,
    places: Sequence[Place],
    process: int | None,
    *,
    copies: bool = True,
) -> tuple[Part, ...]:
    """Everything that takes memory, device by device.

    Args:
        model: what is loaded.
        run: how.
        rules: of the engine.
        places: where its parts lie, the host first.
        process: bytes of a process without a model, measured on this machine; None for the rule.
        copies: whether the engine copies matrices there (`repacked.repacks`).
    """
    parts = _parts(model, run, rules, places, process, copies=copies)
    return tuple(part for part in parts if part.amount.bytes)


def _parts(
    model: Model,
    run: Run,
    rules: Rules,
    places: Sequence[Place],
    process: int | None,
    *,
    copies: bool,
) -> Iterator[Part]:
    cache_by_layer, cache = cache_bytes(model.shape, run, rules)
    state_by_layer, state = state_bytes(model.shape, run, rules)
    computing = _computing(model, run, rules, places)
    for place, working in zip(places, computing, strict=True):
        first = place is places[0]
        checkpoints = _checkpoints(model, run, rules, state_by_layer) if first else NOTHING
        later = working.bytes + checkpoints.bytes
        amounts = {
            WEIGHTS: _weights(model, place),
            REPACKED: repacked_bytes(model, place, rules) if copies else NOTHING,
            CACHE: _noted(_share(cache, cache_by_layer, place), model, run, rules),
            STATE: _share(state, state_by_layer, place),
            CHECKPOINTS: checkpoints,
            COMPUTE: working,
            OUTPUT: output_bytes(model.shape, run, rules) if first else NOTHING,
            PROCESS: reserve(place.device, model.shape, run, process, working=later),
        }
        yield from (Part(what, place.device.name, amount) for what, amount in amounts.items())


def _weights(model: Model, place: Place) -> Amount:
    size = weight_bytes(model, place)
    if model.exact:
        return Amount(size, Tag.EXACT)
    return Amount(size, Tag.RULE, "by the size of its file, no header was read")


def _share(amount: Amount, per_layer: Sequence[int], place: Place) -> Amount:
    """What of an amount over all layers falls to those of one place."""
    size = sum(per_layer[number] for number in place.layers)
    return msgspec.structs.replace(amount, bytes=size)


def _noted(amount: Amount, model: Model, run: Run, rules: Rules) -> Amount:
    """The same with what a token takes, where there is nothing else to say."""
    layers = [layer for layer in model.shape.layers if layer.owns_cache]
    token = sum(token_bytes(model.shape, layer, run, rules) for layer in layers)
    windows = sum(1 for layer in layers if layer.window) if rules.window_cache else 0
    looking_back = f", {windows} of them only as far as their window" if windows else ""
    said = f"{token / 1024:,.4g} KiB a token over {len(layers)} layers{looking_back}"
    return amount if amount.note else msgspec.structs.replace(amount, note=said)


def _checkpoints(model: Model, run: Run, rules: Rules, state_by_layer: Sequence[int]) -> Amount:
    """Copies of windows and states, from which a server goes on with a prompt that starts like an earlier one."""
    tokens = sum(
        cells(layer, run, rules) * token_bytes(model.shape, layer, run, rules)
        for layer in model.shape.layers
        if layer.window and rules.window_cache and not run.swa_full
    )
    one = tokens + sum(state_by_layer) // run.slots
    count = min(rules.checkpoints, -(-stream_cells(run, rules) // rules.checkpoint_spacing))
    return Amount(run.slots * count * one, Tag.RULE, "of windows and states, as prompts grow")


def _computing(model: Model, run: Run, rules: Rules, places: Sequence[Place]) -> tuple[Amount, ...]:
    """Working memory of each place."""
    shared = places[0].device.kind is DeviceKind.UNIFIED
    found = compute(
        model.shape,
        model.weights,
        run,
        rules,
        cards=1 if shared else len(places) - 1,
        output_on_card=shared or not places[0].output,
    )
    if shared:
        return (found.host + found.card,)
    if len(places) > 1 and places[0].layers:
        # layers on the host are computed there or copied to the card, whichever the step is large enough for
        alone = compute(model.shape, model.weights, run, rules)
        return (max(found.host, alone.host, key=_size), *(found.card for _ in places[1:]))
    return (found.host, *(found.card for _ in places[1:]))


def _size(amount: Amount) -> int:
    return amount.bytes
