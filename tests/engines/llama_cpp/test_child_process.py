"""A child never outlives its parent, whatever either is doing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from supervised import parameters, running, wait_until

from gguf_models import tiny_model
from rung.engines.llama_cpp.handshake import Instructions, Ready
from rung.engines.llama_cpp.role import Role

PARENT = """
import sys, time
from pathlib import Path
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.process import ChildProcess
from rung.engines.llama_cpp.role import Role
child = ChildProcess(
    ModelParameters(path=sys.argv[1], context=512), Role.SERVER,
    folder=Path(sys.argv[2]), generation=1, address_space=None,
)
if sys.argv[3] == "ready":
    child.ready.result(30)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["ready", "loading"])
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, moment: str) -> None:
    """Also while it loads, which holds the interpreter's lock; once ready it removes its socket too."""
    loop = "{% for i in range(1000000000) %}x{% endfor %}"
    changes = {"template": loop} if moment == "loading" else {}
    path = tiny_model(tmp_path / "model.gguf", **changes)
    folder = tmp_path / "sockets"
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, path, folder, moment], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    if moment == "loading":
        wait_until(lambda: b"xllamacpp" in Path(f"/proc/{pid}/maps").read_bytes())
    assert running(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not running(pid))
    if moment == "ready":
        assert not folder.exists()


def waiting(role: Role) -> subprocess.Popen[bytes]:
    """A child that waits for its instructions."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", role.value],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: Path(f"/proc/{child.pid}/wchan").read_text().endswith("pipe_read"))
    return child


@pytest.mark.parametrize("role", Role)
def test_a_child_takes_instructions_that_come_late(tiny: Path, tmp_path: Path, role: Role) -> None:
    """A parent that is slow for a moment does not cost a start."""
    instructions = Instructions(
        parameters=parameters(tiny), socket=str(tmp_path / "s.sock"), key="k", address_space=None
    )
    with waiting(role) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(instructions) + b"\n")
        child.stdin.flush()
        assert msgspec.json.decode(child.stdout.readline(), type=Ready)
        child.stdin.close()
        assert child.wait(20) == 0


def test_a_child_without_instructions_ends(tmp_path: Path) -> None:
    """Its parent was gone before it wrote a line."""
    with waiting(Role.SERVER) as child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(20) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""
