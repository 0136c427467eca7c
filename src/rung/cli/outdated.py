"""`rung outdated`: what publishers have now under the references that models were pinned by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from rung.blocking import run_blocking
from rung.cli.lockfile import chosen, lock_of, project_root
from rung.cli.options import config_option, json_option
from rung.cli.outdatedtext import describe, facts
from rung.errors import SourceError
from rung.models.lock.record import Artefact
from rung.models.lock.updates import State, Update, updates
from rung.models.sources.opening import Sources


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@config_option
@json_option
def command(names: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Ask the sources of pinned models what they have now, and say what changed: weights, chat template, tokenizer…

    Reads headers, never whole models, and changes nothing. Exits with 0 whatever it finds, with 3 when a source
    could not be asked.
    """
    artefacts = chosen(lock_of(project_root(config)), names)
    found = run_blocking(_asked(artefacts))
    click.echo(msgspec.json.encode(facts(found)) if as_json else describe(found))
    if any(each.state is State.UNREACHABLE or each.broken_off for each in found):
        raise SystemExit(SourceError.exit_code)


async def _asked(artefacts: Sequence[Artefact]) -> tuple[Update, ...]:
    # Another program's store would only say what it had when it last asked.
    async with Sources(stores=False) as sources:
        return await updates(artefacts, sources)
