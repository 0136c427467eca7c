"""`rung ledger`: what was recorded, shown, counted, exported, and checked for tampering."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click
import msgspec
import sqlalchemy as sa

from rung.cli.ledgertext import describe_receipt, describe_stats, describe_verified, list_receipts
from rung.cli.options import config_option, json_option
from rung.errors import InputError
from rung.ids import now
from rung.ledger.queries import Wanted, entries, find, heads, reading, recent
from rung.ledger.record import Head
from rung.ledger.stats import stats
from rung.ledger.verify import Progress, verify
from rung.receipt import Standing, Verdict
from rung.userfiles.settings import load_settings

task_option = click.option("--task", help="Only receipts of this task.")


class HeadsFile(msgspec.Struct, frozen=True):
    """Where every chain of a ledger ended at one moment, kept apart from the ledger."""

    created: str
    heads: tuple[Head, ...]
    format: int = 1


@click.group()
def command() -> None:
    """Verify, show, count or export what was recorded."""


@command.command("verify")
@click.option(
    "--heads",
    "heads_file",
    type=click.Path(path_type=Path),
    help="A file from `rung ledger export --heads`; what it names must still be there.",
)
@config_option
@json_option
def verify_ledger(heads_file: Path | None, config: Path | None, as_json: bool) -> None:
    """Check every record, every hash and every total.

    Exits with 1 when something is not as it was written.
    """
    expected = _read_heads(heads_file) if heads_file is not None else ()
    started = time.perf_counter()
    with _ledger(config) as connection, _progress(quiet=as_json) as progress:
        verified = verify(connection, heads=expected, progress=progress)
    seconds = time.perf_counter() - started
    if as_json:
        facts = {**msgspec.to_builtins(verified), "intact": verified.intact, "seconds": seconds}
        click.echo(msgspec.json.encode(facts))
    else:
        click.echo(describe_verified(verified, seconds, heads=len(expected)))
    if not verified.intact:
        raise SystemExit(1)


@command.command("show")
@click.argument("receipt", required=False)
@click.option("-n", "--last", "count", default=10, show_default=True, help="Most receipts to list.")
@task_option
@click.option("--rung", help="Only receipts with an attempt on this rung.")
@click.option(
    "--verdict", type=click.Choice([v.value for v in Verdict]), help="Only with such an attempt."
)
@click.option(
    "--standing", type=click.Choice([s.value for s in Standing]), help="Only with this standing."
)
@config_option
@json_option
def show(
    receipt: str | None,
    count: int,
    task: str | None,
    rung: str | None,
    verdict: str | None,
    standing: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Print the receipt whose id starts with RECEIPT, or list the latest."""
    wanted = Wanted(
        task=task,
        rung=rung,
        verdict=Verdict(verdict) if verdict else None,
        standing=Standing(standing) if standing else None,
    )
    with _ledger(config) as connection:
        if receipt is not None:
            shown = find(connection, receipt)
            click.echo(msgspec.json.encode(shown) if as_json else describe_receipt(shown))
            return
        latest = list(itertools.islice(recent(connection, wanted), count))
    if as_json:
        click.echo(msgspec.json.encode({"format": 1, "receipts": latest}))
    else:
        click.echo(list_receipts(latest))


@command.command("stats")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Only receipts of this day (UTC) or later, such as 2026-11-01.",
)
@task_option
@config_option
@json_option
def show_stats(
    since: datetime | None, task: str | None, config: Path | None, as_json: bool
) -> None:
    """Count receipts and attempts, and add up what they cost."""
    with _ledger(config) as connection:
        counted = stats(connection, since=since.date() if since else None, task=task)
    click.echo(msgspec.json.encode(counted) if as_json else describe_stats(counted))


@command.command("export")
@click.option(
    "-o", "--output", type=click.File("wb"), default="-", help="A file; without it, the terminal."
)
@click.option(
    "--heads",
    "heads_only",
    is_flag=True,
    help="Write where every chain ends now, for a later `verify --heads`.",
)
@config_option
def export(output: BinaryIO, heads_only: bool, config: Path | None) -> None:
    """Write receipts and egress decisions as JSONL, one a line."""
    with _ledger(config) as connection:
        if heads_only:
            output.write(msgspec.json.encode(HeadsFile(now(), heads(connection))) + b"\n")
            return
        encoder = msgspec.json.Encoder()
        for entry in entries(connection):
            output.write(encoder.encode(entry) + b"\n")


@contextlib.contextmanager
def _ledger(config: Path | None) -> Iterator[sa.Connection]:
    settings = load_settings(config)
    with reading(settings.ledger.url, root=settings.root) as connection:
        yield connection


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress | None]:
    """A bar on a terminal, nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verify", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _read_heads(path: Path) -> tuple[Head, ...]:
    hint = "write one with: rung ledger export --heads -o heads.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=HeadsFile).heads
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", hint=hint) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} is not a file of heads: {error}", hint=hint) from error
