"""`rung doctor`: what is right and wrong with a project, one fix for each finding."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from rung.blocking import run_blocking
from rung.cli.options import config_option, json_option
from rung.doctor import Check, Level, examine

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


@click.command()
@config_option
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """Check settings, tasks, credentials, engines, pinned models, ledger and certificates; one fix for each finding.

    Exits with 2 when something is broken; what is only not done yet is a warning.
    """
    checks = run_blocking(examine(config))
    errors = sum(check.level is Level.ERROR for check in checks)
    warnings = sum(check.level is Level.WARNING for check in checks)
    if as_json:
        report = {"format": 1, "checks": checks, "errors": errors, "warnings": warnings}
        click.echo(msgspec.json.encode(report))
    else:
        click.echo("\n".join(_described(check) for check in checks))
        click.echo(f"\n{errors} broken, {warnings} not yet done or worth knowing")
    if errors:
        raise SystemExit(2)


def _described(check: Check) -> str:
    level = click.style(f"{check.level.value:<8}", fg=_COLOURS[check.level])
    line = f"{check.area:<13}{level}{check.detail}"
    return f"{line}\n{'':<21}fix: {check.fix}" if check.fix else line
