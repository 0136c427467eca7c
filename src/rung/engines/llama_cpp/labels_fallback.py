"""Label probabilities from the server's log-probabilities, for where the C API cannot be used.

The same trie, one prompt at a time: at each place the server is asked for the most likely next tokens. A way on that is
not among them is asked for again with the whole vocabulary, unless all that are missing together cannot matter. The
numbers are those of `scoring`; they cost more CPU time, and the prompt's shared part is only as shared as the server's
prefix cache makes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np

from rung.engines.llama_cpp.labels import (
    END,
    SLACK,
    Indices,
    LabelTrie,
    Place,
    Reading,
    ways_on,
)
from rung.engines.protocol import Probabilities

FIRST_ASKED = 64
"""Next tokens asked for at first: more than most places have ways on, few enough to cost nothing."""

NextTokens = Callable[[Sequence[int], int], Awaitable[Mapping[int, float]]]
"""Given a prompt's tokens and a count: so many of the most likely next tokens with their probabilities, before any
sampling or grammar."""


async def server_label_probabilities(
    prompt: Sequence[int],
    trie: LabelTrie,
    ends: Sequence[int],
    n_vocab: int,
    next_tokens: NextTokens,
    slack: float = SLACK,
) -> Probabilities:
    """(labels,) float64 probabilities of one prompt; sums to at most 1.

    Args:
        prompt: all tokens before the label.
        trie: the labels' spellings.
        ends: end-of-generation tokens.
        n_vocab: tokens of the vocabulary.
        next_tokens: asks the server; what it raises is raised here.
        slack: share of the row's mass that need not be asked about; see `labels.SLACK`.
    """
    reading = Reading(trie, slack)
    end_tokens: Indices = np.array(ends, dtype=np.int64)
    while reading.open:
        number = reading.open[0]
        place = trie.places[number]
        path = [*prompt, *place.path]
        known = await next_tokens(path, min(FIRST_ASKED, n_vocab))
        if _missing(place, ends, known) > slack:
            known = await next_tokens(path, n_vocab)
        reading.read(number, ways_on(place, _lookup(known), end_tokens))
    return reading.probabilities


def _missing(place: Place, ends: Sequence[int], known: Mapping[int, float]) -> float:
    """The most that ways on that were not listed can have together, as a share of what is divided here."""
    wanted = {int(token) for token in place.tokens if token != END}
    if END in place.tokens:
        wanted |= set(ends)
    most = len(wanted - known.keys()) * min(known.values(), default=1.0)
    listed = sum(known[token] for token in wanted & known.keys())
    return most / (listed + most) if most else 0.0


def _lookup(known: Mapping[int, float]) -> Callable[[Indices], Probabilities]:
    """Probabilities by token; what is not known has none."""
    return lambda tokens: np.array([known.get(int(token), 0.0) for token in tokens])
