"""`rung schema`: the JSON Schema of a file a person writes, for editors that complete and check it."""

from __future__ import annotations

import click
import msgspec

from rung.userfiles.schemas import FileType, schema_of


@click.command()
@click.argument("file", type=click.Choice([file.value for file in FileType]))
def command(file: str) -> None:
    """Print the JSON Schema (draft 2020-12) of task files (`task`) or of rung.toml (`config`)."""
    encoded = msgspec.json.encode(schema_of(FileType(file)))
    click.echo(msgspec.json.format(encoded, indent=2))
