"""Texts to hashed word and character n-grams, with numpy alone and no Python loop over n-grams.

What is counted, for one text after `rung.text.normalize`:

- character n-grams inside each word, the word padded by one space on either side;
- runs of one to `word_max` words;
- unordered pairs of word beginnings at most `pair_span` words apart, which is what lets a linear
  model see that "card" and "arrive" occur together whatever stands between them.

The n-grams of a whole block come from one polynomial prefix hash over its code points, modulo 2^64:
with `H[i] = Σ_{j<i} c_j·B^j`, the window [s, e) hashes to `(H[e] − H[s])·B^−s`, wherever it stands.
What a text hashes to never depends on the texts around it. Nothing is known here of labels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from rung.text import normalize

UInt64s = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

BLOCK_TEXTS = 256
BLOCK_CHARACTERS = 1 << 14
"""A block holds at most this many texts and, if more than one, at most this many characters."""

_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_SPACE = 32
_NO_TEXT = (1 << 32) - 1
_MOST_BITS = 22  # a block's text number and bucket share one uint32 sort key


class FeatureSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which n-grams are counted.

    Attributes:
        bits: the hash has 2^bits buckets, 8 to 22.
        char_min, char_max: lengths of the character n-grams; padding spaces count.
        word_max: longest run of words.
        pair_prefix: how many characters of a word take part in a pair.
        pair_span: greatest distance, in words, of a pair; 0 for no pairs.
    """

    bits: int = 18
    char_min: int = 2
    char_max: int = 4
    word_max: int = 2
    pair_prefix: int = 5
    pair_span: int = 6

    def __post_init__(self) -> None:
        if not (
            8 <= self.bits <= _MOST_BITS
            and 2 <= self.char_min <= self.char_max <= 16
            and 1 <= self.word_max <= 8
            and 1 <= self.pair_prefix <= 64
            and 0 <= self.pair_span <= 64
        ):
            raise ValueError(f"feature settings out of range: {self!r}")


class Ngrams(NamedTuple):
    """The distinct n-grams of a block of texts, in compressed rows.

    Attributes:
        starts: (texts + 1,) int64; text i owns the entries starts[i] to starts[i + 1].
        buckets: (entries,) uint32, ascending within a text.
        values: (entries,) float32, 1 + ln(count), each text scaled to length 1.
    """

    starts: Ints
    buckets: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


def blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut `texts`, in order, into blocks small enough for the processor's cache."""
    start = characters = 0
    for position, text in enumerate(texts):
        characters += len(text)
        if position > start and (characters > BLOCK_CHARACTERS or position - start >= BLOCK_TEXTS):
            yield texts[start:position]
            start, characters = position, len(text)
    if start < len(texts):
        yield texts[start:]


def count_ngrams(texts: Sequence[str], settings: FeatureSettings) -> Ngrams:
    """The n-grams of one block (see `blocks`) of at most `BLOCK_TEXTS` texts."""
    block = _Block(texts)
    words = _Words(block)
    parts = [
        *_character_ngrams(block, settings),
        *_word_ngrams(words, settings),
        *_pairs(words, settings),
    ]
    owner = np.concatenate([owner for owner, _ in parts])
    hashes = _mixed(np.concatenate([hashes for _, hashes in parts]))
    # One uint32 key a (text, bucket), so that a plain sort groups texts and finds repeats.
    bucket_mask = np.uint64((1 << settings.bits) - 1)
    keys = (owner << np.uint32(settings.bits)) | (hashes & bucket_mask).astype(np.uint32)
    keys.sort()
    return _counted(keys, len(texts), settings.bits)


class _Block:
    """The code points of a block, each text between two spaces, and its prefix hash."""

    def __init__(self, texts: Sequence[str]) -> None:
        normalized = [normalize(text) for text in texts]
        joined = " " + "  ".join(normalized) + " " if normalized else ""
        # A lone surrogate is not valid text, but it can arrive in JSON and must not stop a batch.
        encoded = joined.encode("utf-32-le", "surrogatepass")
        self.points = np.frombuffer(encoded, dtype="<u4")
        lengths = np.fromiter((len(text) + 2 for text in normalized), np.int64, len(normalized))
        self.owner = np.repeat(np.arange(len(normalized), dtype=np.uint32), lengths)
        self.is_space = self.points == _SPACE
        size = len(self.points)
        powers, self._inverse_powers = _power_tables(size.bit_length())
        self._prefix = np.zeros(size + 1, np.uint64)
        np.cumsum((self.points + np.uint64(1)) * powers[:size], out=self._prefix[1:])

    def hashes(self, starts: Ints, ends: Ints, kind: int) -> UInt64s:
        """Unmixed hash of every window [start, end); `kind` keeps different kinds apart."""
        raw = (self._prefix[ends] - self._prefix[starts]) * self._inverse_powers[starts]
        return raw + np.uint64(kind)


class _Words:
    """Where the words of a block are: runs of letters and digits, judged by code point."""

    def __init__(self, block: _Block) -> None:
        # The first and last code points are spaces, so every word starts and ends inside.
        inside = _is_word_point(block.points)
        edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        self.block = block
        self.starts, self.ends = edges[::2], edges[1::2]
        self.owner = block.owner[self.starts]


def _character_ngrams(
    block: _Block, settings: FeatureSettings
) -> Iterator[tuple[npt.NDArray[np.uint32], UInt64s]]:
    """(owner, hash) of the windows without inner space: none leaves its word or its text."""
    size = len(block.points)
    spaces = np.zeros(size + 1, np.int32)
    np.cumsum(block.is_space, out=spaces[1:])
    for length in range(settings.char_min, settings.char_max + 1):
        if length > size:
            return
        inside = spaces[length - 1 : size] == spaces[1 : size - length + 2]
        if length == 2:
            inside &= ~(block.is_space[:-1] & block.is_space[1:])
        starts = np.flatnonzero(inside)
        yield block.owner[starts], block.hashes(starts, starts + length, length)


def _word_ngrams(
    words: _Words, settings: FeatureSettings
) -> Iterator[tuple[npt.NDArray[np.uint32], UInt64s]]:
    """(owner, hash) of single words and of runs of words of one text."""
    single = words.block.hashes(words.starts, words.ends, 1 << 20)
    yield words.owner, single
    run = single
    for further in range(1, settings.word_max):
        run = run[:-1] * np.uint64(3) + single[further:]
        same = words.owner[further:] == words.owner[:-further]
        yield words.owner[further:][same], run[same]


def _pairs(
    words: _Words, settings: FeatureSettings
) -> Iterator[tuple[npt.NDArray[np.uint32], UInt64s]]:
    """(owner, hash) of unordered pairs of word beginnings of one text."""
    if not settings.pair_span:
        return
    ends = np.minimum(words.ends, words.starts + settings.pair_prefix)
    beginnings = words.block.hashes(words.starts, ends, 1 << 21)
    # Every word against the `pair_span` after it at once; past the end stands an owner of no text.
    owners = np.append(words.owner, np.full(settings.pair_span, _NO_TEXT, np.uint32))
    distances = np.arange(1, settings.pair_span + 1)
    partners = owners[np.arange(len(beginnings))[:, None] + distances]
    first, distance = np.nonzero(partners == words.owner[:, None])
    left, right = beginnings[first], beginnings[first + distance + 1]
    low, high = np.minimum(left, right), np.maximum(left, right)
    yield words.owner[first], low * np.uint64(7) + high


def _counted(keys: npt.NDArray[np.uint32], texts: int, bits: int) -> Ngrams:
    """Distinct sorted keys with their weights: 1 + ln(count), each text scaled to length 1."""
    first = np.empty(len(keys), bool)
    first[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    places = np.flatnonzero(first)
    counts = np.empty(len(places), np.int64)
    np.subtract(places[1:], places[:-1], out=counts[:-1])
    counts[-1:] = len(keys) - places[-1:]
    distinct = keys[places]
    owner = distinct >> np.uint32(bits)
    # `bincount` adds in order and the logarithms come from a table: a text's weights are the same
    # bits in any block.
    logarithms = _logarithms()
    weights = logarithms[np.minimum(counts, len(logarithms) - 1)]
    squares = np.bincount(owner, weights * weights, minlength=texts)
    lengths = np.sqrt(np.maximum(squares, 1.0))
    starts = np.zeros(texts + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=texts), out=starts[1:])
    values = (weights / lengths[owner]).astype(np.float32)
    return Ngrams(starts, distinct & np.uint32((1 << bits) - 1), values)


def _is_word_point(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Digits, letters a to z, and all from U+00C0 on but the two blocks of punctuation."""
    ascii_word = ((points >= ord("a")) & (points <= ord("z"))) | (
        (points >= ord("0")) & (points <= ord("9"))
    )
    if not len(points) or points.max() < 0xC0:
        return ascii_word
    punctuation = ((points >= 0x2000) & (points < 0x2070)) | (
        (points >= 0x3000) & (points < 0x3040)
    )
    return ascii_word | ((points >= 0xC0) & ~punctuation)


def _mixed(hashes: UInt64s) -> UInt64s:
    """Spread every input bit over the low ones, which choose the bucket (multiply-xorshift)."""
    hashes = hashes ^ (hashes >> _HALF)
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _HALF
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _HALF
    return hashes


@functools.lru_cache(maxsize=8)
def _power_tables(bits: int) -> tuple[UInt64s, UInt64s]:
    """The first 2^bits powers of the base and of its inverse, modulo 2^64."""
    return _powers(_BASE, 1 << bits), _powers(_BASE_INVERSE, 1 << bits)


def _powers(base: int, count: int) -> UInt64s:
    """base^0 … base^(count − 1) modulo 2^64, by doubling; `count` is a power of two."""
    powers = np.ones(count, np.uint64)
    filled = 1
    while filled < count:
        step = np.uint64(pow(base, filled, 1 << 64))
        powers[filled : 2 * filled] = powers[:filled] * step
        filled *= 2
    return powers


@functools.lru_cache(maxsize=1)
def _logarithms() -> npt.NDArray[np.float64]:
    """1 + ln(count) by count, flat above 1,023 repeats."""
    return np.array([0.0] + [1.0 + math.log(count) for count in range(1, 1024)])
