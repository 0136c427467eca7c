"""`rung review`: what was not answered, listed or exported for people to look at."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from rung.cli.options import config_option, json_option
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
    """List or export what was not answered."""


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
    click.echo(f"{count:,} {what}{'item' if count == 1 else 'items'} for review")
    for item in items:
        click.echo(f"  {_line(item)}")
    if count > len(items):
        click.echo(f"  … {count - len(items):,} more")
    if items:
        click.echo("next      rung review export -o review.jsonl        rung ledger show RECEIPT")


@command.command("export")
@click.option(
    "-o", "--output", type=click.File("wb"), default="-", help="A file; without it, the terminal."
)
@task_option
@status_option
@config_option
def export_items(output: BinaryIO, task: str | None, status: str, config: Path | None) -> None:
    """Write items as JSONL, one a line."""
    store = _open(config)
    try:
        wanted = None if status == "any" else Status(status)
        for line in export(store.list(task=task, status=wanted)):
            output.write(line)
    finally:
        store.close()


def _open(config: Path | None) -> ReviewStore:
    settings = load_settings(config)
    return ReviewStore.open(settings.ledger, root=settings.root)


def _line(item: ReviewItem) -> str:
    text = f"   {_shortened(item.text)}" if item.text is not None else ""
    return f"{item.receipt}   {item.task}   {item.label}   {item.reason}{text}"


def _shortened(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
