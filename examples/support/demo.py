"""The demo: train, certify and route 3,080 real customer questions, then check the promise against their true answers.

    make demo                                   from the project's folder
    python examples/support/demo.py --json      only the final JSON line

It starts from nothing every time: what an earlier run made (models, certificates, ledger, out) is removed first.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rung.batch.output import read_output
from rung.batch.runner import BatchJob, run_batch
from rung.batch.summary import Summary
from rung.blocking import run_blocking
from rung.calibration.certifying import certify_target
from rung.calibration.measuring import Measured, measure
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
from rung.quantities import amount, percent
from rung.review import ReviewStore, Status, export
from rung.suite import Suite, certifying_rows, load_suite, matches
from rung.training import labelled_texts, train_student
from rung.trust.bounds import interval
from rung.trust.certificate import Certificate

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
CONFIG = HERE / "rung.toml"
TASK = "triage"
TARGETS = (0.05, 0.02)
"""The task's own target first: it is the headline."""

NOTES = (
    "BANKING77's test questions were not drawn together with its training questions, so the measured error here is a"
    " check of the promise, not a repetition of it; bench/guarantee.py repeats it.",
    "Costs on a frontier model are estimates from the length of the texts at the prices in rung.toml; nothing was"
    " sent anywhere.",
)


class Routed(NamedTuple):
    """The test questions at one target: what was promised, what came out, and how much of that was wrong."""

    certificate: Certificate
    summary: Summary
    output: Path
    wrong: int


def main() -> None:
    """Run the demo and print one JSON line last."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="print only the final JSON line")
    parser.add_argument(
        "--picture", type=Path, help="also write the first chart as SVG (the README's picture)"
    )
    options = parser.parse_args()
    quiet = options.json
    say: Callable[[str], None] = (lambda text: None) if quiet else print
    try:
        print(json.dumps(demo(say, quiet=quiet, picture=options.picture)))
    except RungError as error:
        print(f"demo: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


def demo(say: Callable[[str], None], *, quiet: bool, picture: Path | None) -> dict[str, Any]:
    """Every step in order; returns the final facts."""
    start_over()
    fit, calibration, test = prepare()
    project = Project.open(CONFIG)
    task = project.task(TASK)
    with stages(quiet=quiet) as stage:
        trained = train_student(project, task, lambda: labelled_texts(fit, task), stage=stage.begin)
        say(describe_training(trained, stage.seconds))
    truth = load_suite(test, task, for_="test")
    with counter(quiet=quiet) as progress:
        plan = Plan(
            task=task,
            suite=certifying_rows(load_suite(calibration, task, for_="calibration")),
            truth=HUMAN,
            unlabelled=(),
            progress=progress.advance,
        )
        certificates = run_blocking(certify(plan))
    for certificate in certificates:
        say("\n".join(describe_certificate(certificate)))
    routed = [run_blocking(route(test, truth, certificate)) for certificate in certificates]
    for one in routed:
        say(told(one))
    say(f"note      {NOTES[0]}")
    queue = write_review_queue(routed[0])
    say(f"review    {queue.relative_to(HERE.parents[1])}      the questions nothing was sure of")
    shown = report_of(project, routed, truth, run_blocking(observe(plan, truth)))
    report = OUT / "report.html"
    write_atomically(report, render(shown).encode())
    if picture is not None:
        write_atomically(picture.resolve(), risk_coverage_svg(shown).encode())
    say(f"report    {report.relative_to(HERE.parents[1])}")
    say(
        'next      cd examples/support && ../../.venv/bin/rung ask "my card was swallowed" --task triage'
    )
    return facts(routed)


def start_over() -> None:
    """Remove what an earlier run made."""
    for name in ("out", "models", "certificates"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    for path in HERE.glob("rung*.db*"):
        path.unlink()
    OUT.mkdir()


def prepare() -> tuple[Path, Path, Path]:
    """The three suites, from the data files and the shipped splits."""
    data = HERE / "data"
    splits = json.loads((data / "splits.json").read_text())
    train, test = read(data / "train.csv"), read(data / "test.csv")
    return (
        write("fit", train, splits["fit"]),
        write("calibration", train, splits["calibration"]),
        write("test", test, range(len(test))),
    )


def read(path: Path) -> list[tuple[str, str]]:
    """(text, label) pairs of a data file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def write(name: str, pairs: Sequence[tuple[str, str]], rows: Sequence[int]) -> Path:
    """A suite of the given rows."""
    path = OUT / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "input", "expected", "sampling"])
        writer.writerows([f"{name}-{row}", *pairs[row], "traffic"] for row in rows)
    return path


async def certify(plan: Plan) -> list[Certificate]:
    """The certificates at both targets, written where the ladder looks for them."""
    async with await Ladder.open(CONFIG) as ladder:
        measured = await measure(ladder, plan)
        today = datetime.now(UTC).date()
        return [
            certify_target(
                ladder.project, plan, measured, max_error=target, created=today
            ).certificate
            for target in TARGETS
        ]


async def route(test: Path, truth: Suite, certificate: Certificate) -> Routed:
    """Run the test questions at one target and compare the answers with the truth."""
    target = certificate.max_error
    output = OUT / f"answers-{target * 100:g}pct.jsonl"
    async with await Ladder.open(CONFIG, target=target) as ladder:
        summary = await run_batch(ladder, BatchJob(TASK, test, output))
    true = {example.id: example for example in truth.examples}
    wrong = sum(
        row.rung is not None and not matches(true[row.id], row.answer)
        for row in read_output(output)
    )
    return Routed(certificate, summary, output, wrong)


async def observe(plan: Plan, truth: Suite) -> Measured:
    """What the student would have said of every test question: for the report's curves, decided nothing."""
    async with await Ladder.open(CONFIG) as ladder:
        observing = Plan(
            task=plan.task, suite=truth, truth=HUMAN, unlabelled=(), progress=lambda *_: None
        )
        return (await measure(ladder, observing))[0]


def told(routed: Routed) -> str:
    """One routed run in the terminal."""
    summary, certificate = routed.summary, routed.certificate
    low, high = interval(routed.wrong, summary.answered)
    mean = summary.rungs[0].mean_ms or 0.0
    rate = f"{summary.rows_per_second:,.0f}/s" if summary.rows_per_second else ""
    held = held_back_cost(routed)
    frontier = (
        f"   (a frontier model would cost about {amount(held, summary.currency)})" if held else ""
    )
    return "\n".join(
        [
            f"route     {summary.rows:,} new questions at {percent(certificate.max_error)}      {rate}",
            f"          on this device   {summary.answered_on_device:>6,}  "
            f"{percent(summary.answered_on_device / summary.rows)}   {mean:.3f} ms each   $0.00",
            f"          needs more       {summary.abstained:>6,}  "
            f"{percent(summary.abstained / summary.rows)}{frontier}",
            f"          wrong among answered   {percent(routed.wrong / max(summary.answered, 1))} "
            f"({percent(float(low))}–{percent(float(high))})   certified: at most "
            f"{percent(certificate.max_error)}, {percent(certificate.confidence)} confidence",
        ]
    )


def held_back_cost(routed: Routed) -> int:
    """Estimated nano-units for the questions that were held back, on a frontier model."""
    return sum(row.top_cost or 0 for row in read_output(routed.output) if row.rung is None)


def write_review_queue(routed: Routed) -> Path:
    """What the headline run could not answer, for people."""
    settings = Project.open(CONFIG).settings
    store = ReviewStore.open(settings.ledger, root=settings.root)
    try:
        items = [
            item
            for item in store.list(status=Status.OPEN)
            if item.key.startswith(routed.summary.run)
        ]
        path = OUT / "review.jsonl"
        write_atomically(path, b"".join(export(items)))
    finally:
        store.close()
    return path


def report_of(
    project: Project, routed: Sequence[Routed], truth: Suite, seen: Measured
) -> ReportData:
    """Everything the report shows."""
    observed = {
        example.id: (float(score), not bool(wrong))
        for example, score, wrong in zip(
            truth.examples, seen.scores[:, 0], seen.wrong[:, 0], strict=True
        )
    }
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
        project.task(TASK),
        runs,
        title="Customer questions, routed",
        notes=NOTES,
        again="make demo",
    )


def facts(routed: Sequence[Routed]) -> dict[str, Any]:
    """The final JSON: the headline's facts on top, every target's under `targets`."""
    each = {f"{one.certificate.max_error:g}": fact(one) for one in routed}
    return {"format": 1, **fact(routed[0]), "targets": each}


def fact(routed: Routed) -> dict[str, Any]:
    """One target's facts."""
    summary, statement = routed.summary, routed.certificate.sets[0]
    low, high = interval(routed.wrong, summary.answered)
    return {
        "rows": summary.rows,
        "answered_on_device": summary.answered_on_device,
        "abstained": summary.abstained,
        "certified_error": routed.certificate.max_error if statement.certified else None,
        "confidence": routed.certificate.confidence,
        "measured_error": routed.wrong / summary.answered if summary.answered else None,
        "measured_error_low": float(low),
        "measured_error_high": float(high),
        "coverage": summary.answered / summary.rows,
        "certified_coverage": statement.coverage,
        "texts_per_second": summary.rows_per_second,
        "certificate": routed.certificate.id,
    }


if __name__ == "__main__":
    main()
