"""The starter's tokenizer: byte-level BPE in which a word has the same pieces with and without a space before it.

A value is copied out of the text into JSON, where the space before it is gone; only if its pieces stay the same is
copying a matter of repeating what was read. So merges are learnt on single words (`M1`), and after them every piece
that begins a word gets one merge with the space (`M2`): " daft" is [Ġda][ft], "daft" is [da][ft].

JSON's punctuation between values is one token a run; a label or a field's name that has an underscore is one token.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from prompts import CONTROL
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPACE = "Ġ"
M1_SIZE = 2_900
GLUE = (
    ("{", '"'),
    ('"', ":"),
    ('":', '"'),
    ('"', ","),
    ('",', '"'),
    ('"', "}"),
    ("{", "}"),
)
"""Merges for JSON's own characters, ranked after M1 so that they never take a character off a value."""


class Vocabulary(NamedTuple):
    """What the GGUF's tokenizer is made of: pieces by id, merges by rank, whole tokens by kind."""

    pieces: list[str]
    merges: list[tuple[str, str]]
    names: list[str]

    def tokenizer(self) -> Tokenizer:
        """The same tokenizer as the one llama.cpp builds from the GGUF."""
        ids = {piece: index for index, piece in enumerate(self.pieces)}
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=self.merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
        tokenizer.add_tokens([AddedToken(name, normalized=False) for name in self.names])
        return tokenizer

    def tokens(self) -> list[str]:
        """Every token by id: pieces, then control tokens, then names."""
        return [*self.pieces, *CONTROL, *self.names]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self._asdict(), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        merges = [(left, right) for left, right in stored["merges"]]
        return cls(stored["pieces"], merges, stored["names"])


def learn(texts: Sequence[str], names: Iterable[str]) -> Vocabulary:
    """Learn a vocabulary from user texts; every one of `names` becomes one token.

    A name that the tokenizer would split whatever was merged (it has an underscore or a digit next to letters) is a
    token of its own kind. Any other name is an ordinary word, learnt like one: as a token of its own kind it would be
    cut out of the middle of longer words, "no" out of "november".
    """
    words, whole = [], []
    for name in sorted(set(names)):
        (words if name.isalpha() and name.islower() else whole).append(name)
    merges = _merges_of_words(texts, words)
    merges += [pair for pair in GLUE if pair not in merges]
    pieces = _pieces(merges)
    starts = _word_starts(texts, pieces, merges)
    spaced = [(SPACE, piece) for piece in starts]
    return Vocabulary(_pieces([*merges, *spaced]), [*merges, *spaced], whole)


def spaced_bases(vocabulary: Vocabulary) -> list[tuple[int, bool]]:
    """For every token id: the id of the token without its leading space, and whether it has one."""
    tokens = vocabulary.tokens()
    ids = {token: index for index, token in enumerate(vocabulary.pieces)}
    bases = []
    for index, token in enumerate(tokens):
        base = ids.get(token[1:]) if token.startswith(SPACE) and index < len(ids) else None
        bases.append((index, False) if base is None else (base, True))
    return bases


def _merges_of_words(texts: Sequence[str], words: Sequence[str]) -> list[tuple[str, str]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r'\s|"'), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=M1_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    # Often enough that every one of them is merged to the end.
    often = [" ".join(words)] * 2_000
    tokenizer.train_from_iterator([*texts, *often], trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def _pieces(merges: Sequence[tuple[str, str]]) -> list[str]:
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = set(pieces)
    for left, right in merges:
        if left + right not in known:
            known.add(left + right)
            pieces.append(left + right)
    return pieces


def _word_starts(
    texts: Sequence[str], pieces: Sequence[str], merges: Sequence[tuple[str, str]]
) -> list[str]:
    """The pieces that follow a space at least twice in `texts`, the most frequent first."""
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    starts: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(list(texts)):
        tokens = encoding.tokens
        starts.update(after for before, after in pairwise(tokens) if before == SPACE)
    single = set(pre_tokenizers.ByteLevel.alphabet())
    return [
        piece
        for piece, count in sorted(starts.items(), key=lambda item: (-item[1], item[0]))
        if piece != SPACE and (count >= 2 or piece in single)
    ]
