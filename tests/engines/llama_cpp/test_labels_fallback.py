"""The server's log-probabilities give the scores that the C API gives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from supervised import parameters

from gguf_models import tiny_model
from rung.config import Limits, Timeouts
from rung.engines.llama_cpp.digests import PinnedFiles
from rung.engines.llama_cpp.labels import SLACK, LabelTrie
from rung.engines.llama_cpp.labels_fallback import NextTokens, server_label_probabilities
from rung.engines.llama_cpp.patience import Patience
from rung.engines.llama_cpp.role import Role
from rung.engines.llama_cpp.scoring.client import ScoringClient
from rung.engines.llama_cpp.scoring.wire import ScoreRequest
from rung.engines.llama_cpp.serving import Decoding, Serving
from rung.engines.llama_cpp.supervisor import Supervisor
from rung.engines.protocol import Probabilities

LABELS = ("card", "card lost", "card lost abroad", "cash", "transfer", "transfer fee", "other")
TEXTS = ("my card was declined", "where is my transfer?", "")


async def through_the_c_api(supervisor: Supervisor) -> tuple[ScoreRequest, Probabilities]:
    """The request, each label spelled with and without a space before it, and its scores."""
    async with supervisor.lease() as lease:
        client = ScoringClient(lease, epitaph=lambda: supervisor.epitaph(lease))
        before, after = await client.tokenize(
            ["<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"], parse_special=True
        )
        plain = await client.tokenize(LABELS, parse_special=False)
        spaced = await client.tokenize([f" {name}" for name in LABELS], parse_special=False)
        surfaces = tuple((tuple(a), tuple(b)) for a, b in zip(plain, spaced, strict=True))
        request = ScoreRequest(tuple(before), TEXTS, tuple(after), surfaces, slack=0)
        return request, (await client.score(request, timeout_s=30)).probabilities


async def through_the_server(supervisor: Supervisor, request: ScoreRequest) -> list[Probabilities]:
    """The same from the server, text by text."""
    timeouts = Timeouts()
    files = PinnedFiles(supervisor.parameters)
    serving = Serving(supervisor, Decoding(), timeouts, Limits(), files)
    deadline = serving.deadline()
    async with serving.open(deadline) as client:
        found = await serving.found(client, deadline)
        patience = Patience(timeouts, deadline)

        async def next_tokens(prompt: Sequence[int], count: int) -> Mapping[int, float]:
            return await serving.next_tokens(client, prompt, count, patience, found.letter)

        trie = LabelTrie(request.surfaces)
        texts = await client.tokenize(request.texts, parse_special=False)
        return [
            await server_label_probabilities(
                (*request.before, *text, *request.after),
                trie,
                found.ends,
                found.n_vocab,
                next_tokens,
                slack=0,
            )
            for text in texts
        ]


def test_both_ways_agree(tmp_path: Path) -> None:
    """Labels within labels, two spellings each: the same numbers but for float16 in other batches."""
    path = tiny_model(tmp_path / "tiny.gguf")

    async def main() -> tuple[Probabilities, list[Probabilities]]:
        scorer = Supervisor(parameters(path), Role.SCORER)
        server = Supervisor(parameters(path), Role.SERVER)
        try:
            request, direct = await through_the_c_api(scorer)
            return direct, await through_the_server(server, request)
        finally:
            await scorer.aclose()
            await server.aclose()

    direct, fallback = asyncio.run(main())
    np.testing.assert_allclose(direct, fallback, rtol=0.02, atol=1e-8)
    assert (direct.sum(axis=1) > 0).all()


def asked_of(tokens: Mapping[int, float], calls: list[int]) -> NextTokens:
    """A next-token function over a fixed distribution that notes how many tokens it is asked for."""

    async def next_tokens(prompt: Sequence[int], count: int) -> Mapping[int, float]:
        calls.append(count)
        return dict(sorted(tokens.items(), key=lambda item: -item[1])[:count])

    return next_tokens


@pytest.mark.parametrize(("rare", "counts"), [(1e-9, [64]), (4e-3, [64, 200])])
def test_the_whole_vocabulary_is_asked_for_only_where_it_matters(
    rare: float, counts: list[int]
) -> None:
    """A label's token that is not among the most likely ones is looked up, unless it is too rare to count."""
    distribution = {0: 1 - 199 * rare} | dict.fromkeys(range(1, 200), rare)
    calls: list[int] = []
    got = asyncio.run(
        server_label_probabilities(
            [7],
            LabelTrie([[(0,)], [(150, 5)]]),
            ends=(1,),
            n_vocab=200,
            next_tokens=asked_of(distribution, calls),
        )
    )
    assert calls == counts
    np.testing.assert_allclose(got, [distribution[0], rare], atol=SLACK)
