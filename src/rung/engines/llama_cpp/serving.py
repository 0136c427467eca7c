"""Text and embeddings from the SERVER child of one model: a slot, a prompt, a constraint, an answer as it comes.

What a start of the child is found able to do is found once for that start. Label probabilities are `classifying`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from rung.config import Limits, Timeouts
from rung.engines.llama_cpp import constraint
from rung.engines.llama_cpp.answer import Assembly
from rung.engines.llama_cpp.client import ServerClient
from rung.engines.llama_cpp.constraint import Constraint, constraint_of
from rung.engines.llama_cpp.digests import PinnedFiles
from rung.engines.llama_cpp.guard import (
    AdapterScale,
    Bounds,
    Completion,
    check_length,
    check_size,
)
from rung.engines.llama_cpp.lease import ChildState, Lease
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.patience import Deadline, Patience
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.engines.llama_cpp.template import PromptWriter, Tokens
from rung.engines.protocol import GenerateRequest, Generation
from rung.errors import (
    EngineCold,
    EngineError,
    EngineOverloaded,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    EngineUnsupported,
)
from rung.structured import vocabulary_fits

_ALTERNATIVES = 5
_PROBE_TOKENS = 64  # more than the probe's text has bytes
_EMBED_BATCH = 16
_ROUNDING = 0.01


class Found(msgspec.Struct, frozen=True):
    """What one start of the child was found to be.

    Attributes:
        generation: which start.
        writer: writes its prompts.
        n_vocab: tokens of its vocabulary.
        masks: whether llguidance holds its answers.
        schemas: whether answers are held to schemas, by llguidance or by GBNF.
        logprobs: whether probabilities of next tokens come back that are some.
        ends: tokens that end an answer.
        letter: a token that is a whole character.
    """

    generation: int
    writer: PromptWriter
    n_vocab: int
    masks: bool
    schemas: bool
    logprobs: bool
    ends: Tokens
    letter: int


class Decoding(msgspec.Struct, frozen=True):
    """How a rung decodes.

    Attributes:
        temperature: 0 for the most likely token each time.
        seed: of the dice.
        adapter: name of the adapter that applies unless a request names another.
    """

    temperature: float = 0.0
    seed: int = 0
    adapter: str | None = None


class Serving:
    """Generates with one model.

    Args:
        supervisor: of the model's SERVER child.
        decoding: the rung's.
        timeouts: the rung's.
        limits: the rung's; `context_tokens` can only narrow the model's context.
        files: those that answers may come from.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        decoding: Decoding,
        timeouts: Timeouts,
        limits: Limits,
        files: PinnedFiles,
    ) -> None:
        self._supervisor = supervisor
        self._files = files
        self._decoding = decoding
        self._timeouts = timeouts
        self._found: Found | None = None
        self._finding = asyncio.Lock()
        self._checks: dict[int, asyncio.Task[None]] = {}
        parameters = supervisor.parameters
        self.bounds = Bounds(
            context=int(min(parameters.context, limits.context_tokens or math.inf)),
            adapters=len(parameters.adapters),
        )

    @property
    def _parameters(self) -> ModelParameters:
        return self._supervisor.parameters

    def deadline(self, total_s: float | None = None) -> Deadline:
        """The clock of one call, from now on."""
        return Deadline(self._timeouts, total_s, Path(self._parameters.path).name)

    @contextlib.asynccontextmanager
    async def open(self, deadline: Deadline) -> AsyncIterator[ServerClient]:
        """A slot of the child.

        Raises:
            EngineError: there is no child in time, it is one of other files, or it died.
        """
        async with (
            slot(self._supervisor, self._files, deadline) as lease,
            ServerClient(self._supervisor, lease, self._timeouts) as client,
        ):
            try:
                yield client
            except EngineTimeout:
                self._look_after(lease)
                raise

    async def found(self, client: ServerClient, deadline: Deadline) -> Found:
        """What this start of the child is; found by whoever comes first.

        Raises:
            EngineError: the child does not answer, or not in time.
        """
        async with deadline.bounded(), self._finding:
            if self._found is None or self._found.generation != client.generation:
                self._found = await self._find_out(client, deadline)
            return self._found

    async def probe(self) -> Found:
        """What the model is found to be, loaded for that where it is not.

        Raises:
            EngineError: it cannot be loaded or asked.
        """
        deadline = self.deadline()
        async with self.open(deadline) as client:
            return await self.found(client, deadline)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[str | Generation, None]:
        """The answer's text as it comes, and the whole `Generation` last.

        Raises:
            EngineError: the attempt failed.
        """
        deadline = self.deadline(request.timeout_s)
        for message in request.messages:
            check_size(message.content, self.bounds.context)
        adapters = self.scales(request.adapter)
        async with deadline.bounded():  # refused before a model is loaded for it
            held = await constraint_of(request, masks=True)
        async with self.open(deadline) as client:
            found = await self.found(client, deadline)
            async with deadline.bounded():
                if not found.masks:
                    held = await constraint_of(request, masks=False)
                prompt = await found.writer.tokens(request.messages, client)
            completion = Completion(
                prompt=prompt,
                max_tokens=request.max_tokens,
                temperature=self._decoding.temperature,
                seed=self._decoding.seed,
                stop=request.stop,
                alternatives=_ALTERNATIVES if request.logprobs else 0,
                grammar=held.grammar,
                adapters=adapters,
            )
            patience = Patience(self._timeouts, deadline)
            answer = self._answer(client, completion, patience, held)
            async with contextlib.aclosing(answer) as pieces:
                async for piece in pieces:
                    yield piece

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """One vector a text.

        Raises:
            EngineRefused: a text is longer than can be evaluated at once.
            EngineError: the attempt failed.
        """
        deadline = self.deadline()
        vectors: list[tuple[float, ...]] = []
        most = min(self.bounds.context, self._parameters.batch_tokens) + 1
        for text in texts:
            check_size(text, most)
        for start in range(0, len(texts), _EMBED_BATCH):
            async with self.open(deadline) as client:
                async with deadline.bounded():
                    prompts = await client.tokenize(
                        texts[start : start + _EMBED_BATCH], parse_special=False, add_special=True
                    )
                for prompt in prompts:
                    check_length(len(prompt), most)
                if not all(prompts):
                    raise EngineRefused("an empty text has no embedding")
                vectors += await client.embed(prompts, Patience(self._timeouts, deadline))
        return vectors

    async def next_tokens(
        self,
        client: ServerClient,
        prompt: Sequence[int],
        count: int,
        patience: Patience,
        letter: int,
    ) -> Mapping[int, float]:
        """The most likely next tokens with their probabilities, before any sampling.

        Args:
            client: an open one.
            prompt: all tokens before.
            count: how many.
            patience: the clock of all that is asked for one text.
            letter: a token that is a whole character.

        Raises:
            EngineError: no answer.
        """
        completion = Completion(
            prompt=tuple(prompt),
            max_tokens=1,
            alternatives=count,
            adapters=self.scales(None),
            forced=letter,  # a token that ends inside a character would be left out
        )
        async with contextlib.aclosing(
            client.complete(completion, self.bounds, patience)
        ) as events:
            entries = [entry async for event in events for entry in event.completion_probabilities]
        return {
            other.id: math.exp(other.logprob)
            for entry in entries
            for other in entry.top_logprobs
            if other.logprob is not None
        }

    def scales(self, adapter: str | None) -> tuple[AdapterScale, ...]:
        """The scale of every loaded adapter when the named one applies, or the rung's own for None.

        Raises:
            EngineRefused: there is none of that name.
        """
        wanted = adapter or self._decoding.adapter
        names = [loaded.name for loaded in self._parameters.adapters]
        if wanted is not None and wanted not in names:
            raise EngineRefused(
                f"there is no adapter {wanted!r}", hint=f"loaded are: {', '.join(names) or 'none'}"
            )
        return tuple(
            AdapterScale(number, 1.0 if name == wanted else 0.0)
            for number, name in enumerate(names)
        )

    async def aclose(self) -> None:
        """Stop looking after children; the child itself is the fleet's. Safe to call twice."""
        checks = list(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    async def _answer(
        self, client: ServerClient, completion: Completion, patience: Patience, held: Constraint
    ) -> AsyncGenerator[str | Generation, None]:
        assembly = Assembly(client.name)
        first_ms: float | None = None
        async with contextlib.aclosing(
            client.complete(completion, self.bounds, patience)
        ) as events:
            async for event in events:
                text = assembly.take(event)
                if first_ms is None and event.tokens_predicted:
                    first_ms = patience.elapsed_ms
                if text:
                    yield text
        yield assembly.generation(first_token_ms=first_ms, relaxed=held.relaxed)

    async def _find_out(self, client: ServerClient, deadline: Deadline) -> Found:
        n_vocab = await client.vocabulary()
        (*_, letter) = (await client.tokenize(["a"], parse_special=False))[0]
        by_masks = constraint.probe()
        masks = vocabulary_fits(n_vocab) and await self._holds(client, by_masks, deadline)
        return Found(
            generation=client.generation,
            writer=PromptWriter(await client.chat_format()),
            n_vocab=n_vocab,
            masks=masks,
            schemas=masks or await self._holds(client, constraint.gbnf_probe(), deadline),
            logprobs=await self._tells(client, n_vocab, letter, deadline),
            ends=await client.ends(self.scales(None), self.bounds, deadline),
            letter=letter,
        )

    async def _holds(self, client: ServerClient, held: Constraint, deadline: Deadline) -> bool:
        """Whether an answer that is held to one text is that text."""
        (prompt,) = await client.tokenize(["Name a bird."], parse_special=False)
        completion = Completion(
            prompt=prompt[: self.bounds.context // 2],
            max_tokens=min(_PROBE_TOKENS, self.bounds.context - 1),
            grammar=held.grammar,
            adapters=self.scales(None),
        )
        text = ""
        try:
            patience = Patience(self._timeouts, deadline)
            async for piece in self._answer(client, completion, patience, held):
                text += piece if isinstance(piece, str) else ""
        except (EngineRefused, EngineUnavailable):
            return False  # a child that died says so to the next question
        return text == constraint.PROBE_TEXT

    async def _tells(
        self, client: ServerClient, n_vocab: int, letter: int, deadline: Deadline
    ) -> bool:
        """Whether the probabilities of all next tokens come back and are some."""
        patience = Patience(self._timeouts, deadline)
        chances = await self.next_tokens(client, (letter,), n_vocab, patience, letter)
        return len(chances) > 1 and abs(sum(chances.values()) - 1.0) < _ROUNDING

    def _look_after(self, lease: Lease) -> None:
        """After a limit passed: find out whether the child is slow or stuck, and end it when it is stuck."""
        if lease.generation not in self._checks:
            check = asyncio.create_task(self._end_if_stuck(lease))
            self._checks[lease.generation] = check
            check.add_done_callback(lambda _: self._checks.pop(lease.generation, None))

    async def _end_if_stuck(self, lease: Lease) -> None:
        with contextlib.suppress(EngineError):  # it is gone: nothing is stuck
            async with ServerClient(self._supervisor, lease, self._timeouts) as client:
                if not await client.turning():
                    limit = self._timeouts.between_tokens
                    await self._supervisor.kill(lease, f"it was stuck for {limit:g} s")


@contextlib.asynccontextmanager
async def slot(
    supervisor: Supervisor, files: PinnedFiles, deadline: Deadline
) -> AsyncIterator[Lease]:
    """A lease, waited for no longer than the call may take, of a child that has the right files.

    Raises:
        EngineCold: the model was not loaded in time; it goes on loading.
        EngineOverloaded: no slot became free in time.
        EngineUnavailable: the files were replaced, or are not those that the project pinned.
        EngineError: there is no child.
    """

    files.expect()
    async with contextlib.AsyncExitStack() as stack:
        async with deadline.bounded(too_late_for(supervisor)):
            await files.admit()
            lease = await stack.enter_async_context(supervisor.lease())
        files.check(supervisor.role, lease.generation)
        yield lease


def too_late_for(supervisor: Supervisor) -> Callable[[Deadline], EngineError]:
    """Makes the error of a call whose limit passed while it waited for a child or for its turn."""

    def late(deadline: Deadline) -> EngineError:
        waited = f"{deadline.who}: the total limit of {deadline.seconds:g} s passed while"
        if supervisor.state is ChildState.LOADING:
            return EngineCold(
                f"{waited} the model was loading",
                hint="ask again when it is loaded, or raise timeouts.total",
            )
        return EngineOverloaded(
            f"{waited} all its {supervisor.slots} slots were taken",
            hint="send fewer requests at once, or give the model more slots",
        )

    return late


def no_embeddings(name: str) -> EngineUnsupported:
    """The error for a model that was loaded without pooling."""
    return EngineUnsupported(
        f"{name} was loaded without pooling, so it does not embed",
        hint="set the rung's load.pooling to 'mean', 'last' or 'cls', as the model was trained",
    )
