"""What looking at a file may take, and what the process that does it is left with."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from malformed.gguf_parts import gguf, tensor, word
from malformed.hostile_files import TEMPLATES
from malformed.hostile_pickles import PICKLES
from rung.models.scan.child import LEAST_CPU_S
from rung.models.scan.report import Outcome, Report
from rung.models.scan.scanner import scan_file, scan_path

_PIECES = 3_900_000


def _slow_pickle() -> bytes:
    """Two long texts, and thousands of names made of them."""
    made = b"\x80\x04"
    for letter in (b"A", b"B"):
        made += b"X" + struct.pack("<I", _PIECES) + letter * _PIECES + b"\x94"
    return made + b"h\x00h\x01\x930" * 9000 + b"."


def _many_templates() -> bytes:
    texts = [
        word(f"tokenizer.chat_template.{number}", "{{ messages[0].content }}" + "x" * 500)
        for number in range(9000)
    ]
    return gguf([word("general.architecture", "llama"), *texts], [tensor("a.weight")])


SLOW: dict[str, bytes] = {
    "a template that is never closed": b'{"template": "' + b"{{" * 2_000_000 + b'"}',
    "templates that are never closed": b'[{"template": "' + b"{{" * 250_000 + b'"}]',
    "a template of forty megabytes": b'{"chat_template": "' + "é".encode() * 20_000_000 + b'"}',
    "names of megabytes": _slow_pickle(),
    "nine thousand templates": _many_templates(),
    "opcodes without end": PICKLES["more opcodes than are looked at"],
}
"""Files that took seconds, or would, if nobody counted."""


@pytest.mark.parametrize("name", SLOW)
def test_a_file_gets_so_much_time_and_no_more(tmp_path: Path, name: str) -> None:
    """From its first byte on, whatever kind of file it turns out to be."""
    path = tmp_path / "file"
    path.write_bytes(SLOW[name])
    report, seconds = _cpu(path)
    assert report.outcome is Outcome.BLOCKED
    assert (
        seconds < 4 * LEAST_CPU_S + 1
    )  # the largest files, and starting the process on a slow machine


def _cpu(path: Path) -> tuple[Report, float]:
    """A report, and the CPU seconds of the process that made it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = scan_file(path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return report, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_names_of_a_slow_pickle_are_told(tmp_path: Path) -> None:
    """Shortened, because each is of megabytes."""
    path = tmp_path / "file"
    path.write_bytes(SLOW["names of megabytes"])
    rules = [finding.rule for finding in scan_file(path).findings]
    assert rules[:2] == ["pickle", "pickle-global"]


def test_a_file_that_took_its_time_leaves_the_next_one_its_own(tmp_path: Path) -> None:
    """Each has its allowance."""
    slow = TEMPLATES["a wide old format"]
    for number in range(2):
        (tmp_path / f"{number}.jinja").write_text(slow)
        (tmp_path / f"{number}.json").write_text("{}")
    outcomes = [report.outcome for report in scan_path(tmp_path)]
    assert outcomes == [Outcome.BLOCKED, Outcome.CLEAN] * 2


def test_rung_need_not_be_installed_to_be_found_by_its_scanner(tmp_path: Path) -> None:
    """The process looks at no environment and runs from anywhere."""
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "msgspec.py").write_text("raise SystemExit(3)")
    words = (
        "import sys; from pathlib import Path; from rung.models.scan.scanner import scan_file;"
        "print(scan_file(Path('a.json')).outcome)"
    )
    source = str(Path(__file__).resolve().parents[3] / "src")
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {source!r}); {words}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "clean\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only there")
def test_the_process_reaches_no_network_where_the_system_allows_that() -> None:
    """And can gain no privileges."""
    code = (
        "import socket, sys; from rung.models.scan.isolation import isolate; away = isolate();"
        "lines = open('/proc/self/status').read().splitlines();"
        "print([line.split()[1] for line in lines if line.startswith('NoNewPrivs')][0]);"
        "print(away and socket.socket().connect_ex(('127.0.0.1', int(sys.argv[1]))) == 0)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", code, port], capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["1", "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there")
def test_the_process_ends_with_the_one_that_asked_it() -> None:
    """Even when that was killed."""
    inner = (
        "import os, time; from rung.models.scan.isolation import isolate; isolate();"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    outer = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=False)"
    )
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(200):
        if not _runs(child):
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it outlived the process that started it")


def _runs(process: int) -> bool:
    """Whether a process is there and no corpse."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")
