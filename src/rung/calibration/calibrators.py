"""Fitting the calibrators that no training gave, before a certifying label is read.

From labelled rows kept for that, or from the agreement of a rung with the one above it on unlabelled traffic.
"""

from __future__ import annotations

from rung.calibration.purity import refuse_rows, refuse_training_rows
from rung.calibration.run import Run
from rung.evidence import Below, below_of, weigh
from rung.suite import matches
from rung.text import text_digest
from rung.trust.fitting import fit_calibrator


async def fit_on_labels(run: Run) -> None:
    """Fit calibrators on the plan's `fit` rows, bottom up: a rung's signals hold what the one below says.

    Raises:
        SuiteError: such a row certifies too, or a rung was trained on it.
        EvidenceError: the rows hold too few right or too few wrong answers.
    """
    examples = [] if run.plan.fit is None else run.of_label(run.plan.fit.examples)
    if not examples:
        return
    refuse_rows(
        run.plan.suite.examples,
        frozenset(text_digest(example.text) for example in examples),
        "among the rows that fit a calibrator",
    )
    requests = run.requests(examples)
    below: list[Below | None] = []
    for name, rung in run.certified().items():
        refuse_training_rows(rung, examples)
        bare = await run.ask(rung, requests)
        found = weigh(bare, rung.calibrator, below)
        if run.unfitted(name) and found.signals is not None:
            judged = [row for row, outcome in enumerate(found.outcomes) if outcome.verdict is None]
            right = [matches(examples[row], found.outcomes[row].value) for row in judged]
            calibrator = fit_calibrator(found.signals.take(judged), right, source="held-out")
            run.keep(name, calibrator, [example.text for example in examples])
            found = weigh(bare, calibrator, below)
        below = [below_of(outcome) for outcome in found.outcomes]


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
