"""`rung review`: what was not answered, listed or exported for people to look at, and noted as done."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from rung.cli.options import config_option, json_option
from rung.errors import InputError
from rung.files import write_atomically
from rung.quantities import counted
from rung.review import ReviewItem, ReviewStore, Status, export
from rung.userfiles.settings import load_settings

task_option = click.option("--task", help="Only items of this task.")
status_option = click.option(
    "--status",
    type=click.Choice([*(status.value for status in Status), "any"]),
    default=Status.OPEN.value,
    show_default=True,
    help="Only items with this status.",
)


@click.group()
def command() -> None:
    """List or export what was not answered, and note what is done."""


@command.command("list")
@click.option("-n", "--last", "limit", default=20, show_default=True, help="Most items to print.")
@task_option
@status_option
@config_option
@json_option
def list_items(
    limit: int, task: str | None, status: str, config: Path | None, as_json: bool
) -> None:
    """Print the items that wait for a person, oldest first."""
    wanted = None if status == "any" else Status(status)
    store = _open(config)
    try:
        count = store.count(task=task, status=wanted)
        items = store.list(task=task, status=wanted, limit=limit)
    finally:
        store.close()
    if as_json:
        click.echo(msgspec.json.encode({"format": 1, "count": count, "items": items}))
        return
    what = "" if wanted is None else f"{wanted.value} "
    click.echo(f"{counted(count, f'{what}item')} for review")
    for item in items:
        click.echo(f"  {_line(item)}")
    if count > len(items):
        click.echo(f"  … {count - len(items):,} more")
    if items:
        click.echo(
            "next      rung review export -o review.jsonl      rung ledger show RECEIPT"
            "      rung review done KEY"
        )


@command.command("export")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    default=Path("-"),
    help="A file that only you may read; without it, the terminal.",
)
@task_option
@status_option
@config_option
def export_items(output: Path, task: str | None, status: str, config: Path | None) -> None:
    """Write items as JSONL, one a line."""
    store = _open(config)
    try:
        wanted = None if status == "any" else Status(status)
        lines = b"".join(export(store.list(task=task, status=wanted)))
    finally:
        store.close()
    if output == Path("-"):
        click.echo(lines, nl=False)
    else:
        write_atomically(output, lines, mode=0o600)


@command.command("done")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@config_option
@json_option
def close_items(keys: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Note that somebody has dealt with these items; `rung review list` prints their keys."""
    store = _open(config)
    try:
        unknown = store.missing(keys)
        if unknown:
            raise InputError(
                f"no item for review has the key {unknown[0]!r}; nothing was changed",
                hint="rung review list prints the keys",
            )
        closed, left = store.mark_done(keys), store.count()
    finally:
        store.close()
    if as_json:
        click.echo(msgspec.json.encode({"format": 1, "closed": closed, "open": left}))
    else:
        click.echo(f"{counted(closed, 'item')} closed · {left:,} still open")


def _open(config: Path | None) -> ReviewStore:
    settings = load_settings(config)
    return ReviewStore.open(settings.ledger, root=settings.root)


def _line(item: ReviewItem) -> str:
    text = f"   {_shortened(item.text)}" if item.text is not None else ""
    name = item.key if item.key == item.receipt else f"{item.key}   receipt {item.receipt}"
    return f"{name}   {item.task}   {item.label}   {item.reason}{text}"


def _shortened(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
