"""Label probabilities out of tokens: what counts, what is left out, and what is no evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rung.engines.openai.labels import LabelReader
from rung.engines.protocol import TokenLogprob

READER = LabelReader(("card", "card_lost", "refund", "transfer", "café", 'say "hi"'))


def token(text: str, probability: float = 1.0, **others: float) -> TokenLogprob:
    """A token with a probability and alternatives; `_` in a name stands for itself."""
    alternatives = {text: probability} | others
    return TokenLogprob(
        text,
        math.log(probability),
        tuple((name, math.log(p)) for name, p in alternatives.items()),
    )


def masses(output: str, *tokens: TokenLogprob) -> list[float] | None:
    """Rounded masses of the six labels."""
    spelled = READER.find(output)
    assert spelled is not None
    found = READER.probabilities(output, tokens, spelled)
    return None if found is None else np.round(found, 6).tolist()


@pytest.mark.parametrize(
    ("output", "index"),
    [
        ("refund", 2),
        ("  refund\n", 2),
        ('"refund"', 2),
        ("`refund`", 2),
        ('{"label": "refund"}', 2),
        ('{ "label":\n"refund" }\n', 2),
        ('{"label": "caf\\u00e9"}', 4),
        ('{"label": "say \\"hi\\""}', 5),
    ],
)
def test_a_label_is_read_bare_quoted_or_as_json(output: str, index: int) -> None:
    """White space and one pair of quotes around the label do not matter."""
    spelled = READER.find(output)
    assert spelled is not None
    assert spelled.index == index


@pytest.mark.parametrize(
    "output",
    ["", " ", "Refund", "refund.", "the label is refund", '{"label": "other"}', '{"label": "refund"',
     '{"label": "refund", "sure": true}', '{"name": "refund"}', '"refund', "[" * 100_000, "{" * 100_000],
)  # fmt: skip
def test_anything_else_is_no_label(output: str) -> None:
    """An answer is the label exactly; nothing is guessed."""
    assert READER.find(output) is None


def test_a_key_that_stands_twice_is_no_label() -> None:
    """Which of two labels was meant is not guessed."""
    assert READER.find('{"label": "refund", "label": "transfer"}') is None


def test_only_the_tokens_that_spell_the_label_count() -> None:
    """JSON around the label has probabilities too, and they say nothing about it."""
    got = masses(
        '{"label": "refund"}',
        token('{"', 0.3), token("label", 0.2), token('":', 0.5), token(' "', 0.9),
        token("ref", 0.8), token("und", 0.5), token('"}', 0.1),
    )  # fmt: skip
    assert got == [0, 0, 0.4, 0, 0, 0]


def test_an_alternative_gives_its_mass_to_the_one_label_it_begins() -> None:
    """`tr` can only be `transfer`; `c` could be three labels and `x` none, so they give nothing."""
    got = masses("refund", token("ref", 0.6, tr=0.2, c=0.1, x=0.05), token("und", 0.9, use=0.1))
    assert got == [0, 0, 0.54, 0.2, 0, 0]


def test_a_later_token_can_diverge_too() -> None:
    """The mass of an alternative inside the label is reached through the tokens before it."""
    got = masses(
        '{"label": "card_lost"}',
        token('{"label": "'), token("card", 0.9), token("_lost", 0.7, **{'"': 0.3}), token('"}'),
    )  # fmt: skip
    assert got == [0.27, 0.63, 0, 0, 0, 0]


def test_a_label_that_another_begins_with_needs_its_end() -> None:
    """`card` is only `card` once the quote has closed; bare text never shows that, so it is no evidence."""
    closed = masses('{"label": "card"}', token('{"label": "'), token("card", 0.9), token('"}', 0.5))
    assert closed == [0.45, 0, 0, 0, 0, 0]
    assert masses("card", token("card", 0.9)) is None


def test_a_token_that_holds_label_and_end_has_counted_the_end() -> None:
    """The quote inside the last token is not counted twice."""
    got = masses('{"label": "card"}', token('{"label": "'), token('card"', 0.5), token("}", 0.1))
    assert got == [0.5, 0, 0, 0, 0, 0]


def test_a_token_that_begins_before_the_label_is_compared_after_what_comes_before() -> None:
    """` "ref` against ` "tr`: the same opening, then another label; without the opening it is no label."""
    got = masses(
        '{"label": "refund"}',
        token('{"label":'), token(' "ref', 0.6, **{' "tr': 0.3, "tr": 0.1}), token('und"}'),
    )  # fmt: skip
    assert got == [0, 0, 0.6, 0.3, 0, 0]


def test_leading_space_of_bare_labels_does_not_matter() -> None:
    """A model may begin a bare label with a space, or not."""
    assert masses(" refund", token(" ref", 0.6, tr=0.3), token("und")) == [0, 0, 0.6, 0.3, 0, 0]
    assert masses("refund", token("ref", 0.6, **{" tr": 0.3}), token("und")) == [
        0,
        0,
        0.6,
        0.3,
        0,
        0,
    ]


def test_an_end_token_of_the_model_does_no_harm() -> None:
    """Servers may list a token that is not part of the text."""
    assert masses("refund", token("refund", 0.8), token("<|im_end|>", 0.1)) == [0, 0, 0.8, 0, 0, 0]


@pytest.mark.parametrize("tokens", [(), (token("re"),), (token("caf"), token("\ufffd"))])
def test_tokens_that_do_not_spell_the_output_are_no_evidence(
    tokens: tuple[TokenLogprob, ...],
) -> None:
    """Evidence about another text is none about this one."""
    assert masses("refund", *tokens) is None


def test_other_spellings_of_the_chosen_label_are_not_added() -> None:
    """`re` begins only `refund`, but what would follow is unknown: the chosen label is never overstated."""
    assert masses("refund", token("ref", 0.6, re=0.3), token("und")) == [0, 0, 0.6, 0, 0, 0]
