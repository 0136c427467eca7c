"""One child process from its start to its end: its pipes, its socket, what it said, how it ended.

One thread for each child reads its pipes, so that a child never waits for a busy event loop and its last words are
kept whatever the loop does. When to start, whom to let in and when to end it is `supervisor`'s.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO

import msgspec

from rung.engines.llama_cpp import last_words
from rung.engines.llama_cpp.buffers import BufferLog, Buffers
from rung.engines.llama_cpp.handshake import Instructions, Ready
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.errors import EngineUnavailable

_LINES = 200
_LAST_MOMENTS_S = 2.0
"""What a child that had been ready said longer before its end than this has nothing to do with it."""

_LINE_BYTES = 2000
_READ_BYTES = 65536
_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
)
"""Environment variables that a child gets from ours; all others, credentials among them, stay here."""


class ChildProcess:
    """A started child.

    Args:
        parameters: the model.
        role: the program.
        folder: where its socket is made; nobody else may enter it.
        generation: number of this start, for the socket's name.
        address_space: bytes of address space it may take, None for any.

    Raises:
        EngineUnavailable: the system gives no process, no files or no thread for it.

    Attributes:
        socket: path of its Unix socket.
        key: what its requests have to show.
        ready: done when its model is loaded; never when it is not.
        exited: done when the process is gone, with the sentence that says why.
        ended_because: why we ended it, None where we did not.
    """

    def __init__(
        self,
        parameters: ModelParameters,
        role: Role,
        *,
        folder: Path,
        generation: int,
        address_space: int | None,
    ) -> None:
        self.socket = str(folder / f"{generation}.sock")
        self.key = secrets.token_urlsafe(32)
        self.ready: Future[Ready] = Future()
        self.exited: Future[str] = Future()
        for future in (self.ready, self.exited):
            future.set_running_or_notify_cancel()  # waiting for it may be cancelled, it may not
        self.ended_because: str | None = None
        self._lines: collections.deque[tuple[float, str]] = collections.deque(maxlen=_LINES)
        self._ended_at: float | None = None
        self._log = BufferLog()
        self._process = _spawn(role, parameters.threads)
        instructions = Instructions(
            parameters=parameters, socket=self.socket, key=self.key, address_space=address_space
        )
        try:
            threading.Thread(target=self._read, name=f"rung child {self.pid}", daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads
            self._process.kill()
            with self._process:
                raise _not_started(str(error)) from error
        self._tell(msgspec.json.encode(instructions) + b"\n")

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs, asked of the system now."""
        return self._process.poll() is None

    @property
    def buffers(self) -> Buffers:
        """What its log says it allocated; complete a moment after it is ready."""
        return self._log.buffers()

    def epitaph(self) -> str | None:
        """Why it is gone, None while it lives."""
        if self.exited.done():
            return self.exited.result()
        return None if self.alive else self._sentence()

    async def gone(self, *, within_s: float | None = None) -> bool:
        """Wait until the process is gone, and tell whether it is."""
        return await _done(self.exited, timeout_s=within_s)

    async def loaded(self, *, within_s: float) -> bool:
        """Wait until the child is ready or gone or time is up, and tell whether it is ready."""
        await _done(self.ready, self.exited, timeout_s=within_s)
        return self.ready.done() and self.alive

    def kill(self, because: str) -> None:
        """End it at once; `because` completes "the engine process was ended because …"."""
        if self.alive:
            self.ended_because = because
            self._process.kill()

    def _tell(self, line: bytes) -> None:
        """Write the instructions; standard input stays open for as long as this process lives."""
        stdin = _pipe(self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # it is gone already: its exit says why
            stdin.write(line)
            stdin.flush()

    def _read(self) -> None:
        """Take what the child says until it is gone."""
        stdout, stderr = _pipe(self._process.stdout), _pipe(self._process.stderr)
        with selectors.DefaultSelector() as waiting:
            answer, words = _Lines(self._answered), _Lines(self._said)
            waiting.register(stdout, selectors.EVENT_READ, answer)
            waiting.register(stderr, selectors.EVENT_READ, words)
            while waiting.get_map():
                for key, _ in waiting.select():
                    piece = os.read(key.fd, _READ_BYTES)
                    key.data.feed(piece)
                    if not piece:
                        waiting.unregister(key.fileobj)
        self._process.wait()
        self._ended_at = time.monotonic()
        for pipe in (_pipe(self._process.stdin), stdout, stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        Path(self.socket).unlink(missing_ok=True)
        self.exited.set_result(self._sentence())

    def _answered(self, line: str) -> None:
        """The one line of the original standard output."""
        if not self.ready.done():
            try:
                ready = msgspec.json.decode(line, type=Ready)
            except msgspec.DecodeError:
                self._said(line)
                return
            self._lines.clear()
            self.ready.set_result(ready)

    def _said(self, line: str) -> None:
        if not self._log.take(line):
            self._lines.append((time.monotonic(), line))

    def _sentence(self) -> str:
        since = 0.0
        if had_been_ready := self.ready.done():
            since = (self._ended_at or time.monotonic()) - _LAST_MOMENTS_S
        code = self._process.returncode
        return last_words.sentence(
            code,
            [line for said, line in tuple(self._lines) if said >= since],
            ended_because=self.ended_because if code == -signal.SIGKILL else None,
            had_been_ready=had_been_ready,
        )


class _Lines:
    """Bytes made lines, however long the child makes them."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes, none at the end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if not piece or len(self._rest) > _LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            if line.strip():
                self._take(line[:_LINE_BYTES].decode("utf-8", "replace"))


async def _done(*futures: Future[Ready] | Future[str], timeout_s: float | None) -> bool:
    """Whether the first of some futures comes to its end in time."""
    waiting = [asyncio.wrap_future(future) for future in futures]
    try:
        done, _ = await asyncio.wait(
            waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        return bool(done)
    finally:
        for future in waiting:
            future.cancel()  # or it would report to a loop that may be closed by then


def _spawn(role: Role, threads: int) -> subprocess.Popen[bytes]:
    """The process, with pipes for all it says and hears."""
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-I", "-m", role.value],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(threads),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(error.strerror or str(error)) from error


def _not_started(why: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"no process for the engine could be started: {why}",
        hint="look at this process's limits of open files and processes, and at the machine's memory",
    )


def _environment(threads: int) -> dict[str, str]:
    """The child's environment, built from nothing."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **passed,
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": "0",  # spinning threads starve each other on a busy machine
        "GGML_NO_BACKTRACE": "1",  # or an abort starts a debugger
        "MALLOC_ARENA_MAX": "4",  # or each thread reserves 64 MiB of address space
    }


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe that was asked for."""
    assert pipe is not None  # noqa: S101  # for the type checker: all three are pipes
    return pipe
