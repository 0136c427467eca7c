"""`rung pull`: fetch a model, checked and pinned, or bring back every model that is pinned."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
import msgspec

from rung.blocking import run_blocking
from rung.cli.lockfile import project_root
from rung.cli.options import Tokens, config_option, json_option
from rung.cli.pullshow import Show
from rung.cli.pulltext import (
    facts,
    pinned_lines,
    removed_facts,
    removed_line,
    restored_facts,
    restored_line,
    warnings,
)
from rung.config import STARTER
from rung.engines.llama_cpp.build import engine_build
from rung.errors import GateError
from rung.models.fit.measured import Measurements
from rung.models.hardware.detection import this_machine
from rung.models.lock.file import LOCK_NAME
from rung.models.lock.record import Artefact
from rung.models.pull.fitting import Fitting
from rung.models.pull.leftovers import remove_all
from rung.models.pull.plan import FOLDER
from rung.models.pull.pulling import Pulled, pull
from rung.models.pull.restoring import Restored, pinned, pinned_by, restore, source_now
from rung.models.reference import Reference, names_source, parse_reference
from rung.models.sources.opening import Sources


@click.command()
@click.argument("reference", metavar="[MODEL]", required=False)
@click.option(
    "--frozen",
    is_flag=True,
    help="Give what is pinned in rung.lock, as it is pinned, and refuse what is not pinned.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Fetch what does not fit, and replace files and pins that are in the way.",
)
@click.option(
    "--with",
    "extra",
    metavar="FILE",
    help="A projector of the same repository to fetch, too, such as mmproj-F16.gguf.",
)
@click.option(
    "--ctx",
    type=Tokens(),
    help="Tokens of prompt and answer that it must fit with, such as 8192 or 32k; default 4k.",
)
@click.option(
    "--into",
    metavar="FOLDER",
    help="A folder below models for its files, where another model has a file of that name.",
)
@click.option(
    "--clean",
    is_flag=True,
    help="Remove what interrupted downloads left, and fetch nothing.",
)
@config_option
@json_option
def command(
    reference: str | None,
    frozen: bool,
    force: bool,
    extra: str | None,
    ctx: int | None,
    into: str | None,
    clean: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Fetch MODEL into the project's folder `models` and pin it in rung.lock.

    MODEL is hf:owner/repo:Q4_K_M, ollama:name:tag, https://host/model.gguf, lmstudio:publisher/repo or a file. It is
    visible when it is whole, has the publisher's digest and was scanned; files of other programs on this machine are
    linked, not copied. An interrupted download goes on where it was. Without MODEL, everything that is pinned and is
    missing or changed is fetched again as it was pinned; of one pinned model, its name or path as MODEL does so.
    """
    root = project_root(config)
    chosen = force or extra or ctx or into
    if clean:
        if reference or frozen or chosen:
            raise click.UsageError("--clean goes alone")
        removed = remove_all(root / FOLDER)
        click.echo(
            msgspec.json.encode(removed_facts(removed)) if as_json else removed_line(removed)
        )
        return
    if reference is None:
        if chosen:
            raise click.UsageError(
                "--force, --with, --ctx and --into need the MODEL that they are for"
            )
        _restore(pinned(root), root, as_json)
        return
    if frozen and chosen:
        raise click.UsageError("--frozen gives what is pinned: it goes with MODEL alone")
    if reference == STARTER:
        said = "the starter comes with Rung: there is nothing to fetch"
        click.echo(msgspec.json.encode(restored_facts(())) if as_json else said)
        return
    asked = _asked(reference, root, frozen=frozen, force=force)
    if isinstance(asked, Artefact):
        _restore((asked,), root, as_json)
        return
    with _stoppable(), Show(str(asked), quiet=as_json) as show:
        fit = Fitting(this_machine(), context=ctx, force=force, reserve=_reserve())
        done = run_blocking(_pull(asked, root, fit, show, force=force, projector=extra, into=into))
    for line in warnings(done):
        click.echo(f"warning: {line}", err=True)
    click.echo(msgspec.json.encode(facts(done)) if as_json else pinned_lines(done, root))


def _asked(text: str, root: Path, *, frozen: bool, force: bool) -> Artefact | Reference:
    """What is to come back as it is pinned, or else what is to be fetched.

    Raises:
        GateError: `frozen`, and it is not pinned.
        InputError: it is neither pinned nor the name of a model.
    """
    found = pinned_by(text, root)
    if not frozen:
        if found is None or names_source(text):
            return parse_reference(text)
        return source_now(found, root) if force else found
    asked = str(parse_reference(text)) if found is None else text  # never with its query
    found = found or pinned_by(asked, root)
    if found is None:
        raise GateError(
            f"{asked} is not in {LOCK_NAME}", hint="leave out --frozen to fetch and pin it"
        )
    return found


def _reserve() -> int | None:
    """Bytes that a process of the embedded engine takes here, where that was measured."""
    engine = engine_build()
    return Measurements().process_reserve(engine) if engine is not None else None


async def _pull(
    reference: Reference,
    root: Path,
    fit: Fitting,
    show: Show,
    *,
    force: bool,
    projector: str | None,
    into: str | None,
) -> Pulled:
    async with Sources() as sources:
        return await pull(
            reference,
            root,
            sources,
            fit=fit,
            tell=show.tell,
            force=force,
            projector=projector,
            into=into,
        )


def _restore(artefacts: Sequence[Artefact], root: Path, as_json: bool) -> None:
    done: list[Restored] = []
    for artefact in artefacts:
        with _stoppable(), Show(artefact.name, quiet=as_json) as show:
            done.append(run_blocking(_bring_back(artefact, root, show)))
        if not as_json:
            click.echo(restored_line(done[-1]))
    if as_json:
        click.echo(msgspec.json.encode(restored_facts(done)))


async def _bring_back(artefact: Artefact, root: Path, show: Show) -> Restored:
    async with Sources() as sources:
        return await restore(artefact, root, sources, show.tell)


class _StoppedError(KeyboardInterrupt):
    """A person or the system asks to stop; a `KeyboardInterrupt`, so that what runs is cancelled and cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM unwind, and say what is left."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _StoppedError(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _StoppedError as stopped:
        click.echo(
            "rung: stopped; what has come is kept and nothing unfinished is visible", err=True
        )
        click.echo("hint: the same command goes on from there", err=True)
        sys.exit(128 + stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
