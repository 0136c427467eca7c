"""How exact `rung fit` is on other people's logs: cache, state and compute buffers, and the memory of whole cards.

`--cases` has rows of allocator logs: cache and state should be equal to what is printed, compute within 64 MiB or a
tenth, and where it is not the rule should have said so itself (low confidence). `--totals` has rows of measured
memory: beside the prediction stands one constant per machine (drivers, desktop), the median of what is left over in
the machine's rows of other models, rows of low confidence aside. The common rule of thumb and three programs' formulas
stand beside it. Prints tables, then the targets with whether each is met, then one JSON line; exit code 1 where one is
not met, or nothing was compared.

Without flash attention ROCm keeps pools that no log tells of: some hundred MiB at 4,096 tokens and nine times that at
8,192 on one model, little on another of nearly its shape. That follows no number of scores, so nothing is added for it
here; such rows count as unsure. `rung fit` adds the worst that was seen for its verdict.

    python bench/fit.py --cases ../shared/data/fit/cases.jsonl --totals ../shared/data/fit/totals.jsonl --plot fit.svg
"""

from __future__ import annotations

import argparse
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fit_formulas import FORMULAS, Formula, Known
from fit_gates import gates
from fit_plot import plot
from fit_rows import FAULTS, MIB, Case, Row, buffers, case_of, is_host, unread
from fit_totals import Total, constants, is_vllm, total_of, vllm_check
from rung.models.fit.cache import cache_bytes
from rung.models.fit.compute import compute
from rung.models.fit.state import state_bytes
from rung.models.fit.tags import Amount

EXACT_MIB = 0.0101
"""Logs print two decimals."""
ROUGH_MIB, ROUGH_SHARE = 64.0, 0.1
WHOLE_MIB = 100.0

Facts = dict[str, Any]  # becomes the JSON line
Result = TypeVar("Result")


class Compared(NamedTuple):
    """A figure of one row beside what was logged, in MiB."""

    id: str
    predicted: float
    logged: float
    unsure: bool = False
    note: str = ""

    @property
    def error(self) -> float:
        """How much too high."""
        return self.predicted - self.logged


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", type=Path, help="allocator logs, JSON Lines")
    parser.add_argument("--totals", type=Path, help="whole-process memory, JSON Lines")
    parser.add_argument(
        "--catalog", type=Path, help="hyperparameters of rows without; default: beside --totals"
    )
    parser.add_argument("--plot", type=Path, help="an SVG of the errors")
    options = parser.parse_args()
    if not options.cases and not options.totals:
        parser.error("give --cases, --totals or both: there is nothing to compare")
    facts: Facts = {"format": 1, "bench": "fit"}
    ratios: dict[str, list[float]] = {}
    if options.cases:
        cases, skipped = read(options.cases, case_of)
        facts["cases"] = {"read": len(cases), "skipped": skipped}
        print(f"{len(cases)} rows of logs read" + skips(skipped))
        if names := unread([case.row for case in cases]):
            print(f"hyperparameters that were not looked at: {', '.join(names)}")
        facts["kv"] = show_exact("KV cache", *compare(cases, cache_of))
        facts["recurrent"] = show_exact("recurrent state", *compare(cases, state_of))
        pairs, skipped = compare(cases, compute_of)
        facts["compute"] = show_compute(
            [main for main, _ in pairs], [beside for _, beside in pairs if beside], skipped
        )
        ratios = cache_ratios(cases)
        facts["kv_ratios"] = show_ratios(ratios)
    errors: dict[str, list[float]] = {}
    if options.totals:
        facts["totals"], errors = show_totals(options.totals, options.catalog)
    if options.plot:
        options.plot.write_text(plot(ratios, errors), encoding="utf-8")
    found = list(gates(facts))
    print()
    for gate in found:
        print(f"{'pass' if gate.passed else 'FAIL'}  {gate.name}: {gate.found}")
    facts["gates"] = {gate.name: gate.passed for gate in found}
    facts["gate"] = "pass" if all(facts["gates"].values()) else "fail"
    print(json.dumps(facts))
    if facts["gate"] == "fail":
        raise SystemExit(1)


def read(path: Path, make: Any) -> tuple[list[Any], dict[str, int]]:
    """What `make` makes of every row that it can, and reasons of the others, counted."""
    made, skipped = [], Counter[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            made.append(make(json.loads(line)))
        except FAULTS as fault:
            skipped[f"{type(fault).__name__}: {fault}"] += 1
    return made, dict(skipped)


def compare(
    cases: Iterable[Case], make: Callable[[Case], Result]
) -> tuple[list[Result], dict[str, int]]:
    """What `make` finds of every case that it can, and why it cannot of the others, counted."""
    found: list[Result] = []
    skipped = Counter[str]()
    for case in cases:
        try:
            found.append(make(case))
        except Left as left:
            skipped[str(left)] += 1
        except FAULTS as fault:
            skipped[f"{type(fault).__name__}: {fault}"] += 1
    return found, dict(skipped)


class Left(Exception):
    """A row is left out, for the reason that the message says."""


def cache_of(case: Case) -> Compared:
    if case.row.get("kv_mib") is None or case.row.get("n_ctx") is None:
        raise Left("no cache or no context is stated")
    amount = cache_bytes(case.shape, case.run, case.rules)[1]
    return compared(case, amount.bytes / MIB, case.row["kv_mib"], amount.note)


def state_of(case: Case) -> Compared:
    """The state of a row that states it; where a row says widths alone, only layers and slots are compared."""
    stated, widths = case.row.get("recurrent_mib"), case.row.get("recurrent_calc") or {}
    if stated is None:
        raise Left("no recurrent state is stated")
    size = state_bytes(case.shape, case.run, case.rules)[1].bytes
    note = ""
    if not size and {"n_embd_r", "n_embd_s"} <= widths.keys():
        elements = widths["n_embd_r"] + widths["n_embd_s"]
        size = 4 * elements * len(case.shape.layers) * case.run.slots
        note = "widths as the row states them"
    return compared(case, size / MIB, stated, note)


def compute_of(case: Case) -> tuple[Compared, Compared | None]:
    """The largest buffer of a card, or the processor's where there is none; and the host's beside a card."""
    logged = buffers(case.row, "compute_mib")
    if not logged:
        raise Left("no buffer is stated")
    if case.lacks:
        raise Left(f"not stated: {', '.join(case.lacks)}")
    amounts = compute(
        case.shape, case.weights, case.run, case.rules,
        cards=case.cards, output_on_card=case.output_on_card,
    )  # fmt: skip
    hosts = [mib for name, mib in logged if is_host(name)]
    on_cards = [mib for name, mib in logged if not is_host(name)]
    if not case.cards:
        return guessed(case, amounts.host, max(hosts)), None
    beside = guessed(case, amounts.host, max(hosts)) if hosts else None
    return guessed(case, amounts.card, max(on_cards)), beside


def guessed(case: Case, amount: Amount, logged: float) -> Compared:
    size = amount.bytes / MIB
    return Compared(str(case.row.get("id")), size, logged, amount.low_confidence, amount.note)


def compared(case: Case, predicted: float, logged: float, note: str) -> Compared:
    return Compared(str(case.row.get("id")), predicted, float(logged), not case.shape.known, note)


def show_exact(what: str, found: Sequence[Compared], skipped: dict[str, int]) -> Facts:
    misses = [one for one in found if abs(one.error) > EXACT_MIB]
    exact = len(found) - len(misses)
    print(
        f"\n{what}: {exact} of {len(found)} rows equal what is logged to 0.01 MiB{skips(skipped)}"
    )
    for one in misses:
        print(f"  {one.id:30} {one.predicted:12.2f} logged {one.logged:12.2f}  {one.note}")
    return {
        "rows": len(found),
        "exact": exact,
        "misses": {one.id: round(one.error, 3) for one in misses},
        "widths_stated": sum(bool(one.note) for one in found),
        "skipped": skipped,
    }


def show_compute(
    found: Sequence[Compared], beside: Sequence[Compared], skipped: dict[str, int]
) -> Facts:
    table = Counter((near(one), one.unsure) for one in found)
    right = table[True, False] + table[True, True]
    print(
        f"\ncompute: {right} of {len(found)} rows within {ROUGH_MIB:g} MiB or {ROUGH_SHARE:.0%}"
        + skips(skipped)
    )
    print(f"  {'':24}{'sure of itself':>16}{'low confidence':>16}")
    for is_near, words in ((True, "within"), (False, "beyond")):
        print(f"  {words:24}{table[is_near, False]:16}{table[is_near, True]:16}")
    for one in found:
        if not near(one):
            flag = one.note if one.unsure else "NOT FLAGGED"
            print(f"  {one.id:26} {one.predicted:9.1f} logged {one.logged:9.1f}  {flag}")
    good = sum(map(near, beside))
    print(f"  host buffers beside cards: {good} of {len(beside)} within")
    return {
        "rows": len(found),
        "within": right,
        "share": right / len(found) if found else None,
        "sure_within": table[True, False],
        "sure_beyond": table[False, False],
        "unsure_within": table[True, True],
        "unsure_beyond": table[False, True],
        "host_rows": len(beside),
        "host_within": good,
        "skipped": skipped,
    }


def near(one: Compared) -> bool:
    return abs(one.error) <= max(ROUGH_MIB, ROUGH_SHARE * one.logged)


def cache_ratios(cases: Iterable[Case]) -> dict[str, list[float]]:
    """Predicted cache by logged cache, of every formula, on rows with f16 keys and values."""
    ratios: dict[str, list[float]] = {}
    for each in compare(cases, ratios_of)[0]:
        for name, ratio in each.items():
            ratios.setdefault(name, []).append(ratio)
    return ratios


def ratios_of(case: Case) -> dict[str, float]:
    row = case.row
    flat = row.get("type_k") == row.get("type_v") == "f16"
    if not flat or not row.get("kv_mib") or not row.get("n_ctx") or not row.get("n_params"):
        raise Left("no f16 cache, context or number of parameters is stated")
    known = Known(float(row["n_params"]), int(row["n_ctx"]), 0.0, case.shape)
    found = {"Rung": cache_bytes(case.shape, case.run, case.rules)[1].bytes / MIB}
    found |= {one.name: one.cache(known) for one in FORMULAS}
    return {name: value / row["kv_mib"] for name, value in found.items()}


def show_ratios(ratios: dict[str, list[float]]) -> Facts:
    rows = len(next(iter(ratios.values()), []))
    print(f"\nKV cache as part of what is logged, {rows} rows with f16 keys and values")
    print(f"  {'':20}{'median':>9}{'p10':>9}{'p90':>9}{'least':>9}{'most':>9}{'within 25 %':>13}")
    facts: Facts = {}
    for name, values in ratios.items():
        low, middle, high = np.percentile(values, (10, 50, 90))
        close = sum(0.75 <= value <= 1.25 for value in values)
        print(
            f"  {name:20}{middle:9.2f}{low:9.2f}{high:9.2f}{min(values):9.2f}{max(values):9.2f}{close:10} of {rows}"
        )
        facts[name] = {
            "median": middle, "p10": low, "p90": high, "least": min(values), "most": max(values), "within_25": close,
            "rows": rows,
        }  # fmt: skip
    return facts


def show_totals(path: Path, catalog: Path | None) -> tuple[Facts, dict[str, list[float]]]:
    """Compare whole cards, and say how the constants were found."""
    known = catalogue(catalog or path.with_name("catalog.jsonl"))
    made, skipped = read(
        path, lambda row: vllm_check(row) if is_vllm(row) else total_of(row, known)
    )
    totals = [one for one in made if isinstance(one, Total)]
    left = [one for one in made if not isinstance(one, Total)]
    errors = errors_of(totals)
    ours = errors["Rung"]
    show_devices(totals, ours)
    facts: Facts = {"rows": len(totals), "skipped": skipped, "vllm": left}
    facts["errors_mib"] = show_errors(errors)
    sure = [error for one, error in zip(totals, ours, strict=True) if not one.unsure]
    facts["sure_rows"] = len(sure)
    facts["sure_within_100"] = sum(abs(one) <= WHOLE_MIB for one in sure)
    facts["all_within_100"] = sum(abs(one) <= WHOLE_MIB for one in ours)
    print(f"  {len(totals)} rows compared{skips(skipped)}")
    for one in left:
        print(f"  vLLM, which takes all that is left: {one}")
    return facts, errors


def catalogue(path: Path) -> dict[str, Row]:
    """Rows of a catalogue by their model; none where there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["model"].lower(): row for row in map(json.loads, lines)}


def errors_of(totals: Sequence[Total]) -> dict[str, list[float]]:
    """MiB too much of every formula: of Rung beside its constants, of the others as published and with constants."""
    errors = {"Rung": over(totals, lambda one: one.predicted, fitted=True)}
    for formula in FORMULAS:
        total = functools.partial(formula_total, formula)
        errors[formula.name] = over(totals, total, fitted=False)
        errors[f"{formula.name} + constant"] = over(totals, total, fitted=True)
    return errors


def formula_total(formula: Formula, one: Total) -> float:
    return formula.total(one.known)


def over(
    totals: Sequence[Total], predict: Callable[[Total], float], *, fitted: bool
) -> list[float]:
    rest = constants(totals, predict) if fitted else [0.0] * len(totals)
    pairs = zip(totals, rest, strict=True)
    return [predict(one) + constant - one.measured for one, constant in pairs]


def show_devices(totals: Sequence[Total], errors: Sequence[float]) -> None:
    print(
        "\nwhole memory, beside one constant per machine (median residual of its rows of other models)"
    )
    for device in dict.fromkeys(one.device for one in totals):
        pairs = [
            (one, error) for one, error in zip(totals, errors, strict=True) if one.device == device
        ]
        sure = [error for one, error in pairs if not one.unsure]
        constant = np.median(
            [one.measured - one.predicted for one, _ in pairs if not one.unsure] or [np.nan]
        )
        close = sum(abs(error) <= WHOLE_MIB for error in sure)
        print(
            f"  {device}: constant {constant:.0f} MiB; {close} of {len(sure)} rows within 100 MiB"
        )
        for one, error in pairs:
            flag = "low confidence" if one.unsure else ""
            print(
                f"    {one.id:34}{one.predicted:9.0f} measured {one.measured:9.0f}  error {error:+7.0f}  {flag}"
            )


def show_errors(errors: dict[str, list[float]]) -> Facts:
    print(f"\n  {'error, MiB':32}{'median':>9}{'p10':>9}{'p90':>9}{'most':>9}{'within 100':>12}")
    facts: Facts = {}
    for name, values in errors.items():
        if not values:
            continue
        low, middle, high = np.percentile(values, (10, 50, 90))
        most, close = max(map(abs, values)), sum(abs(value) <= WHOLE_MIB for value in values)
        print(f"  {name:32}{middle:9.0f}{low:9.0f}{high:9.0f}{most:9.0f}{close:8} of {len(values)}")
        facts[name] = {"median": middle, "p10": low, "p90": high, "most": most, "within_100": close}
    return facts


def skips(skipped: dict[str, int]) -> str:
    if not skipped:
        return ""
    return "; left out: " + ", ".join(f"{count} ({why})" for why, count in skipped.items())


if __name__ == "__main__":
    main()
