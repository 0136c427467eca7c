"""What would help: each lever worked out by the estimate that it mends."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fit_parts import GIB, MIB, a_model, card, host, machine, with_heads_of
from rung.models.fit.estimate import Verdict, estimate
from rung.models.fit.measured import Measured
from rung.models.fit.model import Model
from rung.models.fit.quants import quant_caution, requantised
from rung.models.fit.remedies import Lever, Remedy, remedies
from rung.models.fit.run import CACHE_TYPES, Run
from rung.models.fit.verdict import better
from rung.models.hardware.machine import Machine

LONG = Run(context=32_768, slots=4)


def by_lever(found: tuple[Remedy, ...]) -> dict[Lever, Remedy]:
    """The first step of each lever."""
    return {remedy.lever: remedy for remedy in sorted(found, key=lambda one: -one.saves)}


def steps(found: tuple[Remedy, ...], lever: Lever) -> list[Remedy]:
    """All steps of one lever, the smallest first."""
    return sorted((one for one in found if one.lever is lever), key=lambda one: one.saves)


def short_by(share: float, run: Run = LONG, model: Model | None = None) -> Machine:
    """A machine whose memory is that much smaller than what is needed."""
    needed = estimate(model or a_model(), run, machine(host(999 * GIB))).needed
    return machine(host(int(needed * (1 - share))))


def test_nothing_would_help_what_fits() -> None:
    """Levers cost something."""
    assert remedies(a_model(), LONG, machine(host(99 * GIB))) == ()


def test_every_remedy_is_what_an_estimate_says_of_it() -> None:
    """Bytes saved and verdict, with the very run and model that it names."""
    model, where = a_model(), short_by(0.2)
    before = estimate(model, LONG, where)
    found = remedies(model, LONG, where)
    assert found
    for remedy in found:
        after = estimate(model, remedy.run, where)
        assert remedy.verdict is after.verdict
        assert remedy.headroom == after.headroom
        assert remedy.saves == before.needed - after.needed


def test_keys_and_values_in_8_bits_take_34_of_64_bytes() -> None:
    """4 GiB of cache become 2.125."""
    found = by_lever(remedies(a_model(), LONG, short_by(0.2)))
    eight = found[Lever.CACHE_8_BIT]
    assert eight.label == "--kv-type q8_0"
    assert eight.run.type_k == eight.run.type_v == "q8_0"
    assert eight.saves == pytest.approx(4 * GIB * (1 - 34 / 64), abs=16 * MIB)


def test_half_the_context_halves_the_cache() -> None:
    """And nothing is offered below 2,048 tokens a slot."""
    found = by_lever(remedies(a_model(), LONG, short_by(0.2)))
    assert found[Lever.CONTEXT].run.context == 16_384
    assert found[Lever.CONTEXT].saves >= 2 * GIB
    short = Run(context=2048)
    assert Lever.CONTEXT not in by_lever(remedies(a_model(), short, short_by(0.1, short)))


def test_where_half_the_context_is_not_enough_the_context_that_fits_is_offered() -> None:
    """Two steps of one lever: the next, and the first that fits."""
    run = Run(context=65_536)
    contexts = steps(remedies(a_model(), run, short_by(0.52, run)), Lever.CONTEXT)
    assert [remedy.verdict for remedy in contexts] == [Verdict.NO, Verdict.FITS]
    assert contexts[0].run.context == 32_768


def test_the_best_verdict_comes_first_and_then_what_costs_least() -> None:
    """A smaller cache before less context."""
    found = remedies(a_model(), LONG, short_by(0.1))
    order = list(Verdict)
    keys = [(order.index(remedy.verdict), remedy.lever) for remedy in found]
    assert keys == sorted(keys)
    assert found[0].verdict is Verdict.FITS


def test_another_quantisation_of_the_repository_is_offered_with_its_caution() -> None:
    """The next smaller one, and the first that fits."""
    model = a_model(file_type="Q5_K_M")
    total = model.weights.total
    quants = [
        requantised(model, label, int(total * share))
        for label, share in (("Q8_0", 1.8), ("Q3_K_S", 0.9), ("Q2_K", 0.5))
    ]
    run = Run(context=4096)
    where = short_by(0.2, run, model)
    found = steps(remedies(model, run, where, quants=quants), Lever.QUANT)
    assert [remedy.label for remedy in found] == ["Q3_K_S", "Q2_K"]
    assert [remedy.verdict for remedy in found] == [Verdict.NO, Verdict.FITS]
    assert found[0].caution == "below 4 bits: evaluate on your edge cases first"
    assert "below 3 bits" in found[1].caution


def test_a_smaller_model_is_offered_by_name() -> None:
    """Larger ones never are."""
    others = [a_model(layers=8, name="small"), a_model(layers=64, name="large")]
    found = by_lever(remedies(a_model(), LONG, short_by(0.2), others=others))
    assert found[Lever.SMALLER].label == "small F16"
    assert found[Lever.SMALLER].model == "small"


def test_a_smaller_model_with_less_context_than_is_asked_for_is_none() -> None:
    """It would not do the work."""
    others = [a_model(layers=8, name="short", trained=4096)]
    assert Lever.SMALLER not in by_lever(remedies(a_model(), LONG, short_by(0.2), others=others))


def test_experts_on_the_host_help_a_small_card() -> None:
    """They are most of the weights and little of what a token reads."""
    model = a_model(layer_mib=512, experts_mib=448)
    where = machine(host(64 * GIB), card(8 * GIB))
    run = Run(context=4096)
    assert estimate(model, run, where).verdict is Verdict.SPILLS
    experts = by_lever(remedies(model, run, where))[Lever.EXPERTS]
    assert experts.run.experts_on_host
    assert experts.verdict in (Verdict.FITS, Verdict.TIGHT)
    without = by_lever(remedies(a_model(layer_mib=512), run, where))
    assert Lever.EXPERTS not in without


def test_quantised_values_come_with_flash_attention() -> None:
    """Without it the engine refuses them."""
    plain = Run(context=32_768, flash_attention=False)
    found = by_lever(remedies(a_model(), plain, short_by(0.2, plain)))
    eight = found[Lever.CACHE_8_BIT]
    assert eight.run.flash_attention
    assert "--flash-attn on" in eight.label
    assert "needs flash attention" in eight.caution


def test_where_no_lever_is_enough_several_are_offered_together() -> None:
    """One slot, 8 bits, and as much context as then fits."""
    found = remedies(a_model(), LONG, short_by(0.35))
    alone = [remedy for remedy in found if remedy.lever is not Lever.TOGETHER]
    assert not any(remedy.verdict is Verdict.FITS for remedy in alone)
    (together,) = steps(found, Lever.TOGETHER)
    assert together.verdict is Verdict.FITS
    assert (together.run.slots, together.run.type_k) == (1, "q8_0")
    assert together.label == f"--parallel 1 --ctx {together.run.context} --kv-type q8_0"


def test_a_smaller_model_that_fits_does_not_hide_how_to_keep_this_one() -> None:
    """Several settings together are offered beside it; those that lead to `tight`, where none leads further."""
    tiny = requantised(a_model(), "Q2_K", a_model().weights.total // 100)
    for share, verdict in ((0.35, Verdict.FITS), (0.42, Verdict.TIGHT)):
        found = remedies(a_model(), LONG, short_by(share), others=(tiny,))
        assert by_lever(found)[Lever.SMALLER].verdict is Verdict.FITS
        (together,) = steps(found, Lever.TOGETHER)
        assert together.verdict is verdict


def test_a_cache_that_is_small_already_is_not_offered_a_larger_one() -> None:
    """q8_0 is no remedy for q4_0."""
    small = msgspec.structs.replace(LONG, type_k="q4_0", type_v="q4_0")
    found = by_lever(remedies(a_model(), small, short_by(0.2, small)))
    assert not {Lever.CACHE_8_BIT, Lever.CACHE_4_BIT} & set(found)


def test_of_keys_and_values_in_different_types_the_larger_ones_shrink() -> None:
    """Keys in 8 bits leave values to be put in 8 bits."""
    mixed = msgspec.structs.replace(LONG, type_k="q8_0")
    eight = by_lever(remedies(a_model(), mixed, short_by(0.1, mixed)))[Lever.CACHE_8_BIT]
    assert (eight.run.type_k, eight.run.type_v) == ("q8_0", "q8_0")
    four = msgspec.structs.replace(LONG, type_k="q4_0")
    eight = by_lever(remedies(a_model(), four, short_by(0.1, four)))[Lever.CACHE_8_BIT]
    assert eight.label == "--kv-type-k q4_0 --kv-type-v q8_0"


def test_a_cache_that_the_engine_would_refuse_is_no_remedy() -> None:
    """Heads of 80 elements are no whole number of blocks; together with others neither."""
    model = with_heads_of(80)
    for share in (0.1, 0.35):
        found = remedies(model, LONG, short_by(share, model=model))
        assert found
        assert all(one.run.type_k == one.run.type_v == "f16" for one in found)
        assert not any("kv-type" in one.label for one in found)


def a_measurement(**buffers: int) -> Measured:
    """What the engine told of `LONG` on a processor, in MiB."""
    told = {what: {"CPU": mib * MIB} for what, mib in buffers.items()}
    return Measured(engine="e", backend="cpu", at="2026-11-02T10:00:00Z", **told)  # type: ignore[arg-type]


def test_a_no_that_was_measured_has_remedies_though_rules_say_that_it_fits() -> None:
    """They start from the figures that were shown, and keep those that they leave as they are."""
    model, measured = a_model(), a_measurement(compute=4096)
    where = machine(host(estimate(model, LONG, machine(host(99 * GIB))).needed + 2 * GIB))
    assert estimate(model, LONG, where).verdict is Verdict.FITS
    before = estimate(model, LONG, where, measured=measured)
    assert before.verdict is Verdict.NO
    found = by_lever(remedies(model, LONG, where, measured=measured))
    eight = found[Lever.CACHE_8_BIT]
    assert eight.saves == pytest.approx(4 * GIB * (1 - 34 / 64), abs=16 * MIB)
    assert eight.headroom == before.headroom + eight.saves
    assert found[Lever.UBATCH].saves > 2 * GIB  # of the 4 GiB that were measured, not of the rule's


def test_a_fit_that_was_measured_needs_no_remedies_though_rules_say_no() -> None:
    """What was shown is what counts."""
    model, measured = a_model(), a_measurement(cache=64)
    where = machine(host(estimate(model, LONG, machine(host(99 * GIB))).needed - 512 * MIB))
    assert estimate(model, LONG, where).verdict is Verdict.NO
    assert estimate(model, LONG, where, measured=measured).verdict is Verdict.FITS
    assert remedies(model, LONG, where, measured=measured) == ()


@given(
    context=st.sampled_from([1, 100, 4096, 131_072, 1 << 30]),
    slots=st.sampled_from([1, 3, 256]),
    unified=st.booleans(),
    kind=st.sampled_from(CACHE_TYPES),
    ubatch=st.sampled_from([1, 512, 1 << 20]),
    gpu_layers=st.sampled_from([None, 0, 1, 999]),
    experts=st.sampled_from([0, 64]),
    free=st.sampled_from([0, GIB, 64 * GIB]),
    on_card=st.sampled_from([None, 0, 4 * GIB, 24 * GIB]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_asked_for_levers_only_ever_better_it(
    context: int,
    slots: int,
    unified: bool,
    kind: str,
    ubatch: int,
    gpu_layers: int | None,
    experts: int,
    free: int,
    on_card: int | None,
) -> None:
    """No setting is refused, none leads to a worse verdict."""
    run = Run(
        context=context,
        slots=slots,
        unified=unified,
        type_k=kind,
        type_v=kind,
        ubatch=ubatch,
        gpu_layers=gpu_layers,
    )
    cards = () if on_card is None else (card(on_card),)
    where = machine(host(free), *cards)
    model = a_model(layers=8, experts_mib=experts)
    before = estimate(model, run, where)
    for remedy in remedies(model, run, where, others=[a_model(layers=2)]):
        assert not better(before.verdict, remedy.verdict)


@pytest.mark.parametrize(
    ("label", "bits", "said"),
    [
        ("Q4_K_M", 4.8, ""),
        ("Q3_K_M", 3.9, "below 4 bits"),
        ("UD-Q2_K_XL", 3.1, "below 3 bits"),
        ("IQ3_XXS", 3.1, "below 4 bits"),
        ("F16", 16.0, ""),
        ("MXFP4", 4.25, ""),
        ("", 2.1, "below 3 bits"),
    ],
)
def test_few_bits_are_cautioned_against(label: str, bits: float, said: str) -> None:
    """By the label, or by what the file comes to where it has none."""
    assert quant_caution(label, bits).startswith(said)
    assert bool(quant_caution(label, bits)) == bool(said)
