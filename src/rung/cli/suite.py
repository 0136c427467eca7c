"""`rung suite`: what is wrong with a file of labelled examples, each finding with its row."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
import msgspec

from rung.cli.options import config_option, json_option
from rung.errors import SuiteError
from rung.quantities import counted
from rung.rows.lint import Findings, Scan, Severity
from rung.suite import Overlap, Purpose, Suite, overlap
from rung.task import Task
from rung.userfiles.settings import load_settings
from rung.userfiles.tasks import find_task

_file = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Check files of labelled examples."""


@command.command()
@click.argument("file", type=_file)
@click.option("--task", "name", help="Check inputs and answers against this task.")
@click.option(
    "--for", "purpose", type=click.Choice(get_args(Purpose)), help="What it is to be used for."
)
@click.option("--against", type=_file, help="Another suite that may share no text with it.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Findings to print; --json has them all.",
)
@config_option
@json_option
def lint(
    file: Path,
    name: str | None,
    purpose: Purpose | None,
    against: Path | None,
    limit: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """Report everything that is wrong with FILE, with row numbers.

    Exits with 2 when there are errors, or texts shared with --against.
    """
    task = find_task(load_settings(config), name) if name is not None else None
    scan = Scan(file, task, purpose)
    suite = Suite(file.name, tuple(scan))
    findings = scan.findings
    shared = overlap(suite, _readable(against)) if against is not None else ()
    if as_json:
        click.echo(msgspec.json.encode({"format": 1, "findings": findings, "overlap": shared}))
    else:
        click.echo(_described(findings, shared, against, task, limit))
    if findings.errors or shared:
        raise SystemExit(2)


def _readable(path: Path) -> Suite:
    """The examples of the other suite that can be read; what is wrong with the rest is for its own lint."""
    scan = Scan(path, None, None)
    examples = tuple(scan)
    if not examples:
        findings = scan.findings
        raise SuiteError(findings.sentence(findings.errors[0]))
    return Suite(path.name, examples)


def _described(
    findings: Findings,
    shared: tuple[Overlap, ...],
    against: Path | None,
    task: Task | None,
    limit: int,
) -> str:
    lines = [
        f"{'error  ' if finding.severity is Severity.ERROR else 'warning'}  "
        f"{findings.sentence(finding)}"
        for finding in findings.items
    ]
    lines += [
        f"error    {findings.path}:{pair.row}: the same text as row {pair.other} of {against}"
        for pair in shared
    ]
    if len(lines) > limit:
        lines = [*lines[:limit], f"and {len(lines) - limit} more (--limit, --json)"]
    errors, warnings = len(findings.errors) + len(shared), len(findings.warnings)
    checked = f" for task {task.name!r}" if task is not None else ""
    lines.append(
        f"{counted(findings.rows)}{checked}: {counted(errors, 'error')},"
        f" {counted(warnings, 'warning')}"
    )
    if findings.renamed:
        renamed = ", ".join(f"{name} → {column}" for name, column in findings.renamed.items())
        lines.append(f"columns read as: {renamed}")
    return "\n".join(lines)
