"""Labels as the token sequences that spell them: where the model must be asked, and what its answers add up to.

Decoding held to the labels walks a trie of all their spellings. Only places with more than one way on need the model;
a forced step costs nothing. At the root the model's own probabilities stand, so that a row sums to at most 1 and the
rest is "something else"; further down the ways on are renormalised over those that are allowed. Where one spelling is
the beginning of another, ending there is a way on too: the model's end-of-generation tokens together.

Pure: who evaluates the places, and how, is `scoring`'s and `labels_fallback`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rung.engines.protocol import Probabilities
from rung.errors import EngineUnsupported

SLACK = 0.01
"""The share of a row's mass that need not be asked about. Most places are other ways to write a label and hardly ever
reached; asking about all of them costs several times the rest. No label is off by more than this, the likeliest one,
whose places are asked about, by some millionths; other batch sizes alone move a quantised model's labels by 0.003."""

END = -1
"""Stands for "the answer ends here" among the choices of a place."""

Spellings = Sequence[Sequence[Sequence[int]]]
"""For each label, the token sequences that spell it."""

Indices = npt.NDArray[np.int64]


class Place(msgspec.Struct, frozen=True):
    """A place of the trie with more than one way on, or its root.

    Attributes:
        path: tokens from the end of the prompt to here.
        tokens: the ways on, `END` for ending here.
        labels: for each way the label that is then settled, -1 where another place follows.
        places: for each way the place that follows, -1 where a label is settled.
        below: all labels that can still be reached.
    """

    path: tuple[int, ...]
    tokens: Indices
    labels: Indices
    places: Indices
    below: Indices


class LabelTrie:
    """All spellings of all labels of a task.

    Args:
        spellings: for each label, one or more token sequences.

    Attributes:
        places: where the model is asked; the root first, nearer ones before deeper ones.
        labels: how many labels there are.
        longest: tokens of the longest path to a place.

    Raises:
        EngineUnsupported: a label has no spelling, an empty one, or one that another label has too.
    """

    def __init__(self, spellings: Spellings) -> None:
        self.labels = len(spellings)
        self.places = _places(_grown(spellings))
        self.longest = max(len(place.path) for place in self.places)


class Reading:
    """What the model said about one text so far.

    Args:
        trie: the labels.
        slack: the share of the row's mass that need not be asked about; see `SLACK`.
    """

    def __init__(self, trie: LabelTrie, slack: float = SLACK) -> None:
        self._trie = trie
        self._slack = slack
        self._reach = {0: 1.0}
        self._settled: Probabilities = np.zeros(trie.labels)
        self._unasked: list[tuple[int, float]] = []

    @property
    def open(self) -> list[int]:
        """Places that must be asked about next."""
        return list(self._reach)

    @property
    def probabilities(self) -> Probabilities:
        """(labels,) float64; final once nothing is open.

        Mass at a place that was not asked about is split over its labels as theirs is elsewhere, since such a place is
        mostly another way to write labels that were asked about; evenly where none of them was.
        """
        found = self._settled.copy()
        for place, reach in self._unasked:
            below = self._trie.places[place].below
            known = self._settled[below]
            found[below] += reach * (known / known.sum() if known.any() else 1 / len(below))
        return found

    def read(self, place: int, masses: Probabilities) -> None:
        """Take in the answer about an open place.

        Args:
            place: its number in the trie.
            masses: the model's probabilities of the place's ways on, in their order.
        """
        here = self._trie.places[place]
        shares = masses if place == 0 else _renormalised(masses)
        shares = shares * self._reach.pop(place)
        if place == 0:
            self._slack *= float(shares.sum())
        settled = here.labels >= 0
        np.add.at(self._settled, here.labels[settled], shares[settled])
        for way in np.flatnonzero(~settled):
            self._reach[int(here.places[way])] = float(shares[way])
        self._close_what_hardly_matters()

    def close(self) -> None:
        """Ask no more."""
        self._reach.clear()

    def _close_what_hardly_matters(self) -> None:
        for place, reach in sorted(self._reach.items(), key=lambda item: item[1]):
            if reach > self._slack:
                return
            self._slack -= reach
            self._unasked.append((place, self._reach.pop(place)))


def ways_on(
    place: Place, probabilities: Callable[[Indices], Probabilities], ends: Indices
) -> Probabilities:
    """The model's probabilities of a place's ways on.

    Args:
        place: where the model was asked.
        probabilities: gives those of the next token there for some tokens.
        ends: the model's end-of-generation tokens.
    """
    masses = np.zeros(len(place.tokens))
    spelled = place.tokens != END
    masses[spelled] = probabilities(place.tokens[spelled])
    if not spelled.all():
        masses[~spelled] = probabilities(ends).sum()
    return masses


def _renormalised(masses: Probabilities) -> Probabilities:
    total = masses.sum()
    if total > 0:
        shares: Probabilities = masses / total
        return shares
    return np.full(len(masses), 1 / len(masses))  # all underflowed: nothing tells the ways apart


class _Node:
    """A place of the trie while it grows."""

    __slots__ = ("children", "label")

    def __init__(self) -> None:
        self.children: dict[int, _Node] = {}
        self.label = -1

    @property
    def decides(self) -> bool:
        """Whether there is more than one way on."""
        return len(self.children) + (self.label >= 0) > 1


def _grown(spellings: Spellings) -> _Node:
    root = _Node()
    for label, forms in enumerate(spellings):
        if not forms or not all(forms):
            raise EngineUnsupported(f"label {label} has no spelling, or one without tokens")
        for form in forms:
            node = root
            for token in form:
                node = node.children.setdefault(token, _Node())
            if node.label not in {-1, label}:
                raise EngineUnsupported(
                    f"labels {node.label} and {label} are spelled by the same tokens",
                    hint="rename one of the labels",
                )
            node.label = label
    if not root.children:
        raise EngineUnsupported("there are no labels to choose from")
    return root


def _places(root: _Node) -> tuple[Place, ...]:
    """The root and every place that decides, breadth first."""
    found: list[Place] = []
    waiting: deque[tuple[_Node, tuple[int, ...]]] = deque([(root, ())])
    known = 1
    while waiting:
        node, path = waiting.popleft()
        tokens, labels, places = [], [], []
        for token, child in node.children.items():
            end, steps = _forced(child)
            tokens.append(token)
            labels.append(-1 if end.children else end.label)
            places.append(known if end.children else -1)
            if end.children:
                waiting.append((end, (*path, token, *steps)))
                known += 1
        if node.label >= 0:
            tokens.append(END)
            labels.append(node.label)
            places.append(-1)
        found.append(
            Place(path, _indices(tokens), _indices(labels), _indices(places), _below(node))
        )
    return tuple(found)


def _forced(node: _Node) -> tuple[_Node, list[int]]:
    """Where the only way on leads from `node`, and the tokens of that way."""
    steps = []
    while not node.decides and node.children:
        ((token, node),) = node.children.items()
        steps.append(token)
    return node, steps


def _below(root: _Node) -> Indices:
    labels, waiting = set(), [root]
    while waiting:
        node = waiting.pop()
        labels.add(node.label)
        waiting.extend(node.children.values())
    return _indices(sorted(labels - {-1}))


def _indices(values: Sequence[int]) -> Indices:
    return np.array(values, dtype=np.int64)
