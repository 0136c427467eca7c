"""`rung train`: a student from labelled examples, with the calibrator that goes with it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from rung.cli.options import config_option, json_option
from rung.cli.show import stages
from rung.project import Project
from rung.quantities import counted, percent
from rung.training import Trained, labelled_texts, train_student


@click.command()
@click.argument("task")
@click.option(
    "--on",
    "suite",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled examples to learn from.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of everything random.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Processes for the out-of-fold scores; default one a core.",
)
@config_option
@json_option
def command(
    task: str, suite: Path, seed: int, processes: int | None, config: Path | None, as_json: bool
) -> None:
    """Train the student of TASK and its calibrator.

    The rows it learns from can never certify it; keep others for `rung calibrate`.
    """
    project = Project.open(config)
    found = project.task(task)
    with stages(quiet=as_json) as stage:
        trained = train_student(
            project,
            found,
            lambda: labelled_texts(suite, found),
            seed=seed,
            processes=processes,
            stage=stage.begin,
        )
    if as_json:
        click.echo(
            msgspec.json.encode(
                {"format": 1, "task": task, "seconds": stage.seconds} | _facts(trained)
            )
        )
        return
    click.echo(describe(trained, stage.seconds))
    click.echo(
        f"next      rung calibrate {task} --on SUITE      with rows that are not among these"
    )


def describe(trained: Trained, seconds: float) -> str:
    """What was trained, in two lines."""
    interval = f"{percent(trained.accuracy_low)}–{percent(trained.accuracy_high)}"
    return "\n".join(
        [
            f"student   trained on {counted(trained.examples, 'example')}, {counted(trained.labels, 'label')}"
            f"      {seconds:.1f} s with scoring out of fold   {trained.digest[:12]}",
            f"          {percent(trained.accuracy)} right ({interval}) on {counted(trained.scored)} it had not seen;"
            f" calibrator: {trained.calibrator}",
        ]
    )


def _facts(trained: Trained) -> dict[str, object]:
    facts = msgspec.structs.asdict(trained)
    return facts | {"folder": str(trained.folder)}
