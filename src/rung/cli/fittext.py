"""What `rung fit` says: the verdict, what takes how much and how that is known, and what would help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rung.models.fit.demand import WEIGHTS, Part
from rung.models.fit.estimate import Budget, Estimate
from rung.models.fit.remedies import Remedy
from rung.models.fit.run import Run
from rung.models.fit.speed import Speed
from rung.models.fit.sweep import Row
from rung.models.fit.tags import Tag
from rung.models.fit.verdict import Verdict
from rung.models.hardware.machine import DeviceKind, Machine
from rung.quantities import counted

_MIB = 1024 * 1024
_GIB = 1024 * _MIB


def memory(size: int) -> str:
    """Bytes of memory in the units it is made in: `512 KiB`, `301.8 MiB`, `4.50 GiB`."""
    if abs(size) < _MIB:
        return f"{size / 1024:,.0f} KiB"
    if abs(size) < _GIB:
        return f"{size / _MIB:,.1f} MiB"
    return f"{size / _GIB:,.2f} GiB"


def described(
    answer: Estimate,
    machine: Machine,
    remedies: Sequence[Remedy],
    evidence: str,
    beside: Sequence[str] = (),
) -> str:
    """Everything that is said of one estimate.

    Args:
        answer: the estimate.
        machine: that it is for.
        remedies: what would help.
        evidence: what the model's figures were read from.
        beside: what is said of files beside the model.
    """
    lines = [headline(answer), _how(answer, machine), ""]
    for budget in answer.budgets:
        lines += [*_device(answer, budget, evidence), ""]
    if answer.speed is not None:
        lines += _speeds(answer.speed, here=machine.detected)
    lines += [f"  note: {note}" for note in (*answer.notes, *beside, *machine.assumptions)]
    if machine.detected and answer.layers_on_card:
        lines.append(
            "  note: the engine within Rung computes on the processor: --gpu-layers 0 tells of that"
        )
    if remedies:
        lines += ["", *_helping(remedies)]
    return "\n".join(lines).rstrip()


def headline(answer: Estimate) -> str:
    """The verdict, with how much of what it takes."""
    budget = answer.tightest
    most = "at most " if answer.at_most else "at least " if answer.at_least else ""
    where = "" if len(answer.budgets) == 1 else f" on {budget.device}"
    of = f"{most}{memory(budget.needed)} of {memory(budget.available)} free{where}"
    if answer.verdict is Verdict.NO:
        needed = "up to {} may" if answer.at_most else "{} would"
        needed = needed.format(memory(budget.needed))
        said = f"{needed} be needed{where}, {memory(budget.available)} are free"
    elif answer.verdict is Verdict.SPILLS:
        layers = f"{answer.layers_on_card} of {counted(answer.layers, 'layer')} on the card"
        said = f"{layers}, the rest in the host's memory; {of} would be used"
    else:
        said = f"{of} would be used"
    return f"{answer.verdict} · {said}"


def settings(run: Run) -> str:
    """Context, slots and types of the cache, which belong to every verdict."""
    slots = counted(run.slots, "slot")
    context = f"{run.context:,} tokens over {slots}"
    if run.slots > 1:
        each = "shared" if run.unified else f"{run.context // run.slots:,} each"
        context = f"{context} ({each})"
    kinds = run.type_k if run.type_k == run.type_v else f"{run.type_k} and {run.type_v}"
    flash = "" if run.flash_attention else " · no flash attention"
    return f"{context} · KV {kinds}{flash} · ubatch {run.ubatch}"


def table(rows: Sequence[Row]) -> str:
    """The contexts and slots that were tried, as a table of verdicts and needs: of the card where there is one."""
    if not rows:
        return ""
    budgets = rows[0].estimates[0].budgets
    device = next((one for one in budgets if one.kind is DeviceKind.GPU), budgets[0])
    place = budgets.index(device)
    head = [f"{counted(answer.run.slots, 'slot'):>22}" for answer in rows[0].estimates]
    shared = rows[0].estimates[0].run.unified
    lines = [f"  needed of {device.device}; beside a no, of what is too small"] * (len(budgets) > 1)
    lines += [f"  {'tokens shared' if shared else 'tokens a slot':>14}{''.join(head)}"]
    for row in rows:
        cells = [_cell(one, place) for one in row.estimates]
        lines.append(f"  {row.per_slot:>14,}{''.join(f'{cell:>22}' for cell in cells)}")
    return "\n".join(lines)


def _cell(answer: Estimate, place: int) -> str:
    """A need with its verdict; a device other than the one that the table is about is named."""
    if answer.verdict is not Verdict.NO or answer.tightest is answer.budgets[place]:
        return f"{memory(answer.budgets[place].needed)} {answer.verdict}"
    return f"{memory(answer.tightest.needed)} no, {answer.tightest.device}"


def _how(answer: Estimate, machine: Machine) -> str:
    name = " ".join(filter(None, (answer.model, answer.file_type)))
    where = machine.name
    if machine.detected:
        where += f", {', '.join(device.name for device in machine.devices)}"
    return f"{name} · {settings(answer.run)} · {where} · rules {answer.rules}"


def _device(answer: Estimate, budget: Budget, evidence: str) -> Iterator[str]:
    if len(answer.budgets) > 1 or budget.kind is not DeviceKind.HOST:
        shared = ", shared by both processors" if budget.kind is DeviceKind.UNIFIED else ""
        yield (
            f"  {budget.device}{shared}: {memory(budget.needed)} of {memory(budget.available)}, {budget.verdict}"
        )
    for part in answer.parts:
        if part.device == budget.device:
            yield _line(part.what, memory(part.amount.bytes), part.amount.tag, _why(part, evidence))


def _line(what: str, size: str, tag: str, note: str) -> str:
    return f"  {what:<17}{size:>11}   {tag:<10}{note}".rstrip()


def _why(part: Part, evidence: str) -> str:
    """What is known of a figure beside its tag."""
    note = part.amount.note or (evidence if part.what == WEIGHTS else "")
    return f"low confidence: {note}".rstrip(": ") if part.amount.low_confidence else note


def _speeds(speed: Speed, *, here: bool) -> Iterator[str]:
    """How fast it writes and reads, or how the second is to be known."""
    span = f"{_number(speed.low)}–{_number(speed.high)}" if speed.band else _number(speed.low)
    yield _line("speed", span, speed.tag, _speed_note(speed))
    if speed.prompt_tokens_per_s is not None:
        fast = _number(speed.prompt_tokens_per_s)
        yield _line("prompts", fast, Tag.MEASURED, "tokens a second are read, at the fastest here")
        return
    how = "no rule says how fast they are read"
    if here:
        how += "; a rung run with these settings and a prompt of 128 tokens or more measures it"
    yield _line("prompts", "", Tag.UNKNOWN, how)


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _speed_note(speed: Speed) -> str:
    full = _number(speed.full_tokens_per_s)
    band = f" ±{speed.band:.0%}" if speed.band else ""
    return f"tokens a second{band}, {full} with a full context; {speed.basis}"


def _helping(remedies: Sequence[Remedy]) -> Iterator[str]:
    width = max(len("what would help"), *(len(remedy.label) for remedy in remedies)) + 2
    yield f"  {'what would help':<{width}}{'saves':>11}   then"
    for remedy in remedies:
        caution = f" · {remedy.caution}" if remedy.caution else ""
        yield f"  {remedy.label:<{width}}{memory(remedy.saves):>11}   {remedy.verdict}{caution}"
