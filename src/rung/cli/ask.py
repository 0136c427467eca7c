"""`rung ask`: one text, its answer, and why."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from rung.blocking import run_blocking
from rung.cli.options import config_option, json_option, privacy_option, target_option
from rung.errors import InputError
from rung.ladder import Ladder
from rung.quantities import amount, counted, percent
from rung.receipt import OPERATIONAL, Answer, Attempt, Receipt, Standing, Verdict
from rung.task import Privacy, Request


@click.command()
@click.argument("text")
@click.option("--task", "task", required=True, help="Name of the task.")
@privacy_option
@target_option
@config_option
@json_option
def command(
    text: str,
    task: str,
    privacy: Privacy | None,
    target: float | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Answer TEXT (or `-` for standard input) and print the answer with its receipt.

    Exits with 4 when no rung was sure enough, with 3 when one failed that might have been.
    """
    words = sys.stdin.read() if text == "-" else text
    if not words.strip():
        raise InputError("there is no text to answer", hint='rung ask "your text" --task NAME')
    answer = run_blocking(_ask(Request(task, words, label=privacy), config, target))
    if as_json:
        click.echo(
            msgspec.json.encode({"format": 1, "answer": answer.value, "receipt": answer.receipt})
        )
    else:
        click.echo(describe(answer))
    if not answer.answered:
        broken = any(attempt.verdict in OPERATIONAL for attempt in answer.receipt.attempts)
        raise SystemExit(3 if broken else 4)


async def _ask(request: Request, config: Path | None, target: float | None) -> Answer:
    async with await Ladder.open(config, target=target) as ladder:
        return await ladder.run(request)


def describe(answer: Answer) -> str:
    """The answer first, then the evidence."""
    receipt = answer.receipt
    if not answer.answered:
        return _no_answer(receipt)
    shown = (
        answer.value
        if isinstance(answer.value, str)
        else msgspec.json.encode(answer.value).decode()
    )
    last = receipt.attempts[-1]
    lines = [
        shown,
        "",
        f"  rung      {_climbed(receipt)}{last.rung} ({last.where})   {_why(last, receipt)}",
        f"  privacy   {receipt.label}, may run on: {', '.join(receipt.allowed)}   rule: {receipt.rule}",
        f"  cost      {amount(receipt.cost, receipt.currency)} · {receipt.latency_ms:.1f} ms{_frontier(receipt)}",
        *_decoded(last),
        f"  receipt   {receipt.id}",
    ]
    return "\n".join(lines)


def _decoded(last: Attempt) -> list[str]:
    """What decoding did not enforce, and whether the answer had to be asked for twice."""
    lines = []
    if last.relaxed:
        places = ", ".join(last.relaxed)
        lines.append(f"  schema    kept; not held while it was written: {places}")
    if last.repaired:
        lines.append("  repaired  the first answer broke the schema; this is the second")
    return lines


def _no_answer(receipt: Receipt) -> str:
    tried = "\n".join(f"  {attempt.rung:<10}{_attempted(attempt)}" for attempt in receipt.attempts)
    return "\n".join(
        [
            f"no answer: {receipt.standing_reason}",
            tried or "  no rung was tried",
            f"  queued for review as {receipt.id}        rung review list",
        ]
    )


def _attempted(attempt: Attempt) -> str:
    return f"{attempt.verdict.value}: {attempt.reason}" if attempt.reason else attempt.verdict.value


def _climbed(receipt: Receipt) -> str:
    below = [a.rung for a in receipt.attempts[:-1] if a.verdict is not Verdict.FORBIDDEN]
    return "".join(f"{rung} → " for rung in below)


def _why(last: Attempt, receipt: Receipt) -> str:
    sure = (
        f"{last.confidence:.3f} > {last.threshold:.3f}   "
        if last.confidence is not None and last.threshold is not None
        else ""
    )
    bound = receipt.bound
    if receipt.standing is Standing.CERTIFIED and bound is not None:
        return (
            f"{sure}certified: at most {percent(bound.max_error)} wrong, {percent(bound.confidence)} sure "
            f"({bound.certificate}, {counted(bound.labels, 'label')}, truth: {bound.truth})"
        )
    return f"{sure}not certified: {receipt.standing_reason}"


def _frontier(receipt: Receipt) -> str:
    if receipt.top_cost is None:
        return ""
    return (
        f"   the top model would be about {amount(receipt.top_cost, receipt.currency)} (estimate)"
    )
