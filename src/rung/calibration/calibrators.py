"""Fitting the calibrators that no training gave, before a certifying label is read.

From labelled rows kept for that, or from the agreement of a rung with the one above it on unlabelled traffic.
"""

from __future__ import annotations

from collections.abc import Sequence

from rung.calibration.purity import refuse_rows, refuse_training_rows
from rung.calibration.run import Run
from rung.errors import UserError
from rung.evidence import Below, below_of, weigh
from rung.suite import Example, matches
from rung.text import text_digest
from rung.trust.fitting import fit_calibrator


async def fit_on_labels(run: Run) -> None:
    """Fit calibrators on the plan's `fit` rows, bottom up: a rung's signals hold what the one below says.

    Raises:
        UserError: every rung has its calibrator from its training.
        SuiteError: such a row certifies too, or a rung was trained on it.
        EvidenceError: the rows hold too few right or too few wrong answers.
    """
    examples = [] if run.plan.fit is None else run.of_label(run.plan.fit.examples)
    names = list(run.certified())
    unfitted = [name for name in names if run.unfitted(name)]
    if not unfitted and not run.fitted and run.plan.fit is not None:
        raise UserError(
            "the rows to fit calibrators are not needed: no rung needs a calibrator",
            hint="leave them out, or use them to train or to certify",
        )
    if not examples or not unfitted:
        return
    refuse_rows(
        run.plan.suite.examples,
        frozenset(text_digest(example.text) for example in examples),
        "among the rows that fit a calibrator",
    )
    below: list[Below | None] = []
    for name in names[: names.index(unfitted[-1]) + 1]:  # no row goes to a rung that needs none
        below = await _fit_one(run, name, examples, below)


async def _fit_one(
    run: Run, name: str, examples: Sequence[Example], below: list[Below | None]
) -> list[Below | None]:
    """Fit one rung's calibrator where it has none; returns what the rung above may hear of these rows."""
    rung = run.rung(name)
    refuse_training_rows(rung, examples)
    bare = await run.ask(rung, run.requests(examples))
    found = weigh(bare, rung.calibrator, below if run.hears(name) else ())
    if run.unfitted(name) and found.signals is not None:
        judged = [row for row, outcome in enumerate(found.outcomes) if outcome.verdict is None]
        right = [matches(examples[row], found.outcomes[row].value) for row in judged]
        calibrator = fit_calibrator(found.signals.take(judged), right, source="held-out")
        run.keep(name, calibrator, [example.text for example in examples])
        found = weigh(bare, calibrator, below)
    return [below_of(outcome) for outcome in found.outcomes]


async def fit_on_agreement(run: Run) -> None:
    """Fit calibrators on agreement with the rung above, where there is traffic and no labelled rows to fit on.

    Raises:
        SuiteError: a certifying row is among the unlabelled ones; it would be used twice.
    """
    traffic = run.traffic()
    if not traffic or run.plan.fit is not None:
        return
    texts = [row.text for row in traffic]
    for name in run.certified():
        above = run.allowed.rungs[run.allowed.rungs.index(name) + 1 :]
        if not run.unfitted(name) or not above:
            continue
        refuse_rows(
            run.plan.suite.examples,
            frozenset(text_digest(text) for text in texts),
            "among the unlabelled rows that fit a calibrator",
        )
        own, upper = await run.on_traffic(name), await run.on_traffic(above[0])
        both = [
            row
            for row, (low, high) in enumerate(zip(own.outcomes, upper.outcomes, strict=True))
            if low.verdict is None and high.verdict is None
        ]
        if own.signals is None or not both:
            continue
        agreed = [own.outcomes[row].value == upper.outcomes[row].value for row in both]
        calibrator = fit_calibrator(own.signals.take(both), agreed, source=f"agreement:{above[0]}")
        run.keep(name, calibrator, texts)
