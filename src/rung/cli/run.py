"""`rung run`: one prompt to one model file on this machine, its answer as it comes, and how fast it came."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from rung.blocking import run_blocking
from rung.cli.fitopening import hub_reference
from rung.cli.lockfile import project_root
from rung.cli.modeltext import size
from rung.cli.options import json_option
from rung.cli.runtext import Run, describe, measured
from rung.config import STARTER, LoadSettings
from rung.engines.llama_cpp.digests import files_of
from rung.engines.llama_cpp.engine import LlamaCppEngine
from rung.engines.llama_cpp.fleet import Fleet
from rung.engines.llama_cpp.parameters import USUAL_CONTEXT, ModelParameters, parameters_of
from rung.engines.pins import Pins, is_reference
from rung.engines.protocol import Finish, GenerateRequest, Generation
from rung.errors import EngineProtocolError, EngineTruncated, InputError, InternalError, ModelError
from rung.models.fit.measured import Measurements
from rung.models.header import Header, read_header
from rung.models.lock.file import LOCK_NAME
from rung.models.reference import parse_reference
from rung.quantities import counted
from rung.task import Message

MOST_INPUT = 16 * 1024 * 1024
"""Longest prompt or schema read, in bytes; far more than any context holds."""

_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {
    127: 0x2421,
    **dict.fromkeys(range(128, 160), 0xFFFD),
}
"""What stands for control characters on a terminal, which would obey them."""


_STARTER_NOTE = (
    "note: the starter model labels short texts and fills records; it does not chat."
    " Try --schema, or a larger model"
)


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--system", help="What the model is told before the prompt.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1, max=2**31 - 1),
    default=512,
    show_default=True,
    help="Longest answer.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 10),
    default=0.0,
    show_default=True,
    help="0 for the likeliest token each time.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of the dice at higher temperatures.",
)
@click.option(
    "--schema",
    type=click.Path(path_type=Path),
    help="A JSON Schema that the answer is held to.",
)
@click.option(
    "--ctx",
    type=click.IntRange(min=16),
    help=f"Tokens of prompt and answer together; default {USUAL_CONTEXT}, or what the model was"
    " made for if that is less.",
)
@click.option("--threads", type=click.IntRange(1, 512), help="CPU threads; default one a core.")
@json_option
def command(
    model: str,
    prompt: str | None,
    system: str | None,
    max_tokens: int,
    temperature: float,
    seed: int,
    schema: Path | None,
    ctx: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Ask MODEL, a GGUF file, a pinned model or `starter`, and show its answer as it comes.

    PROMPT can be `-`, or be left out, to read it from standard input. The answer goes to standard output, the
    line of figures after it to standard error.
    """
    words = _prompt(prompt)
    form = _schema(schema)
    pins = Pins(project_root(None))
    header = read_header(_path(model, pins))
    load = LoadSettings(context=_context(header, ctx), slots=1, threads=threads)
    parameters = parameters_of(header.path, load, root=Path())
    turns = (("system", system), ("user", words))
    request = GenerateRequest(
        messages=tuple(Message(role, text) for role, text in turns if text is not None),
        max_tokens=max_tokens,
        schema=form,
    )
    show = _silence if as_json else _shower()
    if model == STARTER and form is None and not as_json:
        click.echo(_STARTER_NOTE, err=True)
    fleet = Fleet(measurements=Measurements())
    engine = LlamaCppEngine(
        fleet,
        parameters,
        temperature=temperature,
        seed=seed,
        pins=pins.files(files_of(parameters)),
    )
    run = run_blocking(_run(fleet, engine, header, parameters, request, show))
    if as_json:
        click.echo(msgspec.json.encode(run))
    else:
        _end(run)
    if form is not None:
        _check(run, form)


async def _run(
    fleet: Fleet,
    engine: LlamaCppEngine,
    header: Header,
    parameters: ModelParameters,
    request: GenerateRequest,
    show: Callable[[str], None],
) -> Run:
    """The answer, shown as it comes; the child is gone when this returns or is cancelled."""
    started = time.perf_counter()
    first: float | None = None
    came = 0
    try:
        async with contextlib.aclosing(engine.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Generation):
                    ended = time.perf_counter()
                    times = (started, first or ended, ended)
                    return measured(header, parameters, piece, times, came)
                first = first or time.perf_counter()
                came += 1
                show(piece)
    finally:
        await engine.aclose()
        await fleet.aclose()
    raise InternalError("an answer ended without its end")


def _prompt(given: str | None) -> str:
    """The prompt as it was typed or as standard input has it."""
    if given is None and sys.stdin.isatty():
        raise click.UsageError("there is no prompt: type one, or pipe it in")
    text = (
        given
        if given not in (None, "-")
        else _text(sys.stdin.buffer.read(MOST_INPUT + 1), "standard input")
    )
    if not text or not text.strip():
        raise InputError("the prompt is empty", hint='rung run MODEL "your prompt"')
    return text


def _schema(path: Path | None) -> str | None:
    """The schema as text, checked before a model is loaded for it."""
    if path is None:
        return None
    from rung.structured import plan

    try:
        with path.open("rb") as file:
            text = _text(file.read(MOST_INPUT + 1), str(path))
    except OSError as error:
        raise InputError(f"cannot read the schema {str(path)!r}: {error.strerror}") from error
    plan(text)
    return text


def _text(content: bytes, where: str) -> str:
    if len(content) > MOST_INPUT:
        raise InputError(f"{where} has more than {size(MOST_INPUT)}, more than any context holds")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where} is not UTF-8: byte {error.start:,} is 0x{content[error.start]:02x}",
            hint="convert it to UTF-8",
        ) from error


def _path(model: str, pins: Pins) -> Path:
    """The file of a model: one that is here, or the one that is pinned by this name or reference."""
    path = Path(model)
    if model == STARTER:
        from rung.starter import model_path

        return model_path()
    if path.exists():
        return path
    if (pinned := pins.named(model)) is not None:
        return pinned
    if is_reference(model):
        asked = str(parse_reference(model))  # without a query, which may be a key
        raise ModelError(f"{asked!r} is not pinned in {LOCK_NAME}", hint=f"rung pull {asked}")
    repository = hub_reference(model)
    pull = f"; to fetch it: rung pull {repository}" if repository else ""
    raise ModelError(
        f"there is no model file {model!r}",
        hint=f"name a GGUF file, a pinned model, or {STARTER!r} for the built-in model{pull}",
    )


def _context(header: Header, asked: int | None) -> int:
    """What was asked for, or what is useful without being asked; never more than the model was made for."""
    trained = header.number(f"{header.architecture}.context_length") or USUAL_CONTEXT
    if asked is not None and asked > trained:
        raise InputError(
            f"--ctx {asked} is more than the {trained:,} tokens that {str(header.path)!r} was made for",
            hint=f"--ctx {trained} is the most",
        )
    return asked or min(USUAL_CONTEXT, trained)


def _silence(piece: str) -> None:
    """Show nothing."""


def _shower() -> Callable[[str], None]:
    """Writes text as it comes; a terminal is not given control characters, a pipe gets every byte."""
    terminal = sys.stdout.isatty()

    def show(piece: str) -> None:
        sys.stdout.write(piece.translate(_PICTURES) if terminal else piece)
        sys.stdout.flush()

    return show


def _end(run: Run) -> None:
    """End the answer's line, then what should be known of it, then the figures."""
    if not run.text.endswith("\n"):
        click.echo()
    if run.relaxed:
        click.echo(f"not held while it was written: {', '.join(run.relaxed)}", err=True)
    if run.finish is Finish.LENGTH:
        click.echo(f"cut off after {counted(run.tokens, 'token')}", err=True)
    click.echo(describe(run), err=True)


def _check(run: Run, schema: str) -> None:
    """Hold the finished answer to the schema, what decoding enforced included.

    Raises:
        EngineTruncated: it was cut off before it was whole.
        EngineProtocolError: it breaks the schema.
    """
    if run.finish is Finish.LENGTH:
        raise EngineTruncated(
            f"the answer was cut off after {counted(run.tokens, 'token')}, before its JSON was whole",
            hint="raise --max-tokens, or --ctx where the context is full",
        )
    from rung.structured.validation import validator_of

    try:
        answer = msgspec.json.decode(run.text)
    except msgspec.DecodeError as error:
        raise EngineProtocolError(f"the answer is not JSON: {error}") from error
    broken = next(validator_of(msgspec.json.decode(schema)).iter_errors(answer), None)
    if broken is not None:
        place = "/".join(map(str, broken.instance_path)) or "the answer"
        raise EngineProtocolError(
            f"{place} does not match the schema ({'/'.join(map(str, broken.schema_path))})"
        )
