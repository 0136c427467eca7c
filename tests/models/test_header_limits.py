"""Every malformed file is refused in bounded memory and time, and for the reason that it is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from malformed.contradictory_cases import CONTRADICTORY, contradictory_cases
from malformed.gguf_cases import GGUF, gguf_cases
from malformed.gguf_parts import TEXT, array, gguf, tensor, text, word
from malformed.safetensors_cases import SAFETENSORS, safetensors, safetensors_cases

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc as on Linux")

CHILD = """
import json, pathlib, resource, sys
from rung.errors import ModelError
from rung.models.header import read_header
from rung.models.safetensors import read_safetensors

resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
read = {"gguf": read_header, "safetensors": read_safetensors}
said = {}
for line in sys.stdin:
    path = pathlib.Path(line.rstrip("\\n"))
    try:
        read[path.suffix[1:]](path)
    except ModelError as refusal:
        assert refusal.hint
        said[str(path)] = refusal.message
# What getrusage says is at least what the process that started this one held.
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
print(json.dumps([said, 1024 * next(int(s.split()[1]) for s in lines if s.startswith("VmHWM"))]))
"""
LIMIT = 200 << 20


def refusals(paths: list[Path]) -> tuple[dict[str, str], int]:
    """What files are refused with in a limited process, by path, and the most memory that it held."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, peak = json.loads(done.stdout)
    return said, peak


def test_every_malformed_file_is_refused_within_200_mb(tmp_path: Path) -> None:
    """One sentence each, which fits what is wrong with it; the files of a terabyte are mostly holes."""
    cases = [*zip(gguf_cases(tmp_path / "gguf").values(), GGUF.values(), strict=True)]
    cases += zip(
        safetensors_cases(tmp_path / "safetensors").values(), SAFETENSORS.values(), strict=True
    )
    said, peak = refusals([path for path, _ in cases])
    wrong = {
        path.name: said.get(str(path))
        for path, case in cases
        if case.sentence not in said.get(str(path), "")
    }
    assert wrong == {}
    assert peak < LIMIT


def longest(folder: Path) -> list[Path]:
    """Write headers that are right and as long as any may be, each in another way."""
    count = 2_000_000
    texts = array("a", TEXT, count, text("x" * 24) * count)
    tensors = [tensor(f"{number:050}", offset=32 * number) for number in range(99_999)]
    short = [array(str(key), TEXT, 4000, text("y" * 60) * 4000) for key in range(49)]
    wide = [word(str(key), "x" * (3 << 20) + "😀") for key in range(5)]
    notes = {f"{number:010}": "é" for number in range(490_000)}
    files = {
        "texts.gguf": gguf([texts]),
        "tensors.gguf": gguf([], tensors),
        "short.gguf": gguf(short),
        "wide.gguf": gguf(wide),
        "notes.safetensors": safetensors({"__metadata__": notes}),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def test_the_longest_headers_are_read_within_200_mb(tmp_path: Path) -> None:
    """Two million texts, a hundred thousand tensors, texts that take four bytes a letter."""
    said, peak = refusals(longest(tmp_path))
    assert said == {}
    assert peak < LIMIT


def test_there_are_as_many_kinds_as_were_asked_for() -> None:
    """37 of GGUF and 21 of safetensors are the least."""
    assert len(GGUF) >= 37
    assert len(SAFETENSORS) >= 21


def test_a_contradictory_file_is_read(tmp_path: Path) -> None:
    """Nothing is wrong with its form: it is for `sanity` to say."""
    said, _ = refusals(list(contradictory_cases(tmp_path).values()))
    assert said == {}
    assert len(CONTRADICTORY) >= 20
