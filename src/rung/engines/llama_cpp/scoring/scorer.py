"""Many texts between the same two pieces of prompt: label probabilities in few evaluations.

The piece before the texts is evaluated once, as sequence 0, and stays for the next call. Texts are taken in waves: each
is a sequence that shares the cells of sequence 0, all go through the model together, and only their last tokens give
an answer. Places of the label trie beyond the root are evaluated the same way, as sequences that share a text's cells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from rung.engines.llama_cpp.labels import Indices, LabelTrie, Reading, ways_on
from rung.engines.llama_cpp.scoring.capi import Interrupted, Logits, Model, Run
from rung.engines.llama_cpp.scoring.wire import ScoreRequest
from rung.engines.llama_cpp.text_runs import run_problem
from rung.engines.protocol import Probabilities
from rung.errors import EngineRefused

WAVE = 32
"""Most texts, or places, evaluated together: more gain nothing, since attention runs over the cells of all of them."""

SEQUENCES = 1 + 2 * WAVE
"""The prefix, a wave of texts, and a wave of places beyond their roots."""

_TOKEN_BYTES = 256  # no known vocabulary has longer tokens: bounds what is worth tokenising

Stopped = Callable[[], bool]


class Scores(msgspec.Struct, frozen=True):
    """Label probabilities of the texts of a request.

    Attributes:
        probabilities: (texts, labels) float64, NaN for texts with a problem.
        prompt_tokens: tokens of each text's whole prompt, 0 where they were not counted.
        problems: index of a text to why it has no probabilities.
    """

    probabilities: Probabilities
    prompt_tokens: tuple[int, ...]
    problems: dict[int, str]


class _Text(msgspec.Struct):
    """One text on its way.

    Attributes:
        index: in the request.
        reading: what the model said so far.
        suffix: its tokens after the shared prefix.
        prompt_tokens: all of its prompt's.
        sequence: where it is evaluated.
        held: tokens after the prefix that its sequence holds.
        problem: why it has no scores.
    """

    index: int
    reading: Reading
    suffix: list[int] = []
    prompt_tokens: int = 0
    sequence: int = 0
    held: int = 0
    problem: str | None = None


class _Step(msgspec.Struct, frozen=True):
    """A place beyond the root, the tokens that lead there, and the sequence they go on."""

    text: _Text
    place: int
    path: tuple[int, ...]
    sequence: int


class Scorer:
    """Scores labels with one loaded model.

    Args:
        model: with at least `SEQUENCES` sequences.
        context: tokens that a prompt and its label may take together.
        wave_tokens: tokens after the prefix that are evaluated at once, where a text alone is not longer.

    Attributes:
        context: the same, no more than the model can hold.
    """

    def __init__(self, model: Model, *, context: int, wave_tokens: int) -> None:
        self._model = model
        self._wave_tokens = wave_tokens
        self.context = min(context, model.context_train, model.cells)
        self._ends: Indices = np.array(model.vocabulary.ends, dtype=np.int64)
        self._prefix: list[int] = []
        self._adapter: str | None = None

    def score(self, request: ScoreRequest, stopped: Stopped) -> Scores:
        """Label probabilities of every text of a request.

        Args:
            request: the prompt's pieces, the texts and the labels' spellings.
            stopped: asked now and then; True gives the request up.

        Raises:
            EngineRefused: a token is none of this model's, or the adapter is unknown.
            EngineUnsupported: the labels cannot be told apart.
            Interrupted: `stopped` said so.
            EvaluationFailed: the library failed.
        """
        self._check(request)
        trie = LabelTrie(request.surfaces)
        texts = []
        for index in range(len(request.texts)):
            if stopped():
                raise Interrupted
            texts.append(self._prepared(request, trie, index))
        prefix = list(request.before)
        ready = [text for text in texts if text.problem is None]
        if any(not text.suffix for text in ready):
            # An answer comes after a token of a text's own, so each gets the last shared one.
            prefix, last = prefix[:-1], prefix[-1]
            for text in ready:
                text.suffix.insert(0, last)
        with self._forgetting_on_failure():
            if ready:
                self._hold(prefix, request.adapter, stopped)
            for wave in self._waves(ready, trie):
                self._run(wave, trie, stopped)
        return _scores(texts, trie)

    @contextlib.contextmanager
    def _forgetting_on_failure(self) -> Iterator[None]:
        """However a run breaks off, nothing of it is left for the next one to build on."""
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self._model.clear()
                self._prefix = []

    def _check(self, request: ScoreRequest) -> None:
        size = self._model.vocabulary.size
        pieces = [request.before, request.after, *(f for forms in request.surfaces for f in forms)]
        for piece in pieces:
            if piece and not (min(piece) >= 0 and max(piece) < size):
                raise EngineRefused(f"the prompt or a label has a token outside 0 … {size - 1}")
        if request.adapter is not None and request.adapter not in self._model.adapters:
            known = ", ".join(self._model.adapters) or "none"
            raise EngineRefused(f"unknown adapter {request.adapter!r}", hint=f"loaded are: {known}")

    def _prepared(self, request: ScoreRequest, trie: LabelTrie, index: int) -> _Text:
        """A text, tokenised, with a problem where it cannot be evaluated."""
        text = request.texts[index]
        prepared = _Text(index, Reading(trie, request.slack))
        if len(text) > self.context * _TOKEN_BYTES:
            prepared.problem = (
                f"the text has {len(text):,} characters, the context holds {self.context:,} tokens"
            )
            return prepared
        prepared.problem = run_problem(text)
        if prepared.problem is not None:
            return prepared
        prepared.suffix = [*self._model.tokenize(text, parse_special=False), *request.after]
        prepared.prompt_tokens = len(request.before) + len(prepared.suffix)
        needed = prepared.prompt_tokens + trie.longest
        if needed > self.context:
            prepared.problem = (
                f"prompt and label take {needed:,} tokens, the context holds {self.context:,}"
            )
        elif not prepared.prompt_tokens:
            prepared.problem = "the prompt is empty"
        return prepared

    def _hold(self, prefix: list[int], adapter: str | None, stopped: Stopped) -> None:
        """Have exactly `prefix` in sequence 0, evaluating what is not there yet."""
        if adapter != self._adapter:
            self._model.clear()
            self._prefix = []
            self._model.apply(adapter)
            self._adapter = adapter
        common = _common(self._prefix, prefix)
        if common < len(self._prefix) and not self._model.cut(0, common):
            self._model.clear()
            common = 0
        if common < len(prefix):
            self._model.evaluate([Run(0, common, prefix[common:], answer=False)], stopped)
        self._prefix = prefix

    def _waves(self, texts: list[_Text], trie: LabelTrie) -> Iterator[list[_Text]]:
        """The texts in groups that fit, with a path to a place for each of them and one more."""
        free = self._model.cells - len(self._prefix) - trie.longest
        wave: list[_Text] = []
        tokens = 0
        for text in texts:
            more = tokens + len(text.suffix)
            cells = more + (len(wave) + 1) * trie.longest
            if wave and (more > self._wave_tokens or cells > free or len(wave) == WAVE):
                yield wave
                wave, more = [], len(text.suffix)
            wave.append(text)
            tokens = more
        if wave:
            yield wave

    def _run(self, wave: list[_Text], trie: LabelTrie, stopped: Stopped) -> None:
        """Evaluate some texts to the end."""
        start = len(self._prefix)
        runs = []
        for sequence, text in enumerate(wave, 1):
            text.sequence = sequence
            self._model.share(0, sequence)
            runs.append(Run(sequence, start, text.suffix))
        answers = self._model.evaluate(runs, stopped)
        for text, logits in zip(wave, answers, strict=True):
            text.held = len(text.suffix)
            self._read(text, trie, 0, logits)
        while steps := self._steps(wave, trie):
            self._run_steps(steps, trie, stopped)
        for text in wave:
            self._model.cut(text.sequence, 0)

    def _steps(self, wave: list[_Text], trie: LabelTrie) -> list[_Step]:
        """Open places that can be evaluated together next, each with the tokens that lead to it."""
        room = self._model.cells - len(self._prefix) - sum(text.held for text in wave)
        steps: list[_Step] = []
        for text in wave:
            places = text.reading.open
            for place in places:
                # All open places lie beyond what the text's own sequence holds.
                path = trie.places[place].path[text.held - len(text.suffix) :]
                if len(steps) == WAVE or len(path) > room:
                    return steps
                room -= len(path)
                sequence = text.sequence if len(places) == 1 else 1 + WAVE + len(steps)
                steps.append(_Step(text, place, path, sequence))
        return steps

    def _run_steps(self, steps: list[_Step], trie: LabelTrie, stopped: Stopped) -> None:
        """Evaluate places beyond the root.

        A text's only open place goes on its own sequence, since whatever opens later lies beyond it; of several, each
        gets a sequence for the moment.
        """
        runs = []
        for step in steps:
            if step.sequence != step.text.sequence:
                self._model.share(step.text.sequence, step.sequence)
            runs.append(Run(step.sequence, len(self._prefix) + step.text.held, step.path))
        answers = self._model.evaluate(runs, stopped)
        for step, logits in zip(steps, answers, strict=True):
            if step.sequence == step.text.sequence:
                step.text.held += len(step.path)
            else:
                self._model.cut(step.sequence, 0)
            self._read(step.text, trie, step.place, logits)

    def _read(self, text: _Text, trie: LabelTrie, place: int, logits: Logits) -> None:
        """Hand an answer to the text's reading, or end the text where the answer is no number."""
        if text.problem is not None:
            return
        highest = logits.max()
        total = np.exp(logits - highest).sum(dtype=np.float64)
        if not np.isfinite(total):
            text.problem = "the model answered with something that is no number"
            text.reading.close()
            return

        def probabilities(tokens: Indices) -> Probabilities:
            wanted: Probabilities = np.exp(logits[tokens].astype(np.float64) - highest)
            shares: Probabilities = wanted / total
            return shares

        text.reading.read(place, ways_on(trie.places[place], probabilities, self._ends))


def _scores(texts: list[_Text], trie: LabelTrie) -> Scores:
    rows = np.full((len(texts), trie.labels), np.nan)
    for text in texts:
        if text.problem is None:
            rows[text.index] = text.reading.probabilities
    problems = {text.index: text.problem for text in texts if text.problem is not None}
    return Scores(rows, tuple(text.prompt_tokens for text in texts), problems)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for count, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return count
    return min(len(one), len(other))
