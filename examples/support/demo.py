"""The demo: two tasks climb student, local language model and review queue under a certified bound on their errors.

    make demo                                   from the project's folder
    python examples/support/demo.py --json      only the final JSON line

3,080 customer questions are sorted into 77 intents, and bookings are read from what 400 guests say. The true answers
are known, so the promise is checked. It starts from nothing every time: what an earlier run made (models, certificates,
ledger, out) is removed first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import suites
from telling import Routed, facts, told

from rung.batch.output import read_output
from rung.batch.runner import BatchJob, run_batch
from rung.blocking import run_blocking
from rung.calibration.certifying import certify_target
from rung.calibration.measuring import measure
from rung.calibration.run import HUMAN, Plan
from rung.cli.calibrate import describe as describe_certificate
from rung.cli.show import counter, stages
from rung.cli.train import describe as describe_training
from rung.errors import RungError
from rung.evals.report.charts import risk_coverage_svg
from rung.evals.report.model import ReportData
from rung.evals.report.page import render
from rung.evals.routed import Facts, report_data
from rung.files import write_atomically
from rung.ladder import Ladder
from rung.project import Project
from rung.review import ReviewStore, Status, export
from rung.suite import Suite, certifying_rows, load_suite, matches
from rung.task import Task
from rung.training import labelled_texts, train_student
from rung.trust.certificate import Certificate

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
CONFIG = HERE / "rung.toml"


class Chosen(NamedTuple):
    """One task of the demo: its suites, and the targets it is run at, the headline's first."""

    task: str
    suites: Callable[[Path], suites.Suites]
    targets: tuple[float, ...]


TASKS = (
    Chosen("triage", suites.triage, (0.05, 0.02)),
    Chosen("booking", suites.booking, (0.05,)),
)

NOTES = (
    "The test rows of both sets were not drawn together with the others, so the measured error here is a check of the"
    " promise, not a repetition of it; bench/guarantee.py repeats it.",
    "Costs on a frontier model are estimates from the length of the texts at the prices in rung.toml; nothing was"
    " sent anywhere.",
    "The built-in starter model was trained on other rows of these same sets: on your own texts it will be worse, and a"
    " model you bring better.",
)


def main() -> None:
    """Run the demo and print one JSON line last."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="print only the final JSON line")
    parser.add_argument(
        "--picture", type=Path, help="also write the first chart as SVG (the README's picture)"
    )
    options = parser.parse_args()
    say: Callable[[str], None] = (lambda text: None) if options.json else print
    try:
        print(json.dumps(demo(say, quiet=options.json, picture=options.picture)))
    except RungError as error:
        print(f"demo: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


def demo(say: Callable[[str], None], *, quiet: bool, picture: Path | None) -> dict[str, Any]:
    """Both tasks, one report; returns the final facts."""
    start_over()
    done = {chosen.task: climb(chosen, say, quiet=quiet) for chosen in TASKS}
    say(f"note      {NOTES[0]}")
    queue = write_review_queue([routed[0] for routed, _ in done.values()])
    say(f"review    {queue.relative_to(HERE.parents[1])}      the rows nothing was sure of")
    pages = [page for _, page in done.values()]
    report = OUT / "report.html"
    write_atomically(report, render(*pages).encode())
    if picture is not None:
        write_atomically(picture.resolve(), risk_coverage_svg(pages[0]).encode())
    say(f"report    {report.relative_to(HERE.parents[1])}")
    say(
        'next      cd examples/support && ../../.venv/bin/rung ask "my card was swallowed" --task triage'
    )
    each = {name: facts(routed) for name, (routed, _) in done.items()}
    return {"format": 1, **each[TASKS[0].task], "tasks": each}


def start_over() -> None:
    """Remove what an earlier run made."""
    for name in ("out", "models", "certificates"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    for path in HERE.glob("rung*.db*"):
        path.unlink()
    OUT.mkdir()


def climb(
    chosen: Chosen, say: Callable[[str], None], *, quiet: bool
) -> tuple[list[Routed], ReportData]:
    """Train, certify and route one task; returns what came out at each target, and its part of the report."""
    files = chosen.suites(OUT)
    project = Project.open(CONFIG)
    task = project.task(chosen.task)
    say(f"\n{task.name}: {' → '.join((*project.settings.ladders[task.ladder], 'review'))}")
    if files.fit is not None:
        fit = files.fit
        with stages(quiet=quiet) as stage:
            trained = train_student(
                project, task, lambda: labelled_texts(fit, task), stage=stage.begin
            )
            say(describe_training(trained, stage.seconds))
    with counter(quiet=quiet) as progress:
        plan = Plan(
            task=task,
            suite=certifying_rows(load_suite(files.calibration, task, for_="calibration")),
            truth=HUMAN,
            unlabelled=(),
            fit=load_suite(files.tune, task, for_="calibration"),
            progress=progress.advance,
        )
        certificates = run_blocking(certify(plan, chosen.targets))
    for certificate in certificates:
        say("\n".join(describe_certificate(certificate)))
    truth = load_suite(files.test, task, for_="test")
    routed = [run_blocking(route(task.name, files.test, truth, one)) for one in certificates]
    for one in routed:
        say(told(one))
    observed = run_blocking(observe(plan, truth, routed))
    return routed, report_of(project, task, routed, truth, observed)


async def certify(plan: Plan, targets: tuple[float, ...]) -> list[Certificate]:
    """The certificates at all targets, written where the ladder looks for them."""
    async with await Ladder.open(CONFIG) as ladder:
        measured = await measure(ladder, plan)
        today = datetime.now(UTC).date()
        return [
            certify_target(
                ladder.project, plan, measured, max_error=target, created=today
            ).certificate
            for target in targets
        ]


async def route(task: str, test: Path, truth: Suite, certificate: Certificate) -> Routed:
    """Run the test rows at one target and compare the answers with the truth."""
    target = certificate.max_error
    output = OUT / f"{task}-{target * 100:g}pct.jsonl"
    async with await Ladder.open(CONFIG, target=target) as ladder:
        summary = await run_batch(ladder, BatchJob(task, test, output))
    true = {example.id: example for example in truth.examples}
    wrong = sum(
        row.rung is not None and not matches(true[row.id], row.answer)
        for row in read_output(output)
    )
    return Routed(certificate, summary, output, wrong)


async def observe(plan: Plan, truth: Suite, routed: list[Routed]) -> dict[str, tuple[float, bool]]:
    """What the top rung would have said of the rows that were held back: for the report's curves, decided nothing."""
    held = {row.id for one in routed for row in read_output(one.output) if row.rung is None}
    rows = tuple(example for example in truth.examples if example.id in held)
    if not rows:
        return {}
    suite = Suite(truth.name, rows)
    async with await Ladder.open(CONFIG) as ladder:
        (seen,) = await measure(
            ladder,
            Plan(task=plan.task, suite=suite, truth=HUMAN, unlabelled=(), progress=lambda *_: None),
        )
    return {
        example.id: (float(score), not bool(wrong))
        for example, score, wrong in zip(rows, seen.scores[:, -1], seen.wrong[:, -1], strict=True)
        if score == score  # noqa: PLR0124 - a row without evidence has no place on a curve
    }


def write_review_queue(runs: list[Routed]) -> Path:
    """What the headline runs could not answer, for people."""
    settings = Project.open(CONFIG).settings
    store = ReviewStore.open(settings.ledger, root=settings.root)
    try:
        keys = tuple(routed.summary.run for routed in runs)
        items = [item for item in store.list(status=Status.OPEN) if item.key.startswith(keys)]
        path = OUT / "review.jsonl"
        write_atomically(path, b"".join(export(items)))
    finally:
        store.close()
    return path


def report_of(
    project: Project,
    task: Task,
    routed: list[Routed],
    truth: Suite,
    observed: dict[str, tuple[float, bool]],
) -> ReportData:
    """One task's part of the report."""
    runs = [
        Facts(
            summary=one.summary,
            target=one.certificate.max_error,
            certificate=one.certificate,
            rows=lambda output=one.output: read_output(output),
            truth=truth,
            observed=observed,
            texts=True,
        )
        for one in routed
    ]
    return report_data(
        project,
        task,
        runs,
        title="Customer questions and bookings, routed",
        notes=NOTES,
        again="make demo",
    )


if __name__ == "__main__":
    main()
