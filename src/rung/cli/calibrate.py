"""`rung calibrate`: certificates from labelled rows, and how many rows they take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from rung.blocking import run_blocking
from rung.calibration.certifying import Calibrated, certify_target
from rung.calibration.measuring import Measured, measure
from rung.calibration.run import HUMAN, Plan
from rung.cli.options import Share, config_option, json_option
from rung.cli.show import counter
from rung.config import Accept
from rung.costs import CostEstimate
from rung.errors import EvidenceError, GateError, RungError, UserError
from rung.ladder import Ladder
from rung.project import Project
from rung.quantities import amount, percent
from rung.suite import certifying_rows, iter_unlabelled, load_suite
from rung.task import RECORD_KINDS, Task
from rung.trust import plan as planning
from rung.trust.bounds import attempt_delta
from rung.trust.certificate import Certificate, CertifiedSet
from rung.trust.certification import Certification

USUAL_COVERAGE = 0.8
"""Share of rows expected to be accepted, where nothing better is known."""

_file = click.Path(path_type=Path)


@click.command()
@click.argument("task")
@click.option("--on", "suite", type=_file, help="Labelled rows that nothing was trained on.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=Share(),
    help="Largest share of wrong answers, such as 2%; may be repeated. Default: the task's own.",
)
@click.option(
    "--unlabelled",
    type=_file,
    help="Recent traffic: fixes the thresholds to try, and fits missing calibrators on agreement"
    " with the rung above.",
)
@click.option(
    "--fit",
    "fitting",
    type=_file,
    help="Other labelled rows, that nothing was trained on: they fit missing calibrators.",
)
@click.option("--truth", default=HUMAN, show_default=True, help="human, or agreement:RUNG.")
@click.option("--plan", "plan_only", is_flag=True, help="Only say how many labelled rows it takes.")
@click.option(
    "--coverage", type=Share(), default="80%", help="For --plan: share expected to be accepted."
)
@click.option(
    "--expected-error",
    type=Share(),
    help="For --plan: error expected among accepted; default half the target.",
)
@click.option("--yes", is_flag=True, help="Do not ask before spending money.")
@config_option
@json_option
def command(
    task: str,
    suite: Path | None,
    targets: tuple[float, ...],
    unlabelled: Path | None,
    fitting: Path | None,
    truth: str,
    plan_only: bool,
    coverage: float,
    expected_error: float | None,
    yes: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Certify the rungs of TASK: at most so many of their accepted answers are wrong.

    Exits with 0 when every target was certified, 4 when more labelled rows would probably do, 1 when no number would.
    """
    project = Project.open(config)
    found = project.task(task)
    asked = targets or (found.quality.max_error,)
    if plan_only:
        _show_plans(found, asked, coverage, expected_error, as_json=as_json)
        return
    if suite is None:
        raise UserError("--on SUITE is missing", hint=f"or: rung calibrate {task} --plan")
    _check_truth(project, found, truth)
    rows = certifying_rows(load_suite(suite, found, for_="calibration"))
    traffic = tuple(iter_unlabelled(unlabelled, found)) if unlabelled is not None else ()
    with counter(quiet=as_json) as progress:
        plan = Plan(
            task=found,
            suite=rows,
            truth=truth,
            unlabelled=traffic,
            progress=progress.advance,
            fit=load_suite(fitting, found, for_="calibration") if fitting is not None else None,
        )
        if not yes:
            _confirm_cost(project, plan)
        measured, results = run_blocking(_calibrate(config, plan, asked))
    _report(found, measured, results, as_json=as_json)


async def _calibrate(
    config: Path | None, plan: Plan, targets: Sequence[float]
) -> tuple[list[Measured], list[Calibrated]]:
    async with await Ladder.open(config) as ladder:
        measured = await measure(ladder, plan)
        today = datetime.now(UTC).date()
        return measured, [
            certify_target(ladder.project, plan, measured, max_error=target, created=today)
            for target in targets
        ]


def _check_truth(project: Project, task: Task, truth: str) -> None:
    rungs = [rung.name for rung in project.settings.ladder(task.ladder)]
    allowed = [HUMAN, *(f"agreement:{name}" for name in rungs)]
    if truth not in allowed:
        raise UserError(f"--truth {truth!r} is not one of {', '.join(allowed)}")


def _confirm_cost(project: Project, plan: Plan) -> None:
    """Ask before calling rungs that charge; the rows may be many.

    An upper estimate: policy may keep rows from a rung, a rung may not be needed on the traffic, and few records are
    asked for twice.
    """
    fitting = plan.fit.examples if plan.fit is not None else ()
    labelled = [len(example.text) for example in (*plan.suite.examples, *fitting)]
    traffic = [len(row.text) for row in plan.unlabelled]
    each = 2 if plan.task.kind in RECORD_KINDS else 1  # a broken record is asked for once more
    total, calls, currency = 0, 0, "USD"
    for rung in project.settings.ladder(plan.task.ladder):
        if rung.price is None:
            continue
        judge = plan.truth == f"agreement:{rung.name}"
        asked = labelled if rung.accept is Accept.CERTIFIED or judge else []
        estimate = CostEstimate(rung.price, plan.task)
        total += each * sum(estimate.cost(count) or 0 for count in (*asked, *traffic))
        calls += each * (len(asked) + len(traffic))
        currency = rung.price.currency
    if total:
        click.confirm(
            f"this makes up to {calls:,} calls of priced rungs, about {amount(total, currency)}"
            " (estimate); go on?",
            abort=True,
            err=True,
        )


def _show_plans(
    task: Task,
    targets: Sequence[float],
    coverage: float,
    expected_error: float | None,
    *,
    as_json: bool,
) -> None:
    delta = attempt_delta(1 - task.quality.confidence, 1)
    plans = [
        planning.plan(target, delta=delta, coverage=coverage, accepted_risk=expected_error)
        for target in targets
    ]
    if as_json:
        click.echo(msgspec.json.encode({"format": 1, "task": task.name, "plans": plans}))
        return
    for plan in plans:
        click.echo(_plan_line(plan, task.quality.confidence))


def _plan_line(plan: planning.Plan, confidence: float) -> str:
    basis = (
        f"if {percent(plan.coverage)} of rows are accepted and {percent(plan.accepted_risk, 2)}"
        " of those are wrong"
    )
    target = f"{percent(plan.max_error)} at {percent(confidence)} confidence"
    if plan.rows is None:
        return f"{target}: no number of labelled rows would do {basis}"
    return (
        f"{target}: about {plan.rows:,} labelled rows (4 times in 5 that is enough) {basis}; "
        f"never fewer than {plan.error_free:,}"
    )


def _report(
    task: Task, measured: Sequence[Measured], results: Sequence[Calibrated], *, as_json: bool
) -> None:
    """Show every target; then fail with what the worst of them means."""
    if as_json:
        certificates = [result.certificate for result in results]
        click.echo(
            msgspec.json.encode({"format": 1, "task": task.name, "certificates": certificates})
        )
    else:
        for result in results:
            click.echo("\n".join(describe(result.certificate)))
            if not result.written:
                click.echo("          the certificate that is there still holds and was kept")
    complaints = [
        _complaint(result.certificate, certification, part, task)
        for result in results
        for certification, part in zip(result.certifications, measured, strict=True)
        if certification.thresholds is None
    ]
    for complaint in complaints:
        if isinstance(complaint, GateError):
            raise complaint
    if complaints:
        raise complaints[0]


def describe(certificate: Certificate) -> list[str]:
    """One certificate in a few lines: the promise, what it was made on, and each rung's part."""
    head = (
        f"certify   {certificate.rows:,} labelled rows · target {percent(certificate.max_error)} wrong at"
        f" most, {percent(certificate.confidence)} sure · attempt {certificate.attempt}"
        f" · truth: {certificate.truth}"
    )
    lines = [head]
    if certificate.sampling == "assumed":
        lines.append("          rows do not say how they were chosen; taken as drawn from traffic")
    for statement in certificate.sets:
        lines += _statement_lines(statement, certificate)
    return lines


def _statement_lines(statement: CertifiedSet, certificate: Certificate) -> list[str]:
    who = "/".join(label.value for label in statement.labels)
    if not statement.certified:
        return [f"          {who}: not certified: {statement.reason}"]
    lines = [
        f"          {who}: covers {percent(statement.coverage)} "
        f"({percent(statement.coverage_low)}–{percent(statement.coverage_high)}) of rows; "
        f"{statement.errors} of {statement.accepted:,} accepted were wrong   {certificate.id}"
    ]
    for rule in statement.rules:
        if rule.threshold is None:
            continue
        alone = len(statement.rungs) == 1  # then its own error is the statement's
        own = (
            f"; its own error is below {percent(rule.upper)}"
            if rule.upper is not None and not alone
            else ""
        )
        lines.append(
            f"            {rule.rung} answers when confidence > {rule.threshold:.4f}: "
            f"{rule.accepted:,} rows, {rule.errors} wrong{own}"
        )
    return lines


def _complaint(
    certificate: Certificate, found: Certification, measured: Measured, task: Task
) -> RungError:
    """Why nothing passed, and how many more rows would probably change that."""
    following = attempt_delta(1 - certificate.confidence, certificate.attempt + 1)
    target = percent(found.max_error, 2)
    hint = f"rung calibrate {task.name} --plan --target {target.replace(' ', '')}"
    if found.rows < planning.LEAST_ACCEPTED:
        usual = planning.plan(
            found.max_error, delta=following, coverage=USUAL_COVERAGE, accepted_risk=None
        )
        return EvidenceError(
            f"{task.name} cannot be certified at {target} on {found.rows} labelled rows: they are too few to"
            f" tell its error rate; about {usual.rows or usual.error_free:,} are usual",
            hint=hint,
        )
    more = planning.more_rows(
        measured.scores,
        measured.wrong,
        measured.references,
        max_error=found.max_error,
        delta=following,
    )
    best = (
        f"; these rows could have certified {percent(found.smallest, 2)}" if found.smallest else ""
    )
    if more is None:
        return GateError(
            f"{task.name} cannot be certified at {target}: the error among the most confident rows is"
            f" not below it, so no number of labelled rows would do{best}",
            hint="a better model, or another target",
        )
    return EvidenceError(
        f"{task.name} cannot be certified at {target} on {found.rows:,} labelled rows: about"
        f" {more:,} more labelled examples at this error rate{best}",
        hint=hint,
    )
