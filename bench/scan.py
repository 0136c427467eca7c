"""What `rung scan` detects, what it alarms over for nothing, and what that takes.

Hostile files of every kind are made (those of the tests, and of each pickle `--sizes` - 1 more with seeded harmless
opcodes before what it does, in every notation), and benign ones: chat templates in the styles in use, tokenizers,
generated models, safetensors, what lies under --data, and the model that comes with Rung. Each is scanned in a process
of its own. Beside it, picklescan looks at the files made of pickles. --also names more folders of clean files. Texts
that some interpreter runs are right when they are not called clean; everything else hostile has to be blocked.

Seconds are of the whole call and include starting the scanner's process; memory is the largest peak of that process
together with the one that started it.
Prints a table of kinds, then one JSON line.

    python bench/scan.py --data ../shared/data/weights_tiny_gguf
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib.util
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "models" / "scan")]

from benign_files import write_benign  # type: ignore[import-not-found]  # noqa: E402  # on the path since a line ago
from test_scan_limits import SLOW  # type: ignore[import-not-found]  # noqa: E402

from malformed.contradictory_cases import CONTRADICTORY  # noqa: E402
from malformed.gguf_cases import GGUF, Case, written  # noqa: E402
from malformed.hostile_archives import ARCHIVES, POLYGLOTS, write  # noqa: E402
from malformed.hostile_files import FILES, TEMPLATES, UNDECIDED, holes, special_files  # noqa: E402
from malformed.hostile_pickles import PICKLES  # noqa: E402
from malformed.safetensors_cases import SAFETENSORS  # noqa: E402
from rung.models.scan.report import Outcome  # noqa: E402
from rung.models.scan.scanner import scan_file, scan_folder  # noqa: E402
from rung.starter import model_path  # noqa: E402

HARMLESS = frozenset({"embedding of another length", "experts of another count", "more tokens than rows",
                      "token beyond the vocabulary"})  # fmt: skip
"""Contradictions that engines refuse cleanly or pass over; they are noted and not counted as hostile."""
TEXTS = "texts of no format"
_HARMLESS = (b"N0", b"I0x1f\n0", b"I-1\n0", b"L7L\n0", b"F1e9\n0", b"S'a'\n0", b'S"b"\n0', b"Vc\xc3\xa9\n0", b"(1",
             b"(0", b"]0", b"}0", b")0", b"N200", b"(l0", b"(t0", b"(d0")  # fmt: skip
"""Opcodes that leave a stack as it was."""


class Scanned(NamedTuple):
    """One file's verdict and what it took; `blocked` is whether it is not clean, for texts of no format."""

    kind: str
    name: str
    blocked: bool
    seconds: float
    picklescan: bool | None = None


def hostile(folder: Path, copies: int, chance: random.Random) -> dict[str, Mapping[str, Path]]:
    """Hostile files by kind and name."""
    senseless: dict[str, Case] = {n: c for n, c in CONTRADICTORY.items() if n not in HARMLESS}
    kinds: dict[str, Mapping[str, Path]] = {
        "pickles": write(folder / "pickles", varied(PICKLES, copies, chance)),
        "archives": write(folder / "archives", ARCHIVES),
        "polyglots": write(folder / "polyglots", POLYGLOTS),
        "files": write(folder / "files", FILES),
        TEXTS: write(folder / "texts", UNDECIDED),
        "slow files": write(folder / "slow", SLOW),
        "templates": write(folder / "templates", {n: t.encode() for n, t in TEMPLATES.items()}),
        "GGUF headers": written(folder / "gguf", GGUF),
        "safetensors headers": written(folder / "safetensors", SAFETENSORS, "safetensors"),
        "senseless GGUF": written(folder / "senseless", senseless),
        "terabytes": holes(folder / "holes"),
    }
    return kinds


def varied(cases: Mapping[str, bytes], copies: int, chance: random.Random) -> dict[str, bytes]:
    """Every pickle, and copies with harmless opcodes before what it does; files that hold a pickle stay as they are."""
    made = dict(cases)
    for number in range(1, copies):
        for name, content in cases.items():
            at = 2 if content.startswith(b"\x80") else 0
            if at or content[:1] in b"cN(IS":
                more = b"".join(chance.choices(_HARMLESS, k=chance.randrange(1, 3000)))
                made[f"{name} copy {number}"] = content[:at] + more + content[at:]
    return made


def timed(kind: str, name: str, path: Path) -> Scanned:
    """Scan one file in a process of its own."""
    start = time.perf_counter()
    report = scan_file(path, name=name)
    seconds = time.perf_counter() - start
    texts = kind == TEXTS and report.outcome is Outcome.TEXT
    return Scanned(kind, name, texts or report.outcome is Outcome.BLOCKED, seconds)


def second(path: Path) -> bool | None:
    """Whether picklescan calls a file dangerous, or cannot say, by its exit code; None where it is not installed."""
    if importlib.util.find_spec("picklescan") is None:
        return None
    from picklescan.scanner import scan_file_path  # noqa: PLC0415

    logging.disable(logging.CRITICAL)
    try:
        result = scan_file_path(str(path))
    except Exception:  # noqa: BLE001  # what its users see as a failure
        return True
    return bool(result.issues_count or result.scan_err)


def linked(folder: Path) -> Iterable[Scanned]:
    """Links, pipes and names, which only a scan of their folder sees."""
    made = special_files(folder)
    start = time.perf_counter()
    found = scan_folder(folder / "inside")
    seconds = (time.perf_counter() - start) / len(found)
    outcomes = {path: report.outcome for path, report in found}
    for name, path in made.items():
        yield Scanned("links and names", name, outcomes[path] is Outcome.BLOCKED, seconds)


def benign(folder: Path, data: Path, also: Sequence[Path]) -> list[tuple[str, str, Path]]:
    """Files that are to be clean, with their kind and name."""
    found = [("made", name, path) for name, path in write_benign(folder).items()]
    found.append(("starter", "starter", model_path()))
    for kind, root in [("data", data), *(("also", root) for root in also)]:
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        found += [(kind, path.name, path) for path in paths]
    return found


def peak(folder: Path) -> float:
    """The most memory, in MB, that scanning any file below a folder takes, of both processes together.

    The system counts the memory of whoever started a process as its own until it is another program; so the one that
    starts it here is small.
    """
    code = (
        "import resource, sys; from pathlib import Path; from rung.models.scan.scanner import scan_path;"
        "scan_path(Path(sys.argv[1]));"
        "own = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')];"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, *own)"
    )
    words = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return round(sum(map(int, done.stdout.split())) / 1000, 1)


def table(results: Sequence[Scanned]) -> None:
    """One line for each kind."""
    kinds: dict[str, list[Scanned]] = collections.defaultdict(list)
    for each in results:
        kinds[each.kind].append(each)
    print(f"{'kind':<24}{'files':>7}{'blocked':>9}{'picklescan':>12}{'most s':>9}")
    for kind, members in kinds.items():
        asked = [each for each in members if each.picklescan is not None]
        beside = f"{sum(bool(each.picklescan) for each in asked)}" if asked else "-"
        blocked = sum(each.blocked for each in members)
        most = max(each.seconds for each in members)
        print(f"{kind:<24}{len(members):>7}{blocked:>9}{beside:>12}{most:>9.2f}")


def run(arguments: argparse.Namespace) -> dict[str, object]:
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bad: list[Scanned] = []
        for kind, paths in hostile(folder / "hostile", arguments.sizes, chance).items():
            for case, path in paths.items():
                done = timed(kind, case, path)
                bad.append(done._replace(picklescan=second(path)) if kind == "pickles" else done)
        bad += linked(folder / "links")
        files = benign(folder / "benign", arguments.data, arguments.also)
        good = [timed(f"benign: {kind}", case, path) for kind, case, path in files]
        memory = max(peak(folder / "hostile"), peak(folder / "benign"))
    table([*bad, *good])
    missed = [f"{each.kind}: {each.name}" for each in bad if not each.blocked]
    alarms = [f"{each.kind}: {each.name}" for each in good if each.blocked]
    for line in (*missed, *alarms):
        print("wrong:", line)
    pickles = [each for each in bad if each.picklescan is not None]
    seconds = sorted(each.seconds for each in bad)
    return {
        "hostile": len(bad),
        "kinds": len({(each.kind, each.name.split(" copy ")[0]) for each in bad}),
        "blocked": len(bad) - len(missed),
        "missed": missed,
        "benign": len(good),
        "false_alarms": len(alarms),
        "alarms": alarms,
        "pickles": len(pickles),
        "pickles_blocked": sum(each.blocked for each in pickles),
        "pickles_picklescan": sum(bool(each.picklescan) for each in pickles),
        "seconds_median": round(seconds[len(seconds) // 2], 3),
        "seconds_most": round(seconds[-1], 3),
        "seconds_most_benign": round(max(each.seconds for each in good), 3),
        "mb_most": memory,
        "seed": arguments.seed,
        "sizes": arguments.sizes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/weights_tiny_gguf"))
    parser.add_argument("--also", type=Path, action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, default=2, help="files of each pickle")
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
