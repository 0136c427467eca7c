"""Whether it fits: what each device is asked for, beside what it has."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fit_parts import GIB, MIB, a_model, card, host, machine, unified, with_heads_of
from rung.errors import InputError
from rung.models.fit.estimate import Estimate, Verdict, estimate
from rung.models.fit.measured import Measured
from rung.models.fit.model import Model
from rung.models.fit.rules import rules
from rung.models.fit.run import Run
from rung.models.fit.tags import Tag
from rung.models.hardware.machine import DeviceKind, told_apart
from rung.models.hardware.profiles import machine_named

RUN = Run(context=4096)


def size(answer: Estimate, what: str, device: str) -> int:
    """Bytes of one part on one device; 0 where it takes none."""
    return sum(
        part.amount.bytes for part in answer.parts if (part.what, part.device) == (what, device)
    )


def test_on_a_processor_everything_is_asked_of_one_memory() -> None:
    """Weights and cache exactly, the rest by rules."""
    answer = estimate(a_model(), RUN, machine(host(64 * GIB)))
    assert answer.verdict is Verdict.FITS
    assert size(answer, "weights", "CPU") == (32 * 128 + 512) * MIB
    assert size(answer, "KV cache", "CPU") == 32 * 4096 * 4096
    assert size(answer, "compute", "CPU") > 0
    assert size(answer, "process", "CPU") > 0
    assert answer.needed == sum(part.amount.bytes for part in answer.parts)
    tags = {part.what: part.amount.tag for part in answer.parts}
    assert tags["weights"] is tags["KV cache"] is Tag.EXACT
    assert tags["compute"] is tags["process"] is Tag.RULE
    assert (answer.layers, answer.layers_on_card) == (33, 0)


def test_a_model_that_is_larger_than_the_memory_does_not_fit() -> None:
    """And it is said by how much."""
    answer = estimate(a_model(), RUN, machine(host(4 * GIB)))
    assert answer.verdict is Verdict.NO
    assert answer.headroom == 4 * GIB - answer.needed < 0


def test_a_little_room_is_tight() -> None:
    """What is needed and 100 MiB more."""
    needed = estimate(a_model(), RUN, machine(host(64 * GIB))).needed
    assert estimate(a_model(), RUN, machine(host(needed + 100 * MIB))).verdict is Verdict.TIGHT
    assert estimate(a_model(), RUN, machine(host(needed - 1))).verdict is Verdict.NO


def test_a_card_that_holds_everything_takes_everything_but_the_table_of_tokens() -> None:
    """The host keeps the table, buffers and a process."""
    answer = estimate(a_model(), RUN, machine(host(32 * GIB), card(24 * GIB)))
    assert answer.verdict is Verdict.FITS
    assert answer.layers_on_card == answer.layers == 33
    assert size(answer, "weights", "CPU") == 256 * MIB
    assert size(answer, "weights", "Card") == (32 * 128 + 256) * MIB
    assert size(answer, "KV cache", "Card") == 32 * 4096 * 4096
    assert size(answer, "KV cache", "CPU") == 0


def test_a_card_that_is_too_small_holds_as_many_layers_as_fit_with_room() -> None:
    """One layer more would not leave the room that is asked for."""
    small = machine(host(32 * GIB), card(4 * GIB))
    answer = estimate(a_model(), RUN, small)
    assert answer.verdict is Verdict.SPILLS
    assert 0 < answer.layers_on_card < 33
    assert answer.budgets[1].verdict is Verdict.FITS
    more = msgspec.structs.replace(RUN, gpu_layers=answer.layers_on_card + 1)
    assert estimate(a_model(), more, small).budgets[1].verdict is not Verdict.FITS


def test_what_neither_card_nor_host_hold_does_not_fit() -> None:
    """Spilling needs somewhere to spill to."""
    answer = estimate(a_model(), RUN, machine(host(2 * GIB), card(2 * GIB)))
    assert answer.verdict is Verdict.NO


def test_layers_that_are_asked_for_are_placed_so_or_not_at_all() -> None:
    """Nothing is quietly moved elsewhere."""
    both = machine(host(32 * GIB), card(4 * GIB))
    asked = estimate(a_model(), msgspec.structs.replace(RUN, gpu_layers=33), both)
    assert asked.verdict is Verdict.NO
    assert asked.layers_on_card == 33
    none = estimate(a_model(), msgspec.structs.replace(RUN, gpu_layers=0), both)
    assert none.verdict is Verdict.FITS
    assert none.layers_on_card == 0
    assert none.budgets[1].needed == 0


def test_unified_memory_holds_one_copy() -> None:
    """A tied table is not held twice there."""
    answer = estimate(a_model(tied=True), RUN, machine(unified(64 * GIB)))
    assert size(answer, "weights", "Both") == (32 * 128 + 256) * MIB
    assert answer.budgets[0].kind is DeviceKind.UNIFIED


def test_an_unknown_architecture_is_said_to_take_at_most_so_much() -> None:
    """Windows that it may have are not counted on."""
    known = estimate(a_model(), RUN, machine(host(64 * GIB)))
    unknown = estimate(a_model(known=False), RUN, machine(host(64 * GIB)))
    assert not known.at_most
    assert unknown.at_most
    assert unknown.needed >= known.needed
    assert any("'novel' is not known" in note for note in unknown.notes)


def test_a_model_from_a_catalogue_has_no_exact_weights() -> None:
    """Nobody has read its header."""
    model = msgspec.structs.replace(a_model(), exact=False)
    answer = estimate(model, RUN, machine(host(64 * GIB)))
    weights = next(part for part in answer.parts if part.what == "weights")
    assert weights.amount.tag is Tag.RULE
    assert any("no header was read" in note for note in answer.notes)


def test_what_was_measured_here_takes_the_place_of_rules() -> None:
    """Every buffer that the engine told of; a higher peak than their sum is the process's."""
    measured = Measured(
        engine="e",
        backend="cpu",
        weights={"CPU_Mapped": 4500 * MIB, "CPU_REPACK": 100 * MIB},
        cache={"CPU": 512 * MIB},
        compute={"CPU": 77 * MIB},
        peak_rss=6000 * MIB,
        at="2026-11-02T10:00:00Z",
    )
    answer = estimate(a_model(), RUN, machine(host(64 * GIB)), measured=measured)
    assert size(answer, "repacked weights", "CPU") == 100 * MIB
    assert size(answer, "compute", "CPU") == 77 * MIB
    tags = {part.what: part.amount for part in answer.parts}
    assert tags["compute"].tag is Tag.MEASURED
    assert tags["weights"].tag is Tag.EXACT
    assert tags["compute"].note == "measured here on 2026-11-02"
    assert answer.needed == 6000 * MIB
    lower = msgspec.structs.replace(measured, peak_rss=1000 * MIB)
    assert estimate(a_model(), RUN, machine(host(64 * GIB)), measured=lower).needed > 5000 * MIB


def test_buffers_of_cards_are_put_down_to_them() -> None:
    """The engine numbers its cards; `_Host` is the host's memory."""
    measured = Measured(
        engine="e",
        backend="cuda",
        compute={"CUDA0": 300 * MIB, "CUDA_Host": 20 * MIB},
        at="2026-11-02T10:00:00Z",
    )
    both = machine(host(64 * GIB), card(24 * GIB))
    answer = estimate(a_model(), RUN, both, measured=measured)
    assert size(answer, "compute", "Card") == 300 * MIB
    assert size(answer, "compute", "CPU") == 20 * MIB


def test_a_process_that_was_measured_is_no_rule_any_more() -> None:
    """The tokenizer's tables come on top."""
    answer = estimate(a_model(), RUN, machine(host(64 * GIB)), reserve=50 * MIB)
    process = next(part for part in answer.parts if part.what == "process")
    assert process.amount.tag is Tag.MEASURED
    assert process.amount.bytes >= 50 * MIB


def test_scores_on_a_card_without_flash_attention_are_doubtful() -> None:
    """Logs are a lower bound there, so nothing but ample room is a fit."""
    plain = Run(context=8192, flash_attention=False, gpu_layers=33)
    both = machine(host(64 * GIB), card(24 * GIB))
    needs = {
        flash: estimate(a_model(), msgspec.structs.replace(plain, flash_attention=flash), both)
        for flash in (True, False)
    }
    assert needs[False].budgets[1].needed > needs[True].budgets[1].needed + 2 * GIB
    assert needs[False].budgets[1].doubtful > 0


@given(
    context=st.integers(256, 65_536),
    slots=st.sampled_from([1, 2, 4]),
    kind=st.sampled_from(["f16", "q8_0", "q4_0"]),
    window=st.sampled_from([0, 1024]),
)
@settings(max_examples=40, deadline=None)
def test_more_context_never_needs_less(context: int, slots: int, kind: str, window: int) -> None:
    """And what is needed is the sum of what is listed, on every device."""
    model = a_model(window=window)
    where = machine(host(64 * GIB), card(24 * GIB))
    run = Run(context=context, slots=slots, type_k=kind, type_v=kind, gpu_layers=33)
    small = estimate(model, run, where)
    large = estimate(model, msgspec.structs.replace(run, context=context * 2), where)
    assert large.needed >= small.needed
    for budget in small.budgets:
        listed = (p.amount.bytes for p in small.parts if p.device == budget.device)
        assert budget.needed == sum(listed)


@given(free=st.integers(1, 12 * GIB), on_card=st.integers(1, 12 * GIB))
@settings(max_examples=40, deadline=None)
def test_a_verdict_other_than_no_never_needs_more_than_there_is(free: int, on_card: int) -> None:
    """On any device, however layers were placed."""
    answer = estimate(a_model(), RUN, machine(host(free), card(on_card)))
    if answer.verdict is not Verdict.NO:
        assert all(budget.headroom >= 0 for budget in answer.budgets)
    else:
        assert any(budget.headroom < 0 for budget in answer.budgets)


@pytest.mark.parametrize("profile", ["laptop-8gb", "rtx-4090", "apple-m5", "phone"])
def test_described_machines_can_be_estimated_for(profile: str) -> None:
    """With a speed, since their bandwidths are known."""
    answer = estimate(a_model(layers=16), RUN, machine_named(profile))
    assert answer.verdict in (Verdict.FITS, Verdict.TIGHT)
    assert answer.speed is not None


def test_two_cards_of_a_kind_hold_what_two_different_ones_do() -> None:
    """Each has its own share, and nothing is counted twice."""
    model = a_model(layers=64, layer_mib=256)

    def on(*names: str) -> Estimate:
        cards = (card(12 * GIB, name=name) for name in names)
        return estimate(model, RUN, machine(host(64 * GIB), *told_apart([*cards])))

    alike, apart = on("RTX 3060", "RTX 3060"), on("A", "B")
    assert alike.verdict is apart.verdict is Verdict.FITS
    assert alike.layers_on_card == 65
    assert [one.needed for one in alike.budgets] == [one.needed for one in apart.budgets]
    assert alike.needed == sum(part.amount.bytes for part in alike.parts)
    layers = (size(alike, "weights", f"RTX 3060 ({number})") for number in (1, 2))
    assert sum(layers) == (64 * 256 + 256) * MIB


def in_q4_k(*, layers: int, layer_mib: int) -> Model:
    """A model whose header says that all of its matrices are in Q4_K."""
    made = a_model(layers=layers, layer_mib=layer_mib)
    weights = msgspec.structs.replace(
        made.weights, matrices_by_type={"Q4_K": sum(made.weights.per_layer)}
    )
    return msgspec.structs.replace(made, weights=weights)


def test_nothing_is_repacked_beside_a_card() -> None:
    """What spills to the host is held there once; without layers on cards the engine is one without them."""
    model, where = in_q4_k(layers=80, layer_mib=512), machine(host(28 * GIB), card(23 * GIB))
    answer = estimate(model, RUN, where)
    assert answer.verdict is Verdict.SPILLS
    assert answer.part("repacked weights") == 0
    none = msgspec.structs.replace(RUN, gpu_layers=0)
    assert estimate(model, none, where).part("repacked weights") == 80 * 512 * MIB
    assert estimate(model, RUN, machine(host(99 * GIB))).part("repacked weights") > 0
    copying = msgspec.structs.replace(rules(), repacks_beside_cards=True)
    assert estimate(model, RUN, where, rules=copying).part("repacked weights") > 0


def test_a_model_without_a_header_is_repacked_by_its_mix() -> None:
    """Two thirds of the matrices of Q4_K_M, none of F16."""
    mixed = estimate(a_model(file_type="Q4_K_M"), RUN, machine(host(64 * GIB)))
    multiplied = (32 * 128 + 256) * MIB
    assert mixed.part("repacked weights") == pytest.approx(0.67 * multiplied, rel=0.001)
    assert estimate(a_model(), RUN, machine(host(64 * GIB))).part("repacked weights") == 0


def test_a_cache_whose_blocks_do_not_divide_the_heads_is_refused() -> None:
    """As the engine refuses it: 80 elements are no whole number of blocks of 32."""
    model, where = with_heads_of(80), machine(host(64 * GIB))
    quantised = msgspec.structs.replace(RUN, type_k="q8_0", type_v="q8_0")
    with pytest.raises(InputError, match="blocks of 32 do not divide the heads of 80 elements"):
        estimate(model, quantised, where)
    assert estimate(model, RUN, where).verdict is Verdict.FITS
    values = msgspec.structs.replace(RUN, type_v="q4_0")
    with pytest.raises(InputError, match="'q4_0'"):
        estimate(model, values, where)
    assert estimate(a_model(), quantised, where).verdict is Verdict.FITS


def test_where_no_upper_bound_is_known_nothing_fits_but_tightly() -> None:
    """And it is said what the header tells of."""
    known = a_model(known=False)
    shape = msgspec.structs.replace(known.shape, unread=("kda.head_dim",))
    model = msgspec.structs.replace(known, shape=shape)
    answer = estimate(model, RUN, machine(host(64 * GIB)))
    assert answer.verdict is Verdict.TIGHT
    assert answer.at_least
    assert not answer.at_most
    assert any("kda.head_dim" in note for note in answer.notes)
    assert estimate(model, RUN, machine(host(GIB))).verdict is Verdict.NO


def test_an_unknown_architecture_computes_with_twice_what_the_rule_says() -> None:
    """With its reason, and without counting once more as doubtful."""
    where = machine(host(64 * GIB))
    known, unknown = (estimate(a_model(known=one), RUN, where) for one in (True, False))
    assert unknown.part("compute") == 2 * known.part("compute")
    amount = next(part.amount for part in unknown.parts if part.what == "compute")
    assert amount.tag is Tag.UNKNOWN
    assert amount.note.startswith("twice what the rule says")
    assert unknown.budgets[0].doubtful == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gpu_layers": 10}, "no card with a memory of its own"),
        ({"experts_on_host": True}, "the model has none"),
    ],
)
def test_settings_that_change_nothing_are_mentioned(changed: dict[str, int], said: str) -> None:
    """They may be a mistake."""
    answer = estimate(a_model(), msgspec.structs.replace(RUN, **changed), machine(host(64 * GIB)))
    assert any(said in note for note in answer.notes)
    assert not any(said in note for note in estimate(a_model(), RUN, machine(host(GIB))).notes)
