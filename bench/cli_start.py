"""How long `rung --help` and `rung --version` take, beside `python -c "import click"`.

Each round starts every command once, in an order shuffled anew, so that what else the machine does falls on all alike.
The figure that counts is the ratio of medians; its interval is from resampling the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time

MAIN = "import sys; from rung.cli import main; sys.argv = ['rung', {argument!r}]; main()"
COMMANDS = {
    "import click": "import click",
    "rung --help": MAIN.format(argument="--help"),
    "rung --version": MAIN.format(argument="--version"),
}
BASE = "import click"


def seconds(code: str) -> float:
    """Wall time of one fresh interpreter that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def measure(rounds: int, chance: random.Random) -> list[dict[str, float]]:
    """The time of every command in every round; one round before them warms the file cache."""
    names = list(COMMANDS)
    for name in names:
        seconds(COMMANDS[name])
    measured = []
    for _ in range(rounds):
        chance.shuffle(names)
        measured.append({name: seconds(COMMANDS[name]) for name in names})
    return measured


def ratio(rounds: list[dict[str, float]], name: str) -> float:
    """Median time of `name` over the median time of the base."""
    return statistics.median(r[name] for r in rounds) / statistics.median(r[BASE] for r in rounds)


def interval(
    rounds: list[dict[str, float]], name: str, draws: int, chance: random.Random
) -> tuple[float, float]:
    """Ends of the 95 % bootstrap interval of the ratio."""
    ratios = sorted(ratio(chance.choices(rounds, k=len(rounds)), name) for _ in range(draws))
    return ratios[int(draws * 0.025)], ratios[int(draws * 0.975)]


def gate(low: float, high: float, limit: float) -> str:
    """`pass` when even the upper end is within the limit, `fail` when the lower end is not, else `undecided`."""
    if high <= limit:
        return "pass"
    return "fail" if low > limit else "undecided"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--limit", type=float, default=1.5, help="largest ratio that passes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    rounds = measure(options.rounds, chance)
    result: dict[str, object] = {
        "format": 1,
        "rounds": options.rounds,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
    }
    lows, highs = [], []
    for name in COMMANDS:
        median = statistics.median(r[name] for r in rounds) * 1000
        low, high = interval(rounds, name, options.draws, chance)
        print(f"{name:<16}{median:7.1f} ms   {ratio(rounds, name):.2f} × ({low:.2f}–{high:.2f})")
        result[name] = {"median_ms": median, "ratio": ratio(rounds, name), "low": low, "high": high}
        lows.append(low)
        highs.append(high)
    result["limit"] = options.limit
    result["gate"] = gate(max(lows), max(highs), options.limit)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
