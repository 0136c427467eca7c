"""The question before a download: does the model fit this machine, run as it usually is?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rung.errors import GateError
from rung.models.fit.estimate import Estimate, estimate
from rung.models.fit.measured import Measurements, model_key
from rung.models.fit.model import Model, is_adapter, model_of
from rung.models.fit.remedies import remedies
from rung.models.fit.run import Run
from rung.models.fit.verdict import Verdict
from rung.models.hardware.machine import Machine
from rung.models.header import Header
from rung.models.lock.pinning import engine_build
from rung.models.lock.record import FitRecord
from rung.models.sources.resolved import Resolved

USUAL_CONTEXT = 4096
"""Tokens, as the embedded engine has them; fewer where the model was made for fewer."""

MOST_LEVERS = 3
"""Ways out that a refusal names."""


class Fitting:
    """Estimates models on one machine, and refuses those that do not fit it.

    Args:
        machine: that the model is for.
        context: tokens of prompt and answer together, None for the usual ones.
        force: fetch what does not fit, too.
        reserve: bytes that a process of the engine takes, measured; None for the rule.
    """

    def __init__(
        self, machine: Machine, *, context: int | None, force: bool, reserve: int | None = None
    ) -> None:
        self._machine = machine
        self._context = context
        self._force = force
        self._reserve = reserve

    def __call__(self, resolved: Resolved, headers: Sequence[Header]) -> Estimate | None:
        """How a model fits; None of an adapter, which says nothing of the model that it is for.

        Args:
            resolved: what it is.
            headers: of its weights.

        Raises:
            GateError: it does not fit.
        """
        if is_adapter(headers[0]):
            return None
        model = model_of(headers, resolved.weights[0].name.rpartition("/")[2])
        run = Run(context=self._context or _usual_context(headers))
        answer = estimate(model, run, self._machine, reserve=self._reserve)
        if answer.verdict is Verdict.NO and not self._force:
            raise self._refusal(resolved, model, answer)
        return answer

    def _refusal(self, resolved: Resolved, model: Model, answer: Estimate) -> GateError:
        budget = answer.tightest
        levers = remedies(model, answer.run, self._machine, reserve=self._reserve)
        enough = [lever.label for lever in levers if lever.verdict is not Verdict.NO][:MOST_LEVERS]
        helps = f"it would with {' or '.join(enough)}; " if enough else ""
        return GateError(
            f"{resolved.reference} does not fit: with {answer.run.context:,} tokens it takes "
            f"{_gib(budget.needed)} of the {_gib(budget.available)} that {budget.device} has left",
            hint=f"{helps}rung fit {resolved.reference} tells more; --force fetches it all the same",
        )


def fit_record(answer: Estimate, headers: Sequence[Header]) -> FitRecord:
    """What the lock keeps of an estimate, and of what the model took where it ran like that here before.

    Args:
        answer: the estimate.
        headers: of the model's weights.
    """
    return FitRecord(
        context=answer.run.context,
        slots=answer.run.slots,
        kv_type=answer.run.type_k,
        predicted=answer.needed,
        measured=_measured(answer, headers),
        machine=answer.machine,
        rules=answer.rules,
    )


def _measured(answer: Estimate, headers: Sequence[Header]) -> int | None:
    """Most bytes of the process, None where the model did not run like that; of cards nothing is measured."""
    if answer.layers_on_card:
        return None
    # As the embedded engine runs a model by itself: all on the host, prompts in one step.
    run = msgspec.structs.replace(answer.run, gpu_layers=0, batch=answer.run.ubatch)
    found = Measurements().find(model_key(*headers), run, engine_build())
    return None if found is None else found.peak_rss or found.started_rss


def _usual_context(headers: Sequence[Header]) -> int:
    first = headers[0]
    trained = first.number(f"{first.architecture}.context_length")
    return min(USUAL_CONTEXT, trained) if trained else USUAL_CONTEXT


def _gib(number: int) -> str:
    return f"{number / 1024**3:,.2f} GiB"
