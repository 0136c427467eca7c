"""The `llama_cpp` engine: the engine protocol over embedded models in supervised child processes.

Composes what its neighbours do: `serving` generates and embeds, `classifying` scores labels, `constraint` holds answers
to schemas. The processes belong to the fleet, which outlives any engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rung import prompts
from rung.config import Limits, Timeouts
from rung.engines.llama_cpp.classifying import Classifying
from rung.engines.llama_cpp.digests import PinnedFiles
from rung.engines.llama_cpp.fleet import Fleet
from rung.engines.llama_cpp.lease import ChildState
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.preflight import look_at
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.serving import Decoding, Serving, no_embeddings
from rung.engines.protocol import (
    Capabilities,
    Classification,
    ClassifyRequest,
    GenerateRequest,
    Generation,
    Health,
    State,
    Support,
)
from rung.errors import (
    EngineError,
    EngineProtocolError,
    EngineUnsupported,
    InternalError,
    ModelError,
)
from rung.models.hardware.memory import read_memory
from rung.models.lock.record import LockedFile
from rung.task import Kind, Task
from rung.text import text_digest

BUILD = "llama_cpp/1"
"""Names how this engine asks and reads. Part of the fingerprint: raised when answers could change."""

MICRO_BATCH = 32
"""Texts that are scored in one call: what one evaluation of the model takes together."""

_STATES = {
    ChildState.DOWN: State.READY,  # it starts at the first request
    ChildState.LOADING: State.COLD,
    ChildState.COLD: State.READY,
    ChildState.WARM: State.READY,
    ChildState.SATURATED: State.READY,
    ChildState.CRASHED: State.DOWN,
}


_LIBRARIES = ("xllamacpp", "llguidance", "minijinja")
"""What answers come out of: the model's arithmetic, what holds an answer to its form, what writes its prompt."""


class LlamaCppEngine:
    """An embedded model: the files that it met first, for as long as the engine lives.

    Args:
        fleet: owns the processes; is not closed with this engine.
        parameters: how the model is loaded.
        prompt: how prompts are written for it.
        adapter: name of the loaded adapter that applies unless a request names another; None for none.
        temperature: 0 for the most likely token each time.
        seed: of the dice at higher temperatures.
        timeouts: limits of one request; `connect` has no meaning here.
        limits: `context_tokens` can narrow the model's context.
        training_digests: gives the sorted `text_digest`s of the texts that the model was trained on; None where they
            are not known.
        pins: what the project's lock says of the model's files, by path; no others are loaded.
    """

    def __init__(
        self,
        fleet: Fleet,
        parameters: ModelParameters,
        *,
        prompt: prompts.Form = prompts.Form.BARE,
        adapter: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        training_digests: Callable[[], npt.NDArray[np.uint64]] | None = None,
        pins: Mapping[str, LockedFile] = {},
    ) -> None:
        self._parameters = parameters
        self._form = prompt
        self._decoding = Decoding(temperature, seed, adapter)
        self._server = fleet.supervisor(parameters, Role.SERVER)
        self._scorer = fleet.supervisor(parameters, Role.SCORER)
        self._training_digests = training_digests
        self._capabilities: Capabilities | None = None
        self._files = PinnedFiles(parameters, pins)
        self._serving = Serving(self._server, self._decoding, timeouts, limits, self._files)
        self._classifying = Classifying(
            self._scorer, self._serving, self._files, prompt, adapter, timeouts
        )

    @property
    def batch(self) -> int:
        """How many inputs `classify` likes at once."""
        return MICRO_BATCH

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Label probabilities for a micro-batch: a row sums to at most 1, the rest is "something else"."""
        return await self._classifying.classify(request)

    async def generate(self, request: GenerateRequest) -> Generation:
        """One generation, held to its schema or grammar while it is decoded.

        Raises:
            EngineError: the attempt failed; see `rung.errors` for the kinds.
        """
        async with contextlib.aclosing(self.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Generation):
                    return piece
        raise InternalError("an answer ended without its end")

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[str | Generation, None]:
        """The answer's text as it comes, and the whole `Generation` last; close the iterator to give it up.

        Raises:
            EngineError: the attempt failed.
        """
        async with contextlib.aclosing(self._serving.stream(request)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """(texts, dimensions) embeddings.

        Raises:
            EngineUnsupported: the model was loaded without pooling, or the rung has an adapter.
            EngineRefused: a text is longer than can be evaluated at once.
            EngineError: the attempt failed.
        """
        if self._parameters.pooling is None:
            raise no_embeddings(self._name)
        if self._decoding.adapter is not None:
            raise EngineUnsupported(
                f"{self._name}: embeddings are made without adapters, and this rung has "
                f"{self._decoding.adapter!r}",
                hint="embed with a rung that has no adapter",
            )
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        vectors = np.array(await self._serving.embed(texts), dtype=np.float32)
        if not np.isfinite(vectors).all():
            raise EngineProtocolError(f"{self._name} gave embeddings that are not numbers")
        return vectors

    async def health(self) -> Health:
        """How the model is: whether its file can be loaded, and how its processes are; loads nothing, never raises."""
        try:
            await asyncio.to_thread(look_at, self._parameters, read_memory)
        except ModelError as error:
            return Health(State.MISCONFIGURED, error.message, error.hint)
        try:
            self._files.expect()
        except EngineError as error:
            return Health(State.DOWN, error.message, error.hint)
        server, scorer = self._server.state, self._scorer.state
        state = min((_STATES[server], _STATES[scorer]), key=list(State).index)
        if ChildState.CRASHED in {server, scorer}:
            state = State.DOWN
        detail = f"{self._name}: generation {server}, label scoring {scorer}"
        if server is scorer is ChildState.DOWN:
            detail = f"{self._name} can be loaded; its process starts at the first request"
        if self._classifying.unavailable is not None:
            detail += f", through the server because {self._classifying.unavailable.message}"
        reason = self._server.reason or self._scorer.reason
        if state is State.DOWN and reason:
            detail += f": {reason}"
        return Health(state, detail)

    async def capabilities(self) -> Capabilities:
        """What the model does; probed on first use by loading it, unknown while that cannot be done."""
        embeds = self._parameters.pooling is not None and self._decoding.adapter is None
        if self._capabilities is None:
            try:
                await asyncio.to_thread(self._files.digests)
                scores = await self._classifying.settle()
                found = await self._serving.probe()
            except EngineError:
                unknown = Support.UNKNOWN
                return Capabilities(unknown, unknown, _support(embeds), unknown, unknown)
            by_server = self._classifying.unavailable is not None
            self._capabilities = Capabilities(
                classify=_support(found.logprobs if by_server else scores),
                generate=Support.YES,
                embed=_support(embeds),
                logprobs=_support(found.logprobs),
                json_schema=_support(found.schemas),
            )
        return self._capabilities

    async def evidence(self, task: Task) -> str:
        """What the confidence in an answer to `task` is made from; loads what the task needs and no more.

        Raises:
            EngineError: the model cannot be loaded or asked.
        """
        await asyncio.to_thread(self._files.digests)
        if task.kind is Kind.CLASSIFY:
            scores = await self._classifying.settle()
            if self._classifying.unavailable is None:
                return f"labels direct, probabilities {_support(scores).value}"
        found = await self._serving.probe()
        if task.kind is Kind.CLASSIFY:
            return f"labels server, probabilities {_support(found.logprobs).value}"
        held = "llguidance" if found.masks else "gbnf"
        return f"logprobs {_support(found.logprobs).value}, schema {_support(found.schemas).value} ({held})"

    def identity(self, task: Task) -> Mapping[str, str]:
        """Model and adapter by their digests, libraries, decoding, prompt, and all that changes a number.

        How labels are scored is known once `evidence` or `capabilities` was awaited, or a text was classified.

        Raises:
            EngineUnavailable: a file cannot be read, or is another one than this engine met first.
        """
        parameters = self._parameters
        digests = self._files.digests()
        names = [adapter.name for adapter in parameters.adapters]
        adapter = self._decoding.adapter
        return {
            "engine": BUILD,
            "library": ", ".join(
                f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES
            ),
            "model": digests.model,
            "adapter": digests.adapters[names.index(adapter)] if adapter in names else "",
            "context": str(self._serving.bounds.context),
            "batch_tokens": str(parameters.batch_tokens),
            "kv_type": parameters.kv_type.value,
            "flash_attention": parameters.flash_attention.value,
            "gpu_layers": str(parameters.gpu_layers),
            "labels": "direct" if self._classifying.unavailable is None else "server",
            "temperature": repr(self._decoding.temperature),
            "seed": str(self._decoding.seed),
            "max_output_tokens": str(task.max_output_tokens),
            "prompt_form": self._form.value,
            "prompt": prompts.prompt_digest(task),
        }

    def trained_on(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(texts,) whether each text, normalised, is known to have been a training row."""
        if self._training_digests is None:
            return np.zeros(len(texts), dtype=np.bool_)
        digests = np.fromiter((text_digest(text) for text in texts), np.uint64, len(texts))
        return np.isin(digests, self._training_digests())

    async def aclose(self) -> None:
        """Stop what runs beside requests; the processes stay the fleet's. Safe to call twice.

        Which files count and how labels are scored stays as it is: both are part of the identity.
        """
        await self._serving.aclose()
        self._capabilities = None

    @property
    def _name(self) -> str:
        return Path(self._parameters.path).name


def _support(found: bool) -> Support:
    return Support.YES if found else Support.NO
