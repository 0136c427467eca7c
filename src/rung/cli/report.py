"""`rung report`: a batch's output as one page that opens in any browser."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from rung.batch.output import read_output
from rung.cli.options import config_option, json_option, target_option
from rung.errors import InputError
from rung.evals.report.page import render
from rung.evals.routed import Facts, report_data
from rung.files import write_atomically
from rung.project import Project
from rung.quantities import counted, percent
from rung.suite import Suite, load_suite
from rung.trust.bounds import interval
from rung.trust.certificate import read_certificate

_file = click.Path(path_type=Path)


@click.command()
@click.argument("output", type=_file)
@click.option("--task", "task", required=True, help="Name of the task.")
@click.option(
    "--truth",
    type=_file,
    help="Known answers, by the rows' ids: a suite. Without it errors are not measured.",
)
@click.option("-o", "--page", type=_file, help="Where the page goes; default OUTPUT with .html.")
@click.option(
    "--texts", is_flag=True, help="Show texts of wrongly answered rows; their ids otherwise."
)
@target_option
@config_option
@json_option
def command(
    output: Path,
    task: str,
    truth: Path | None,
    page: Path | None,
    texts: bool,
    target: float | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Make a report of OUTPUT, a file that rung batch wrote.

    The page is self-contained: it can be mailed, printed, and read offline.
    """
    project = Project.open(config, target=target)
    found = project.task(task)
    bound = project.target(found)
    suite = load_suite(truth, found, for_="test") if truth is not None else None
    run = Facts(
        summary=None,
        target=bound,
        certificate=read_certificate(project.certificates, task, bound),
        rows=lambda: read_output(output),
        truth=suite,
        texts=texts,
    )
    again = f"rung report {output.name} --task {task}" + (f" --truth {truth.name}" if truth else "")
    data = report_data(project, found, [run], title=f"{task}: {output.name}", again=again)
    rows = data.targets[0].rows
    if suite is not None and not rows.known:
        raise InputError(
            f"no row of {output} has an id that stands in {truth}",
            hint="give both files the same id column",
        )
    where = page or output.with_suffix(".html")
    write_atomically(where, render(data).encode())
    low, high = interval(rows.wrong, rows.known_answered)
    error = rows.wrong / rows.known_answered if rows.known_answered else None
    if as_json:
        facts = {
            "format": 1,
            "rows": rows.rows,
            "answered": rows.answered,
            "known": rows.known_answered,
            "wrong": rows.wrong,
            "error": error,
            "error_low": float(low),
            "error_high": float(high),
            "page": str(where),
        }
        click.echo(msgspec.json.encode(facts))
        return
    click.echo(f"{counted(rows.rows)} · {rows.answered:,} answered")
    if error is not None:
        click.echo(
            f"wrong among {rows.known_answered:,} answered and known: {percent(error)}"
            f" ({percent(float(low))}–{percent(float(high))})"
        )
    if suite is not None:
        _say_how_matched(rows.rows - rows.known, suite)
    click.echo(f"report    {where}")


def _say_how_matched(unknown: int, suite: Suite) -> None:
    """What a reader must know of the match between rows and known answers."""
    if unknown:
        click.echo(f"          {counted(unknown)} without a known answer in {suite.name}")
    if all(example.id == f"row-{example.row}" for example in suite.examples):
        click.echo(
            f"          {suite.name} has no ids: rows were matched by their line, so it must be the file"
            " that was routed"
        )
