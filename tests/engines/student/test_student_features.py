"""Hashed n-grams: what is counted, and that a text's n-grams are its own."""

from __future__ import annotations

import numpy as np
import pytest

from rung.engines.student.features import (
    BLOCK_TEXTS,
    FeatureSettings,
    Ngrams,
    blocks,
    count_ngrams,
)

WORDS_ONLY = FeatureSettings(bits=22, char_min=16, char_max=16, word_max=2, pair_span=0)


def _of(ngrams: Ngrams, text: int) -> tuple[list[int], list[float]]:
    start, end = ngrams.starts[text], ngrams.starts[text + 1]
    return ngrams.buckets[start:end].tolist(), ngrams.values[start:end].tolist()


def test_a_texts_ngrams_are_the_same_in_any_block() -> None:
    """Neighbours, order and position change nothing, to the bit."""
    texts = ["a b", "Where is my card?", "", "naïve Ärger 北京", "x" * 5000, "a b a b a b"]
    settings = FeatureSettings()
    together = count_ngrams(texts, settings)
    backwards = count_ngrams(texts[::-1], settings)
    for number, text in enumerate(texts):
        alone = _of(count_ngrams([text], settings), 0)
        assert _of(together, number) == alone
        assert _of(backwards, len(texts) - 1 - number) == alone


def test_words_and_neighbours_are_counted() -> None:
    """Three words give three single words and two runs of two."""
    assert len(count_ngrams(["one two three"], WORDS_ONLY).buckets) == 5


def test_character_ngrams_stay_inside_a_word() -> None:
    """The bigrams of "ab cd" are those of " ab " and " cd ", so word order does not change them."""
    settings = FeatureSettings(bits=22, char_max=2, word_max=1, pair_span=0)
    assert len(count_ngrams(["ab cd"], settings).buckets) == 6 + 2
    assert _of(count_ngrams(["ab cd"], settings), 0) == _of(count_ngrams(["cd ab"], settings), 0)


def test_pairs_ignore_order_and_word_endings() -> None:
    """With pairs, "cards ... arrived" shares an n-gram with "arrive ... card"; without, none."""
    base = {"bits": 22, "char_min": 16, "char_max": 16, "word_max": 1, "pair_prefix": 4}
    texts = ["cards zz arrived", "arrive yy card"]

    def shared(span: int) -> int:
        ngrams = count_ngrams(texts, FeatureSettings(**base, pair_span=span))
        return len(set(_of(ngrams, 0)[0]) & set(_of(ngrams, 1)[0]))

    assert (shared(0), shared(2)) == (0, 1)


def test_every_text_has_length_one_and_repeats_count_less() -> None:
    """Values are 1 + ln(count), scaled to length 1."""
    ngrams = count_ngrams(
        ["a a a b"], FeatureSettings(bits=22, char_max=2, word_max=1, pair_span=0)
    )
    assert np.isclose((ngrams.values.astype(float) ** 2).sum(), 1.0)
    assert np.isclose(ngrams.values.max() / ngrams.values.min(), 1 + np.log(3))


def test_case_width_and_white_space_are_normalised() -> None:
    """Full-width letters, capitals and tabs are read as their plain forms."""
    settings = FeatureSettings()
    assert _of(count_ngrams(["ＣＡＲＤ\t\n Lost"], settings), 0) == _of(
        count_ngrams(["card lost"], settings), 0
    )


def test_curly_quotes_and_dashes_separate_words() -> None:
    """Unicode punctuation ends a word as ASCII punctuation does."""
    assert len(count_ngrams(["don’t—stop"], WORDS_ONLY).buckets) == 3 + 2


@pytest.mark.parametrize("text", ["", "   ", "\ud800", "\x00", "𝄞"])
def test_odd_texts_are_counted_without_error(text: str) -> None:
    """Empty texts, lone surrogates, NUL and characters beyond the basic plane are texts too."""
    assert len(count_ngrams([text, "card"], FeatureSettings()).starts) == 3


def test_blocks_keep_order_and_stay_small() -> None:
    """Blocks put together are the texts; each is bounded in texts, and in characters unless alone."""
    texts = ["x" * 100_000, "a", "", *["b" * 50] * 1000]
    cut = list(blocks(texts))
    assert [text for block in cut for text in block] == texts
    assert max(map(len, cut)) <= BLOCK_TEXTS
    assert all(len(block) == 1 or sum(map(len, block)) <= 1 << 14 for block in cut)


@pytest.mark.parametrize("bad", [{"bits": 40}, {"char_min": 1}, {"char_max": 1}, {"pair_span": -1}])
def test_settings_out_of_range_are_refused(bad: dict[str, int]) -> None:
    """Settings that the hash cannot hold are an error, not a wrong result."""
    with pytest.raises(ValueError, match="out of range"):
        FeatureSettings(**bad)
