"""What `rung ledger` prints for people: first the answer, then the evidence, then what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from rung.ledger.queries import Shown
from rung.ledger.record import Egress
from rung.ledger.stats import Stats
from rung.ledger.verify import Verified
from rung.quantities import amount, counted, percent
from rung.receipt import Attempt, Receipt, Standing

Row = tuple[str, ...]


def describe_verified(verified: Verified, seconds: float, *, heads: int) -> str:
    """The outcome of a verification."""
    counts = (
        f"{counted(verified.records, 'record')} in {counted(verified.chains, 'chain')}"
        f" · {counted(verified.receipts, 'receipt')} · {counted(verified.egress, 'egress decision')}"
    )
    lines = [f"{'intact' if verified.intact else 'BROKEN'} · {counts}"]
    lines += [f"  {problem.where}   {problem.what}" for problem in verified.problems]
    rate = verified.records / seconds if seconds > 0 else 0.0
    lines.append(f"  {seconds:.1f} s, {rate:,.0f} records/s")
    if heads:
        lines.append(f"  {heads:,} exported heads compared")
    if verified.unsealed:
        named = ", ".join(verified.unsealed_named[:3])
        more = " …" if verified.unsealed > 3 else ""
        lines.append(
            f"  {counted(verified.unsealed, 'chain')} not sealed (still open or crashed): {named}{more}"
        )
    if verified.unsealed and verified.intact and not heads:
        lines.append(
            "note      a cut-off end of an unsealed chain shows only against heads kept elsewhere:\n"
            "          rung ledger export --heads -o heads.json, later rung ledger verify --heads heads.json"
        )
    return "\n".join(lines)


def describe_receipt(shown: Shown) -> str:
    """One receipt, readable: how it ended, every rung with its verdict, policy, cost."""
    receipt = shown.receipt
    rungs = [_attempt_row(attempt) for attempt in receipt.attempts]
    request = f"   request {receipt.request_id}" if receipt.request_id is not None else ""
    run = f"   run {receipt.run}" if receipt.run is not None else ""
    return "\n".join(
        [
            f"{receipt.task}: {_outcome(receipt)}",
            "",
            *(_labelled("rungs", table(rungs) or ["none was tried"])),
            *_labelled(
                "privacy",
                [f"{receipt.label}, may run on: {_allowed(receipt)}   rule: {receipt.rule}"],
            ),
            *_labelled("left for", [_egress_line(decision) for decision in shown.egress]),
            *_labelled("cost", [_cost(receipt)]),
            *_labelled("asked", [f"{receipt.created}{request}{run}"]),
            *_labelled("input", [f"digest {receipt.input_digest} (the text is not recorded)"]),
            *_labelled("receipt", [f"{receipt.id}   record {shown.record}"]),
        ]
    )


def list_receipts(receipts: Sequence[Receipt]) -> str:
    """The latest receipts, one a line."""
    if not receipts:
        return 'no receipt matches\nnext      rung ask "your text" --task NAME'
    rows = [
        (
            receipt.id,
            receipt.created[:19].replace("T", " "),
            receipt.task,
            receipt.answered_by or "—",
            receipt.standing.value,
            amount(receipt.cost, receipt.currency),
            f"{receipt.latency_ms:,.1f} ms",
        )
        for receipt in receipts
    ]
    return "\n".join([*table(rows), "next      rung ledger show ID"])


def describe_stats(stats: Stats) -> str:
    """Totals: the sum first, then receipts by task and standing, then attempts by rung and verdict."""
    total = sum(row.receipts for row in stats.receipts)
    if not total:
        return "no receipts" + (f" since {stats.since}" if stats.since else "")
    answered = sum(row.receipts for row in stats.receipts if row.answered_by is not None)
    since = f" since {stats.since}" if stats.since else ""
    lines = [
        f"{counted(total, 'receipt')}{since} · {answered:,} answered ({percent(answered / total)})"
        f" · cost {_cost_by_currency(stats)}",
        "",
        *table([_RECEIPT_HEADINGS, *_receipt_rows(stats, total)]),
        "",
        *table([_ATTEMPT_HEADINGS, *_attempt_rows(stats)]),
    ]
    return "\n".join(lines)


_RECEIPT_HEADINGS = ("task", "standing", "answered by", "receipts", "share", "mean", "cost")
_ATTEMPT_HEADINGS = ("task", "rung", "verdict", "attempts", "tokens in", "out", "mean", "cost")


def table(rows: Sequence[Row]) -> list[str]:
    """Rows in columns, indented by two; cells that start with a digit or a sign of money stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "   ".join(_aligned(c, w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _aligned(cell: str, width: int) -> str:
    numeric = cell[:1] in "$€£" or (cell[:1].isdigit() and cell[-1:] in "0123456789%s")
    return cell.rjust(width) if numeric else cell.ljust(width)


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    """Lines with `label` before the first."""
    return [
        f"  {label if number == 0 else '':<10}{line.strip()}" for number, line in enumerate(lines)
    ]


def _outcome(receipt: Receipt) -> str:
    bound = receipt.bound
    if receipt.answered_by is None:
        return f"no answer: {receipt.standing_reason or 'no rung was sure enough'}"
    if receipt.standing is Standing.CERTIFIED and bound is not None:
        return (
            f"answered by {receipt.answered_by}, certified: at most {percent(bound.max_error)} wrong,"
            f" {percent(bound.confidence)} sure"
            f" ({bound.certificate}, {counted(bound.labels, 'label')}, truth: {bound.truth})"
        )
    why = f": {receipt.standing_reason}" if receipt.standing_reason else ""
    return f"answered by {receipt.answered_by}, {receipt.standing.value}{why}"


def _attempt_row(attempt: Attempt) -> Row:
    sure = f"{attempt.confidence:.3f}" if attempt.confidence is not None else ""
    over = ">" if attempt.confidence is not None and _exceeds(attempt) else "≤"
    needed = f"{over} {attempt.threshold:.3f}" if sure and attempt.threshold is not None else ""
    reason = f": {attempt.reason}" if attempt.reason else ""
    return (
        f"{attempt.rung} ({attempt.where})",
        f"{sure} {needed}".strip(),
        f"{attempt.latency_ms:,.1f} ms" if attempt.latency_ms else "",
        f"{attempt.verdict.value}{reason}",
    )


def _exceeds(attempt: Attempt) -> bool:
    return (
        attempt.confidence is not None
        and attempt.threshold is not None
        and attempt.confidence > attempt.threshold
    )


def _allowed(receipt: Receipt) -> str:
    return ", ".join(receipt.allowed) or "no rung"


def _egress_line(decision: Egress) -> str:
    to = f"{decision.host or decision.rung} ({decision.where})"
    return f"{to} at {decision.created}, rung {decision.rung}   rule: {decision.rule}"


def _cost(receipt: Receipt) -> str:
    spent = f"{amount(receipt.cost, receipt.currency)} · {receipt.latency_ms:,.1f} ms"
    if receipt.top_cost is None:
        return spent
    dated = f", prices of {receipt.price_date}" if receipt.price_date else ""
    top = amount(receipt.top_cost, receipt.currency)
    return f"{spent}   the top model would be about {top} (estimate{dated})"


def _cost_by_currency(stats: Stats) -> str:
    currencies = sorted({row.currency for row in stats.receipts})
    sums = {c: sum(row.cost for row in stats.receipts if row.currency == c) for c in currencies}
    return " + ".join(amount(nano, currency) for currency, nano in sums.items())


def _receipt_rows(stats: Stats, total: int) -> list[Row]:
    return [
        (
            row.task,
            row.standing,
            row.answered_by or "—",
            f"{row.receipts:,}",
            percent(row.receipts / total),
            f"{row.mean_latency_ms:,.2f} ms",
            amount(row.cost, row.currency),
        )
        for row in stats.receipts
    ]


def _attempt_rows(stats: Stats) -> list[Row]:
    return [
        (
            row.task,
            row.rung,
            row.verdict,
            f"{row.attempts:,}",
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
            f"{row.mean_latency_ms:,.2f} ms",
            amount(row.cost, row.currency),
        )
        for row in stats.attempts
    ]
