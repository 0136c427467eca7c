"""The trie of label spellings, against brute force over every way through it."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rung.engines.llama_cpp.labels import SLACK, Indices, LabelTrie, Reading, ways_on
from rung.engines.protocol import Probabilities
from rung.errors import EngineUnsupported

VOCABULARY = 12
ENDS = (0, 1)


@functools.cache
def next_token(path: tuple[int, ...]) -> Probabilities:
    """A made-up model: the next-token distribution after a path."""
    draw = random.Random(repr(path))
    weights = np.array([draw.random() ** 3 for _ in range(VOCABULARY)])
    return weights / weights.sum()


def read(trie: LabelTrie, slack: float = 0) -> tuple[Probabilities, int]:
    """The labels' probabilities under `next_token`, and how often it was asked."""
    reading, asked = Reading(trie, slack), 0
    ends: Indices = np.array(ENDS)
    while reading.open:
        number = reading.open[0]
        place = trie.places[number]
        distribution = next_token(place.path)
        reading.read(number, ways_on(place, lambda tokens: distribution[tokens], ends))  # noqa: B023
        asked += 1
    return reading.probabilities, asked


def by_hand(spellings: Sequence[Sequence[tuple[int, ...]]]) -> list[float]:
    """The same by walking each spelling token by token, renormalising over all spellings at each step."""
    every = {form for forms in spellings for form in forms}

    def probability(form: tuple[int, ...]) -> float:
        product = 1.0
        for depth in range(len(form) + 1):
            after = {other[depth] for other in every if other[:depth] == form[:depth] < other}
            distribution = next_token(form[:depth])
            masses = {token: distribution[token] for token in after}
            if form[:depth] in every:
                masses[-1] = distribution[list(ENDS)].sum()
            whole = 1.0 if depth == 0 else sum(masses.values())
            if depth == 0 or len(masses) > 1:
                product *= masses[form[depth] if depth < len(form) else -1] / whole
        return product

    return [sum(probability(form) for form in set(forms)) for forms in spellings]


def test_the_root_keeps_the_models_own_probabilities() -> None:
    """What the model would rather say than a label is missing from the row's sum."""
    probabilities, asked = read(LabelTrie([[(3,)], [(4,)]]))
    assert probabilities.tolist() == next_token(())[[3, 4]].tolist()
    assert asked == 1


def test_a_forced_step_is_not_asked_about() -> None:
    """Labels of many tokens cost one question where their first tokens differ."""
    probabilities, asked = read(LabelTrie([[(3, 5, 6)], [(4, 5, 5, 5)]]))
    assert probabilities.tolist() == next_token(())[[3, 4]].tolist()
    assert asked == 1


def test_labels_that_share_their_beginning_are_told_apart_where_they_part() -> None:
    """The shared tokens' mass is divided by the renormalised probabilities after all of them."""
    probabilities, asked = read(LabelTrie([[(3, 5, 6)], [(3, 5, 7)], [(4,)]]))
    root, after = next_token(()), next_token((3, 5))[[6, 7]]
    expected = [*(root[3] * after / after.sum()), root[4]]
    np.testing.assert_allclose(probabilities, expected)
    assert asked == 2


def test_where_a_label_is_the_beginning_of_another_ending_is_a_way_on() -> None:
    """All end-of-generation tokens count together."""
    probabilities, _ = read(LabelTrie([[(3,)], [(3, 5)]]))
    root, after = next_token(()), next_token((3,))
    ending = after[list(ENDS)].sum()
    whole = ending + after[5]
    np.testing.assert_allclose(probabilities, root[3] * np.array([ending, after[5]]) / whole)


def test_several_spellings_of_a_label_add_up() -> None:
    """`card` and ` card` are the same answer."""
    probabilities, _ = read(LabelTrie([[(3,), (4, 5)], [(6,)]]))
    root = next_token(())
    np.testing.assert_allclose(probabilities, [root[3] + root[4], root[6]])


def test_a_spelling_given_twice_counts_once() -> None:
    """Repeating a spelling does not make its label likelier."""
    once, _ = read(LabelTrie([[(3,)], [(4,)]]))
    twice, _ = read(LabelTrie([[(3,), (3,)], [(4,)]]))
    assert once.tolist() == twice.tolist()


spellings = st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=4).map(tuple)


@given(st.lists(spellings, min_size=1, max_size=12, unique=True), st.integers(1, 5))
def test_any_labels_equal_brute_force(forms: list[tuple[int, ...]], labels: int) -> None:
    """Shared beginnings, labels within labels, several spellings: the walk by hand gives the same."""
    labels = min(labels, len(forms))
    dealt = [forms[label::labels] for label in range(labels)]
    probabilities, _ = read(LabelTrie(dealt))
    np.testing.assert_allclose(probabilities, by_hand(dealt), rtol=1e-9)
    assert probabilities.sum() <= 1 + 1e-9


@given(
    st.lists(spellings, min_size=2, max_size=12, unique=True), st.sampled_from([0.001, 0.1, 0.5])
)
def test_what_is_not_asked_about_is_never_more_than_the_slack(
    forms: list[tuple[int, ...]], slack: float
) -> None:
    """No label is off by more than that share of the row's mass, and the row's sum is not off at all."""
    trie = LabelTrie([[form] for form in forms])
    exact, every = read(trie)
    quick, asked = read(trie, slack)
    assert asked <= every
    assert np.abs(quick - exact).max() <= slack * exact.sum() + 1e-12
    np.testing.assert_allclose(quick.sum(), exact.sum())


def test_a_place_that_is_hardly_reached_is_not_asked_about() -> None:
    """Its mass is split evenly over the labels it can belong to, where nothing is known about them."""
    reading = Reading(LabelTrie([[(3, 5)], [(3, 6)], [(4,)]]))
    reading.read(0, np.array([SLACK / 2, 0.9]))
    assert reading.open == []
    assert reading.probabilities.tolist() == [SLACK / 4, SLACK / 4, 0.9]


def test_another_way_to_write_labels_divides_as_the_first() -> None:
    """` card` and `cash` written with a space, hardly ever, are as likely to each other as without."""
    reading = Reading(LabelTrie([[(3, 5), (4, 5)], [(3, 6), (4, 6)]]))
    reading.read(0, np.array([0.9, SLACK / 2]))
    reading.read(reading.open[0], np.array([0.6, 0.2]))
    assert reading.open == []
    whole = 0.9 + SLACK / 2
    np.testing.assert_allclose(reading.probabilities, [0.75 * whole, 0.25 * whole])


def test_ways_that_all_underflow_share_evenly() -> None:
    """Zero over zero is no number; nothing tells the labels apart."""
    reading = Reading(LabelTrie([[(3, 5)], [(3, 6)]]))
    reading.read(0, np.array([0.5]))
    reading.read(1, np.zeros(2))
    assert reading.probabilities.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "there are no labels to choose from"),
        ([[(3,)], []], "label 1 has no spelling, or one without tokens"),
        ([[()], [(3,)]], "label 0 has no spelling, or one without tokens"),
        ([[(3,)], [(4,)], [(3,)]], "labels 0 and 2 are spelled by the same tokens"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(
    labels: list[list[tuple[int, ...]]], message: str
) -> None:
    """The message names the labels by number."""
    with pytest.raises(EngineUnsupported, match=message):
        LabelTrie(labels)
