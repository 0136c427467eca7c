"""Weights lie where llama.cpp lays them: the table on the host, the last layers on cards first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fit_parts import GIB, MIB, a_model, card, host, machine, unified
from rung.models.fit.placement import active_bytes, offloadable, places, weight_bytes
from rung.models.fit.run import Run

RUN = Run(context=4096)
WITH_CARD = machine(host(64 * GIB), card(24 * GIB))


def sizes(on_cards: int, *, run: Run = RUN, **model: int | bool) -> list[int]:
    """MiB of weights on the host and on each card."""
    made = a_model(**model)  # type: ignore[arg-type]  # the builder's own keywords
    return [weight_bytes(made, place) // MIB for place in places(made, run, WITH_CARD, on_cards)]


def test_without_a_card_everything_lies_on_the_host() -> None:
    """The whole file, once."""
    model = a_model()
    for one in (machine(host(64 * GIB)), machine(unified(64 * GIB))):
        (place,) = places(model, RUN, one, 33)
        assert weight_bytes(model, place) == model.weights.total


def test_a_whole_offload_leaves_the_table_of_tokens_on_the_host() -> None:
    """32 layers of 128 MiB and the output of 256 MiB go to the card."""
    assert offloadable(a_model()) == 33
    assert sizes(33) == [256, 32 * 128 + 256]


def test_a_tied_model_holds_the_table_twice() -> None:
    """Once to look tokens up on the host, once as the output on the card."""
    assert sizes(33, tied=True) == [256, 32 * 128 + 256]
    assert sizes(32, tied=True) == [256, 32 * 128]


def test_layers_go_to_the_card_last_first_and_the_output_after_them() -> None:
    """`-ngl 10` is the last ten layers, without the output."""
    model = a_model()
    on_host, on_card = places(model, RUN, WITH_CARD, 10)
    assert (on_host.layers, on_card.layers) == (range(22), range(22, 32))
    assert on_host.output
    assert not on_card.output
    assert sizes(10) == [22 * 128 + 512, 10 * 128]


def test_experts_stay_on_the_host_when_asked_to() -> None:
    """The layers' other weights go to the card all the same."""
    run = Run(context=4096, experts_on_host=True)
    assert sizes(33, run=run, experts_mib=96) == [32 * 96 + 256, 32 * 32 + 256]


def test_two_cards_share_the_layers_by_their_memory() -> None:
    """In their order, the output on the last."""
    model = a_model()
    two = machine(host(64 * GIB), card(8 * GIB, name="A"), card(24 * GIB, name="B"))
    _, first, second = places(model, RUN, two, 33)
    assert (first.layers, second.layers) == (range(8), range(8, 32))
    assert (first.output, second.output) == (False, True)


@given(
    on_cards=st.integers(0, 20),
    layers=st.integers(1, 16),
    tied=st.booleans(),
    experts=st.sampled_from([0, 64]),
    on_host=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_only_a_tied_table_is_held_twice(
    on_cards: int, layers: int, tied: bool, experts: int, on_host: bool
) -> None:
    """However a model is placed, its bytes and the bytes a token reads are all somewhere."""
    model = a_model(layers=layers, tied=tied, experts_mib=experts)
    run = Run(context=4096, experts_on_host=on_host)
    where = places(model, run, WITH_CARD, on_cards)
    copied = model.weights.embedding if tied and on_cards > layers else 0
    assert sum(weight_bytes(model, place) for place in where) == model.weights.total + copied
    read = sum(active_bytes(model, place) for place in where)
    assert read == pytest.approx(model.weights.active_bytes, abs=len(where))


def test_of_experts_only_those_in_use_are_read() -> None:
    """Two of eight, wherever they lie."""
    model = a_model(experts_mib=96)
    run = Run(context=4096, experts_on_host=True)
    on_host, on_card = places(model, run, WITH_CARD, 33)
    assert active_bytes(model, on_host) == 32 * 24 * MIB
    assert active_bytes(model, on_card) == (32 * 32 + 256) * MIB
