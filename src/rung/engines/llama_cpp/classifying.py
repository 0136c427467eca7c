"""Label probabilities of one model: the scoring child where it can be used, the server's log-probabilities otherwise.

Both are given the same prompt around the text and the same spellings of the labels, so that their numbers agree. How
the numbers are made is `scoring`'s and `labels_fallback`'s.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from rung import prompts
from rung.config import Timeouts
from rung.engines.llama_cpp.client import ServerClient
from rung.engines.llama_cpp.guard import check_length
from rung.engines.llama_cpp.labels import LabelTrie
from rung.engines.llama_cpp.labels_fallback import server_label_probabilities
from rung.engines.llama_cpp.lease import Lease
from rung.engines.llama_cpp.model_file import read_model_file
from rung.engines.llama_cpp.patience import Patience
from rung.engines.llama_cpp.scoring.availability import LIBRARY, ScorerUnavailable, check_version
from rung.engines.llama_cpp.scoring.client import ScoringClient
from rung.engines.llama_cpp.scoring.wire import ModelFacts, ScoreRequest
from rung.engines.llama_cpp.serving import Serving
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.engines.llama_cpp.template import (
    ChatFormat,
    Frame,
    PromptWriter,
    Tokenizer,
    Tokens,
)
from rung.engines.protocol import Classification, ClassifyRequest, Probabilities
from rung.errors import EngineError, EngineProtocolError, EngineRefused, ModelError
from rung.receipt import Usage
from rung.task import Task, Text

Spellings = tuple[tuple[Tokens, ...], ...]


class _Row(msgspec.Struct, frozen=True):
    """One text scored, or the error that ended it."""

    probabilities: Probabilities | None = None
    tokens: int = 0
    latency_ms: float = 0.0
    failure: EngineError | None = None


class _Asked(msgspec.Struct, frozen=True):
    """What all texts of a task have in common.

    Attributes:
        frame: the prompt around them.
        spellings: for each label the token sequences that spell it.
    """

    frame: Frame
    spellings: Spellings


class _Marked(Exception):
    """A text spells what shapes a conversation even where read as plain text; only the server's way can part it."""


class Classifying:
    """Scores labels with one model.

    Args:
        scorer: supervisor of the model's SCORER child.
        serving: generates with the same model; its child is started only when the scorer cannot be used.
        form: how prompts are written.
        adapter: name of the adapter that applies, None for none.
        timeouts: the rung's.
    """

    def __init__(
        self,
        scorer: Supervisor,
        serving: Serving,
        form: prompts.Form,
        adapter: str | None,
        timeouts: Timeouts,
    ) -> None:
        self._direct = _Direct(scorer, form, adapter, timeouts, serving.bounds.context)
        self._server = _ByServer(serving, form, timeouts)
        self._refused: ScorerUnavailable | None = _library_problem()

    @property
    def unavailable(self) -> ScorerUnavailable | None:
        """Why labels are not scored through the C API; None while they are."""
        return self._refused

    async def classify(self, request: ClassifyRequest) -> Classification:
        """A row a text; what ended a text's attempt is in `failures`."""
        started = time.perf_counter()
        try:
            rows = await self._rows(request)
        except EngineError as error:
            share_ms = (time.perf_counter() - started) * 1000 / max(len(request.texts), 1)
            rows = [_Row(failure=error, latency_ms=share_ms)] * len(request.texts)
        return _classification(request, rows)

    async def _rows(self, request: ClassifyRequest) -> list[_Row]:
        if self._refused is None:
            try:
                with contextlib.suppress(_Marked):
                    return await self._direct.rows(request)
            except ScorerUnavailable as error:
                self._refused = error
        return await self._server.rows(request)


class _Direct:
    """Through the scoring child: the fixed part of the prompt once, many texts in one evaluation."""

    def __init__(
        self,
        scorer: Supervisor,
        form: prompts.Form,
        adapter: str | None,
        timeouts: Timeouts,
        context: int,
    ) -> None:
        self._scorer = scorer
        self._form = form
        self._adapter = adapter
        self._timeouts = timeouts
        self._context = context
        self._writer: tuple[int, PromptWriter] | None = None
        self._asked: dict[str, _Asked] = {}

    async def rows(self, request: ClassifyRequest) -> list[_Row]:
        async with self._scorer.lease() as lease:
            client = ScoringClient(lease, epitaph=lambda: self._scorer.epitaph(lease))
            tokenizer = _ScorerTokenizer(client)
            asked = await self._asked_of(request.task, lease, client, tokenizer)
            frame = asked.frame
            if any(marker in text for marker in frame.markers for text in request.texts):
                raise _Marked
            started = time.perf_counter()
            reply = await client.score(
                ScoreRequest(
                    before=frame.before,
                    texts=tuple(frame.lead + text + frame.tail for text in request.texts),
                    after=frame.after,
                    surfaces=asked.spellings,
                    adapter=self._adapter,
                ),
                timeout_s=min(self._timeouts.total, request.timeout_s or math.inf),
            )
        share_ms = (time.perf_counter() - started) * 1000 / max(len(request.texts), 1)
        return [
            self._row(row, tokens, reply.problems.get(index), share_ms)
            for index, (row, tokens) in enumerate(
                zip(reply.probabilities, reply.prompt_tokens, strict=True)
            )
        ]

    def _row(
        self, probabilities: Probabilities, tokens: int, problem: str | None, share_ms: float
    ) -> _Row:
        try:
            if problem is not None:
                raise EngineRefused(problem)
            check_length(tokens, self._context)
            _check_numbers(probabilities)
        except EngineError as error:
            return _Row(tokens=tokens, latency_ms=share_ms, failure=error)
        return _Row(probabilities, tokens, share_ms)

    async def _asked_of(
        self, task: Task, lease: Lease, client: ScoringClient, tokenizer: Tokenizer
    ) -> _Asked:
        """The task's prompt and labels as this start's tokens."""
        if self._writer is None or self._writer[0] != lease.generation:
            format = _format_of(await client.model_facts(), self._scorer.parameters.path)
            self._writer = lease.generation, PromptWriter(format)
            self._asked.clear()
        if task.digest not in self._asked:
            self._asked[task.digest] = await _ask(task, self._form, self._writer[1], tokenizer)
        return self._asked[task.digest]


class _ByServer:
    """Through the server, one prompt at a time; its prefix cache is what is shared."""

    def __init__(self, serving: Serving, form: prompts.Form, timeouts: Timeouts) -> None:
        self._serving = serving
        self._form = form
        self._timeouts = timeouts

    async def rows(self, request: ClassifyRequest) -> list[_Row]:
        async with self._serving.open() as client:
            found = await self._serving.found(client)
            asked = await _ask(request.task, self._form, found.writer, client)
            trie = LabelTrie(asked.spellings)
            return [await self._row(client, request, text, trie) for text in request.texts]

    async def _row(
        self, client: ServerClient, request: ClassifyRequest, text: str, trie: LabelTrie
    ) -> _Row:
        found = await self._serving.found(client)
        patience = Patience(self._timeouts, request.timeout_s, client.name)

        async def next_tokens(prompt: Sequence[int], count: int) -> dict[int, float]:
            return dict(await self._serving.next_tokens(client, prompt, count, patience))

        messages = prompts.messages(request.task, Text(text), form=self._form)
        try:
            prompt = await found.writer.tokens(messages, client)
            check_length(len(prompt) + trie.longest, self._serving.bounds.context)
            row = await server_label_probabilities(
                prompt, trie, found.ends, found.n_vocab, next_tokens
            )
            _check_numbers(row)
        except (EngineRefused, EngineProtocolError) as error:
            return _Row(failure=error, latency_ms=patience.elapsed_ms)
        return _Row(row, len(prompt), patience.elapsed_ms)


class _ScorerTokenizer:
    """The scoring child as a `Tokenizer`."""

    def __init__(self, client: ScoringClient) -> None:
        self._client = client

    async def tokenize(self, texts: Sequence[str], *, parse_special: bool) -> list[Tokens]:
        """The tokens of each text."""
        if not any(texts):
            return [()] * len(texts)
        found = await self._client.tokenize(texts, parse_special=parse_special)
        return [tuple(tokens) for tokens in found]


async def _ask(
    task: Task, form: prompts.Form, writer: PromptWriter, tokenizer: Tokenizer
) -> _Asked:
    frame = await writer.frame(prompts.messages(task, Text(""), form=form), tokenizer)
    return _Asked(frame, await spellings(task.label_names, form, frame.begun, tokenizer))


async def spellings(
    names: Sequence[str], form: prompts.Form, begun: str, tokenizer: Tokenizer
) -> Spellings:
    """For each label the token sequences that spell it after the plain text `begun`.

    A model that was trained on the short form writes a label exactly; any other may put a space before it or write
    its first letter large. A way of writing that two labels share is neither's, the exact one excepted.
    """
    forms = [[name] if form is prompts.Form.SHORT else _written(name) for name in names]
    texts = list(dict.fromkeys(text for written in forms for text in written))
    (start,) = await tokenizer.tokenize([begun], parse_special=False)
    joint = await tokenizer.tokenize([begun + text for text in texts], parse_special=False)
    alone = await tokenizer.tokenize(texts, parse_special=False)
    tokens = {
        text: after[len(start) :] if after[: len(start)] == start else by_itself
        for text, after, by_itself in zip(texts, joint, alone, strict=True)
    }
    owner = {tokens[name]: name for name in reversed(names)}
    for name, written in zip(names, forms, strict=True):
        for text in written:
            owner.setdefault(tokens[text], name)
    return tuple(
        tuple(dict.fromkeys(tokens[text] for text in written if owner[tokens[text]] == name))
        or (tokens[name],)
        for name, written in zip(names, forms, strict=True)
    )


def _written(name: str) -> list[str]:
    large = name[:1].upper() + name[1:]
    return list(dict.fromkeys((name, " " + name, large, " " + large)))


def _format_of(facts: ModelFacts, path: str) -> ChatFormat:
    """The model's chat format, from what the library says and, for the end token, the file."""
    try:
        eos = read_model_file(Path(path)).metadata.get("tokenizer.ggml.eos_token_id")
    except ModelError:
        eos = None  # removed since it was loaded
    bos = facts.bos if facts.bos >= 0 else None
    return ChatFormat(
        template=facts.template or None,
        bos=bos,
        eos=eos if isinstance(eos, int) else None,
        prefix=(bos,) if facts.add_bos and bos is not None else (),
    )


def _check_numbers(row: Probabilities) -> None:
    if not np.isfinite(row).all():
        raise EngineProtocolError("the model's probabilities are not numbers")


def _library_problem() -> ScorerUnavailable | None:
    try:
        check_version(importlib.metadata.version(LIBRARY))
    except ScorerUnavailable as error:
        return error
    return None


def _classification(request: ClassifyRequest, rows: Sequence[_Row]) -> Classification:
    """The rows as one value; a row without evidence is NaN."""
    probabilities = np.full((len(rows), len(request.task.labels)), np.nan)
    chosen = np.full(len(rows), -1, dtype=np.int64)
    for index, row in enumerate(rows):
        if row.probabilities is not None:
            probabilities[index] = row.probabilities
            chosen[index] = int(row.probabilities.argmax())
    return Classification(
        probabilities=probabilities,
        chosen=chosen,
        usages=tuple(Usage(row.tokens) for row in rows),
        failures={i: row.failure for i, row in enumerate(rows) if row.failure is not None},
        latencies_ms=tuple(row.latency_ms for row in rows),
    )
