"""Parts that the scoring tests build with: a real child, prompts and labels of the tiny model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gguf_models import vocabulary
from rung.blocking import run_blocking
from rung.engines.llama_cpp.lease import Lease
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.scoring.client import ScoreReply, ScoringClient
from rung.engines.llama_cpp.scoring.wire import ScoreRequest
from rung.engines.llama_cpp.supervisor import Supervisor

T = TypeVar("T")

BEFORE = "<|im_start|>system\nclassify topic<|im_end|>\n<|im_start|>user\n"
AFTER = "<|im_end|>\n<|im_start|>assistant\n"


def parameters(path: Path, **changes: object) -> ModelParameters:
    """A model as these tests load it."""
    return ModelParameters(path=str(path), **{"context": 512, **changes})  # type: ignore[arg-type]


def with_child(
    model: ModelParameters,
    body: Callable[[ScoringClient, Supervisor, Lease], Awaitable[T]],
) -> T:
    """Run `body` with a scoring child of its own."""

    async def main() -> T:
        supervisor = Supervisor(model, Role.SCORER)
        try:
            async with supervisor.lease() as lease:
                client = ScoringClient(lease, epitaph=lambda: supervisor.epitaph(lease))
                return await body(client, supervisor, lease)
        finally:
            await supervisor.aclose()

    return asyncio.run(main())


class SharedChild:
    """A child that many tests use, on a loop that outlives them.

    Args:
        model: what it loads.
    """

    def __init__(self, model: ModelParameters) -> None:
        self._supervisor = Supervisor(model, Role.SCORER)
        self._stack = contextlib.AsyncExitStack()
        self._lease = run_blocking(self._stack.enter_async_context(self._supervisor.lease()))

    def run(self, body: Callable[[ScoringClient, Lease], Awaitable[T]]) -> T:
        """Run `body` with it."""

        async def main() -> T:
            client = ScoringClient(self._lease, epitaph=lambda: None)
            return await body(client, self._lease)

        return run_blocking(main())

    def close(self) -> None:
        """End it."""
        run_blocking(self._stack.aclose())
        run_blocking(self._supervisor.aclose())


async def request_for(
    client: ScoringClient,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    before: str = BEFORE,
    after: str = AFTER,
    adapter: str | None = None,
) -> ScoreRequest:
    """A request whose labels are spelled with and without a space before them, and asked about everywhere."""
    head, tail = await client.tokenize([before, after], parse_special=True)
    forms = [[name, f" {name}"] for name in labels]
    spelled = await client.tokenize([f for both in forms for f in both], parse_special=False)
    surfaces = tuple(
        (tuple(spelled[2 * index]), tuple(spelled[2 * index + 1])) for index in range(len(labels))
    )
    return ScoreRequest(tuple(head), tuple(texts), tuple(tail), surfaces, adapter, slack=0)


async def score(
    client: ScoringClient, texts: Sequence[str], labels: Sequence[str], **pieces: str | None
) -> ScoreReply:
    """The scores of some texts."""
    request = await request_for(client, texts, labels, **pieces)  # type: ignore[arg-type]
    return await client.score(request, timeout_s=60)


async def distribution(
    client: ScoringClient, prompt: Sequence[int], size: int
) -> npt.NDArray[np.float64]:
    """(vocabulary,) the model's own next-token probabilities after some tokens."""
    every = tuple(((token,),) for token in range(size))
    reply = await client.score(ScoreRequest(tuple(prompt), ("",), (), every), timeout_s=60)
    assert not reply.problems
    return reply.probabilities[0]


def tiny_mamba(path: Path, *, dim: int = 64) -> Path:
    """Write a random recurrent model: no memory by token, so no prefix that could be shared by token."""
    import gguf

    random = np.random.default_rng(0)
    inner, state, rank, kernel = 2 * dim, 16, dim // 16, 4
    tokens, types, joined = vocabulary(300)
    writer = gguf.GGUFWriter(path, "mamba")
    facts = {
        "context_length": 512,
        "embedding_length": dim,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "block_count": 1,
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }
    for key, value in facts.items():
        writer.add_uint32(f"mamba.{key}", value)
    writer.add_float32("mamba.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(joined)
    shapes = {
        "token_embd.weight": (len(tokens), dim),
        "output_norm.weight": (dim,),
        "blk.0.attn_norm.weight": (dim,),
        "blk.0.ssm_in.weight": (2 * inner, dim),
        "blk.0.ssm_conv1d.weight": (inner, kernel),
        "blk.0.ssm_conv1d.bias": (inner,),
        "blk.0.ssm_x.weight": (rank + 2 * state, inner),
        "blk.0.ssm_dt.weight": (inner, rank),
        "blk.0.ssm_dt.bias": (inner,),
        "blk.0.ssm_a": (inner, state),
        "blk.0.ssm_d": (inner,),
        "blk.0.ssm_out.weight": (dim, inner),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, -np.abs(random.standard_normal(shape)).astype(np.float32) * 0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
