"""A reader that leaves, as in `rung … | head -1`: every verb ends quietly with the exit code of SIGPIPE."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNG = [sys.executable, "-W", "error", "-m", "rung"]
GONE = 141
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""The environment in which Python's own output is buffered, as in a shell: unbuffered, it drops what is cut off."""


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have no size here")
def test_a_reader_of_the_first_line() -> None:
    """What is longer than the pipe meets its end."""
    with subprocess.Popen(
        [*RUNG, "schema", "config"],
        bufsize=0,
        pipesize=4096,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=BUFFERED,
    ) as verb:
        assert verb.stdout is not None
        assert verb.stderr is not None
        assert verb.stdout.readline() == b"{\n"
        verb.stdout.close()
        assert verb.stderr.read() == b""
    assert verb.returncode == GONE


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("schema", "config"),
        ("init", "new"),
        ("doctor",),
    ],
)
def test_a_reader_that_left_before_the_first_word(words: tuple[str, ...], tmp_path: Path) -> None:
    """Verbs, their help, and what the command says without any verb."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*RUNG, *words],
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        env=BUFFERED,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (GONE, b"")


@pytest.mark.parametrize(
    "words", [("nonsense",), ("schema", "--nonsense"), ("run", "no.gguf", "hi")]
)
def test_nobody_who_reads_the_error(words: tuple[str, ...], tmp_path: Path) -> None:
    """As in `rung … 2>&1 | true`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*RUNG, *words], cwd=tmp_path, stdout=writer, stderr=writer, env=BUFFERED, check=False
    )
    os.close(writer)
    assert done.returncode == GONE
