"""Label probabilities of one model: the scoring child where it can be used, the server's log-probabilities otherwise.

Both are given the same prompt around the text and the same spellings of the labels, so that their numbers agree. How
the numbers are made is `scoring`'s and `labels_fallback`'s.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib.metadata
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from rung import prompts
from rung.config import Timeouts
from rung.engines.llama_cpp.client import ServerClient
from rung.engines.llama_cpp.digests import PinnedFiles
from rung.engines.llama_cpp.guard import check_length, check_size
from rung.engines.llama_cpp.labels import LabelTrie
from rung.engines.llama_cpp.labels_fallback import server_label_probabilities
from rung.engines.llama_cpp.lease import Lease
from rung.engines.llama_cpp.model_file import read_model_file
from rung.engines.llama_cpp.patience import Deadline, Patience
from rung.engines.llama_cpp.scoring.availability import LIBRARY, ScorerUnavailable, check_version
from rung.engines.llama_cpp.scoring.client import ScoringClient
from rung.engines.llama_cpp.scoring.wire import ModelFacts, ScoreRequest
from rung.engines.llama_cpp.serving import Found, Serving, slot, too_late_for
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

_KEPT_TASKS = 64
_PROBE = ("Is it a or b?", " a", " b")


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


class Classifying:
    """Scores labels with one model, all of them the same way: which it is was found out before the first.

    Args:
        scorer: supervisor of the model's SCORER child.
        serving: generates with the same model; its child is started only when the scorer cannot be used.
        files: those that answers may come from.
        form: how prompts are written.
        adapter: name of the adapter that applies, None for none.
        timeouts: the rung's.
    """

    def __init__(
        self,
        scorer: Supervisor,
        serving: Serving,
        files: PinnedFiles,
        form: prompts.Form,
        adapter: str | None,
        timeouts: Timeouts,
    ) -> None:
        self._scorer = scorer
        self._serving = serving
        self._context = serving.bounds.context
        self._direct = _Direct(scorer, files, form, adapter, self._context)
        self._server = _ByServer(serving, form, timeouts)
        self._refused: ScorerUnavailable | None = _library_problem()
        self._tells: bool | None = None
        self._settling = asyncio.Lock()

    @property
    def unavailable(self) -> ScorerUnavailable | None:
        """Why labels are not scored through the C API; None while they are, or nothing is known against it."""
        return self._refused

    async def settle(self, deadline: Deadline | None = None) -> bool:
        """Find out, once, which way labels are scored; from then on it stays that way.

        Args:
            deadline: of the call that needs to know; None for a call of its own.

        Returns:
            Whether the scorer gave probabilities that are some; False where labels are scored through the server.

        Raises:
            EngineError: the model cannot be loaded or asked.
        """
        deadline = deadline or self._serving.deadline()
        async with contextlib.AsyncExitStack() as stack:
            async with deadline.bounded(too_late_for(self._scorer)):
                await stack.enter_async_context(self._settling)
            if self._tells is None and self._refused is None:
                try:
                    self._tells = await self._direct.probe(deadline)
                except ScorerUnavailable as error:
                    self._refused = error
        return self._refused is None and bool(self._tells)

    async def classify(self, request: ClassifyRequest) -> Classification:
        """A row a text; what ended a text's attempt is in `failures`."""
        rows: dict[int, _Row] = {}
        for index, text in enumerate(request.texts):
            try:
                check_size(text, self._context)
            except EngineRefused as error:
                rows[index] = _Row(failure=error)
        fit = [index for index in range(len(request.texts)) if index not in rows]
        if fit:
            texts = tuple(request.texts[index] for index in fit)
            rows |= zip(fit, await self._scored(request, texts), strict=True)
        return _classification(request, [rows[index] for index in range(len(request.texts))])

    async def _scored(self, request: ClassifyRequest, texts: tuple[str, ...]) -> list[_Row]:
        started = time.perf_counter()
        deadline = self._serving.deadline(request.timeout_s)
        try:
            await self.settle(deadline)
            way = self._direct if self._refused is None else self._server
            return await way.rows(request.task, texts, deadline)
        except EngineError as error:
            share_ms = (time.perf_counter() - started) * 1000 / len(texts)
            return [_Row(failure=error, latency_ms=share_ms)] * len(texts)


class _Direct:
    """Through the scoring child: the fixed part of the prompt once, many texts in one evaluation."""

    def __init__(
        self,
        scorer: Supervisor,
        files: PinnedFiles,
        form: prompts.Form,
        adapter: str | None,
        context: int,
    ) -> None:
        self._scorer = scorer
        self._files = files
        self._form = form
        self._adapter = adapter
        self._context = context
        self._writer: tuple[int, PromptWriter] | None = None
        self._asked: collections.OrderedDict[str, _Asked] = collections.OrderedDict()

    async def probe(self, deadline: Deadline) -> bool:
        """Score something, and say whether it gave probabilities.

        Raises:
            ScorerUnavailable: this model's labels cannot be scored here.
            EngineError: no answer.
        """
        async with slot(self._scorer, self._files, deadline) as lease:
            client = self._client(lease)
            async with deadline.bounded():
                before, *labels = await client.tokenize(_PROBE, parse_special=False)
                surfaces = tuple((tuple(label),) for label in labels)
                asked = ScoreRequest(tuple(before), ("",), (), surfaces, self._adapter)
                reply = await client.score(asked, timeout_s=deadline.left_s)
        row = reply.probabilities[0]
        return not reply.problems and bool(np.isfinite(row).all()) and 0 < row.sum() <= 1

    async def rows(self, task: Task, texts: tuple[str, ...], deadline: Deadline) -> list[_Row]:
        """A row a text.

        Raises:
            EngineError: none could be scored.
        """
        async with slot(self._scorer, self._files, deadline) as lease:
            client = self._client(lease)
            async with deadline.bounded():
                asked = await self._asked_of(task, lease, client, _ScorerTokenizer(client))
            frame = asked.frame
            marked = {
                index: _marked(marker)
                for index, text in enumerate(texts)
                for marker in frame.markers
                if marker in text
            }
            started = time.perf_counter()
            reply = await client.score(
                ScoreRequest(
                    before=frame.before,
                    texts=tuple(
                        frame.lead + ("" if index in marked else text) + frame.tail
                        for index, text in enumerate(texts)
                    ),
                    after=frame.after,
                    surfaces=asked.spellings,
                    adapter=self._adapter,
                ),
                timeout_s=deadline.left_s,
            )
        share_ms = (time.perf_counter() - started) * 1000 / len(texts)
        return [
            marked.get(index) or self._row(row, tokens, reply.problems.get(index), share_ms)
            for index, (row, tokens) in enumerate(
                zip(reply.probabilities, reply.prompt_tokens, strict=True)
            )
        ]

    def _client(self, lease: Lease) -> ScoringClient:
        return ScoringClient(lease, epitaph=lambda: self._scorer.epitaph(lease))

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
            facts = await client.model_facts()
            format = await asyncio.to_thread(_format_of, facts, self._scorer.parameters.path)
            self._writer = lease.generation, PromptWriter(format)
            self._asked.clear()
        if task.digest not in self._asked:
            self._asked[task.digest] = await _ask(task, self._form, self._writer[1], tokenizer)
            if len(self._asked) > _KEPT_TASKS:
                self._asked.popitem(last=False)
        return self._asked[task.digest]


class _ByServer:
    """Through the server, one prompt at a time; its prefix cache is what is shared."""

    def __init__(self, serving: Serving, form: prompts.Form, timeouts: Timeouts) -> None:
        self._serving = serving
        self._form = form
        self._timeouts = timeouts

    async def rows(self, task: Task, texts: tuple[str, ...], deadline: Deadline) -> list[_Row]:
        """A row a text; what ends the work fails those that are left.

        Raises:
            EngineError: none could be scored.
        """
        rows: list[_Row] = []
        try:
            async with self._serving.open(deadline) as client:
                found = await self._serving.found(client, deadline)
                async with deadline.bounded():
                    asked = await _ask(task, self._form, found.writer, client)
                trie = LabelTrie(asked.spellings)
                for text in texts:
                    patience = Patience(self._timeouts, deadline)
                    rows.append(await self._row(client, found, task, text, trie, patience))
        except EngineError as error:
            if not rows:
                raise
            rows += [_Row(failure=error)] * (len(texts) - len(rows))
        return rows

    async def _row(
        self,
        client: ServerClient,
        found: Found,
        task: Task,
        text: str,
        trie: LabelTrie,
        patience: Patience,
    ) -> _Row:
        async def next_tokens(prompt: Sequence[int], count: int) -> dict[int, float]:
            ask = self._serving.next_tokens(client, prompt, count, patience, found.letter)
            return dict(await ask)

        messages = prompts.messages(task, Text(text), form=self._form)
        try:
            prompt = await patience.wait(found.writer.tokens(messages, client))
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


def _marked(marker: str) -> _Row:
    """The row of a text that spells what shapes a conversation even where it is read as plain text."""
    return _Row(
        failure=EngineRefused(
            f"the text holds {marker!r}, which is one token of this model and shapes its conversations",
            hint="take it out of the text, or let another rung answer",
        )
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
