"""What `rung run` tells of an answer: how many tokens, how fast, from which file."""

from __future__ import annotations

import msgspec

from rung.cli.modeltext import size
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.protocol import Finish, Generation
from rung.models.filetypes import file_type_name
from rung.models.header import Header
from rung.quantities import counted

LEAST_TIMED = 8
"""Tokens, and pieces of text, below which a rate says more of the clock than of the model."""
LEAST_S = 0.02
"""Seconds between the first piece and the end, likewise: pieces that waited together come at once."""


class Run(msgspec.Struct, frozen=True):
    """One answer and how it came about; what `--json` prints.

    Attributes:
        format: of this object.
        model: the file.
        text: the answer.
        finish: why it ended.
        tokens: of the answer.
        prompt_tokens: of the prompt as the model saw it.
        tokens_per_second: of generation, without the first token; None for answers too short to time.
        first_token_ms: from asking to the first token, loading not counted; None when there was none.
        load_ms: time until the model could be asked.
        bytes: size of the file.
        quantisation: its file type, such as `Q4_K_M`.
        parameters: weights of the model.
        context: tokens that prompt and answer may take together.
        threads: CPU threads.
        relaxed: parts of the schema that decoding did not enforce; the answer was held to them afterwards.
    """

    format: int
    model: str
    text: str
    finish: Finish
    tokens: int
    prompt_tokens: int
    tokens_per_second: float | None
    first_token_ms: float | None
    load_ms: float
    bytes: int
    quantisation: str
    parameters: int
    context: int
    threads: int
    relaxed: tuple[str, ...]


def measured(
    header: Header,
    parameters: ModelParameters,
    generation: Generation,
    times: tuple[float, float, float],
    pieces: int,
) -> Run:
    """The figures of an answer.

    Args:
        header: of the model's file.
        parameters: as it was loaded.
        generation: the answer.
        times: when it was asked for, when its first text came, and when it ended, in seconds.
        pieces: of text that came one by one.
    """
    started, first, ended = times
    tokens = generation.usage.output_tokens
    waited = generation.first_token_ms
    timed = min(tokens, pieces) >= LEAST_TIMED and ended - first >= LEAST_S
    return Run(
        format=1,
        model=str(header.path),
        text=generation.text,
        finish=generation.finish,
        tokens=tokens,
        prompt_tokens=generation.usage.input_tokens,
        tokens_per_second=(tokens - 1) / (ended - first) if timed else None,
        first_token_ms=waited,
        load_ms=max(0.0, (first - started) * 1000 - (waited or 0.0)),
        bytes=header.size,
        quantisation=file_type_name(header.number("general.file_type")),
        parameters=header.parameters,
        context=parameters.context,
        threads=parameters.threads,
        relaxed=generation.relaxed,
    )


def describe(run: Run) -> str:
    """The figures in one line."""
    speed = f"{run.tokens_per_second:,.1f} tok/s" if run.tokens_per_second else None
    first = f"first after {run.first_token_ms:,.0f} ms" if run.first_token_ms is not None else None
    parts = (
        counted(run.tokens, "token"),
        speed,
        first,
        counted(run.prompt_tokens, "prompt token"),
        f"{run.quantisation} {size(run.bytes)}",
        f"context {run.context:,}",
        f"loaded in {run.load_ms / 1000:.1f} s",
    )
    return " · ".join(part for part in parts if part)
