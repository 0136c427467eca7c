"""`rung init`: a commented starting project, ready for `rung doctor` and `rung train`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from rung.errors import InputError
from rung.files import write_atomically
from rung.userfiles.document import shown_path

_FILES = {
    "rung.toml": "rung.toml",
    "tasks/triage.toml": "tasks/triage.toml",
    "suites/triage.jsonl": "suites/triage.jsonl",
    ".gitignore": "gitignore",
}
"""File of the project to its template. A `.gitignore` that is there already is left alone."""

_NEXT = """\
next      rung suite lint suites/triage.jsonl --task triage     what is wrong with examples, row by row
          rung train triage --on suites/triage.jsonl            a student, once the examples are yours
          rung calibrate triage --plan                          how many labelled rows a target needs
          rung doctor                                           what is missing, with one fix each"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def command(folder: Path) -> None:
    """Write a commented starting project into FOLDER (the current one when left out).

    Nothing that is there is overwritten: when a file is, nothing is written.
    """
    templates = resources.files("rung.cli") / "templates"
    ignored = (folder / ".gitignore").exists()
    wanted = {
        folder / name: template
        for name, template in _FILES.items()
        if not (ignored and name == ".gitignore")
    }
    there = [path for path in wanted if path.exists() or path.is_symlink()]
    if there:
        raise InputError(
            f"{', '.join(map(shown_path, there))}: already there; nothing was written",
            hint="rung init OTHER_FOLDER, or move the files away first",
        )
    for path, template in wanted.items():
        write_atomically(path, (templates / template).read_bytes())
    click.echo("\n".join(f"wrote     {shown_path(path)}" for path in wanted))
    if ignored:
        lines = (templates / "gitignore").read_text("utf-8").splitlines()[1:]
        click.echo(f"kept      .gitignore; it should have: {' '.join(lines)}")
    if folder.absolute() != Path.cwd():
        click.echo(f"go        cd {folder}")
    click.echo(_NEXT)
