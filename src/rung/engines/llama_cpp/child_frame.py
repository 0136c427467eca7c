"""The frame of every child program: limits before anything large is loaded, instructions in, ready out, and an end
when the parent is gone.

Runs in the child only. What the program does in between is given to `run`.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from rung.engines.llama_cpp.handshake import REASON, Instructions, Ready

_INSTRUCTIONS_BYTES = 1024 * 1024

Program = Callable[[Instructions], Ready]


def run(load: Program, serve: Callable[[], None]) -> NoReturn:
    """Be a child process: never returns.

    Args:
        load: loads the model and opens the socket; an exception's text becomes the reason of the failed start.
        serve: called once the supervisor has been told; returns only when there is nothing left to do.
    """
    answer = _take_standard_output()
    os.umask(0o177)
    line = sys.stdin.buffer.readline(_INSTRUCTIONS_BYTES)
    _die_with_parent_while_loading()
    instructions = msgspec.json.decode(line, type=Instructions)
    _limit(instructions.address_space)
    try:
        ready = load(instructions)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the reason, and this process is at its end
        sys.stderr.write(f"\n{REASON}{error or type(error).__name__}\n")
        sys.stderr.flush()
        os._exit(3)
    _exit_with_parent(Path(instructions.socket))
    os.write(answer, msgspec.json.encode(ready) + b"\n")
    os.close(answer)
    serve()
    os._exit(0)


def _take_standard_output() -> int:
    """The original standard output, kept for the answer; what libraries print goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    return answer


def _limit(address_space: int | None) -> None:
    """Bound memory and keep dumps of memory, which would hold user text, off the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if address_space is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        address_space = min(address_space, most)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


def _die_with_parent_while_loading() -> None:
    """Let the kernel end this process (SIGIO) when its standard input closes.

    Loading holds the interpreter's lock for as long as it takes, so no thread of ours could notice. The signal comes
    for anything that happens there, so the instructions have to be read before.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # nothing more is written there: it closed before
        os._exit(0)


def _exit_with_parent(socket: Path) -> None:
    """From now on a thread waits for standard input to close, and cleans up before it ends the process."""
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) & ~os.O_ASYNC)

    def wait() -> None:
        while os.read(0, 4096):
            pass
        try:
            socket.unlink(missing_ok=True)
            socket.parent.rmdir()
        except OSError:
            pass  # the folder holds another child's socket, or is gone
        os._exit(0)

    threading.Thread(target=wait, name="parent", daemon=True).start()
