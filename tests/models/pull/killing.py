"""`rung pull` killed at any moment, again and again; shared by the suite and `bench/pull_kill.py`."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pullable import FILE, drift, pull_environment, sha256, start, visible

from hub import Hub
from rung.cli import main
from rung.models.lock.file import LOCK_NAME, read_lock

SECONDS = 60.0
"""Longest that one pull may take."""


@dataclass
class Tally:
    """What the kills did.

    Attributes:
        kills: processes that were killed while they ran.
        too_late: processes that had ended by then.
        resumed: bytes that later processes did not fetch again.
        shown: kills after the file was visible, before it was pinned or the process ended.
        unpinned: of these, those before the pin.
        whole: kills with all bytes there and nothing visible.
        bad: what was visible and not the right file, or a lock that could not be read.
        rounds: pulls that came to their end.
    """

    kills: int = 0
    too_late: int = 0
    resumed: int = 0
    shown: int = 0
    unpinned: int = 0
    whole: int = 0
    rounds: int = 0
    bad: list[str] = field(default_factory=list)


class Running(Protocol):
    """A pull in a process of its own."""

    def alive(self, seconds: float = 0.0) -> bool:
        """Whether it still runs after so long, or until it ends."""

    def kill(self, *, children: bool) -> None:
        """SIGKILL, to the process alone or to its children, too; ends when it is gone."""

    def end(self) -> int | None:
        """Its exit code when it ends by itself; what it held is let go."""


class Started:
    """`rung pull` as a person starts it.

    Args:
        hub: that has the file.
        reference: of the file.
        root: folder of the project.
    """

    def __init__(self, hub: Hub, reference: str, root: Path) -> None:
        self._process = start(root, hub, [reference])

    def alive(self, seconds: float = 0.0) -> bool:
        """Whether it still runs after so long, or until it ends."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is None

    def kill(self, *, children: bool) -> None:
        """SIGKILL; ends when it is gone."""
        if children:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process.communicate()

    def end(self) -> int | None:
        """Its exit code when it ends by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=SECONDS)
        self._process.kill()
        return self._process.wait()


class Forked:
    """The same command in a process that is forked from one where Rung is imported already: quicker to start.

    Args:
        hub: that has the file.
        reference: of the file.
        root: folder of the project.
    """

    def __init__(self, hub: Hub, reference: str, root: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["killing", "rung.cli.pull", "aiohttp"])
        self._process = context.Process(
            target=command, args=(reference, root, pull_environment(root, hub))
        )
        self._process.start()

    def alive(self, seconds: float = 0.0) -> bool:
        """Whether it still runs after so long, or until it ends."""
        self._process.join(seconds)
        return self._process.exitcode is None

    def kill(self, *, children: bool) -> None:
        """SIGKILL; ends when it is gone."""
        if children and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def end(self) -> int | None:
        """Its exit code when it ends by itself."""
        self._process.join(SECONDS)
        code = self._process.exitcode
        self._process.kill()
        self._process.join()
        return code


def command(reference: str, root: Path, environment: Mapping[str, str]) -> None:
    """`rung pull` in this process, which has been forked for it."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(root)
    sys.stdout = sys.stderr = (root.parent / "said.txt").open("a")
    sys.argv = ["rung", "pull", reference]
    main()


class Killer:
    """Kills pulls of one file.

    Args:
        hub: that has the file.
        reference: of the file, which is called `FILE`.
        root: folder of the project.
        digest: of the file.
        size: of the file in bytes.
        seed: of the moments.
        recoveries: how often a file that is visible and not pinned is left to the next pull to pin.
        begin: starts a pull.
        rest_s: seconds that a pull takes at most from its last byte on, about.
    """

    def __init__(
        self,
        hub: Hub,
        reference: str,
        root: Path,
        digest: str,
        size: int,
        seed: int,
        recoveries: int,
        begin: Callable[[Hub, str, Path], Running] = Started,
        rest_s: float = 0.7,
    ) -> None:
        self._hub = hub
        self._begin: Callable[[], Running] = functools.partial(begin, hub, reference, root)
        self._root = root
        self._digest = digest
        self._size = size
        self._recoveries = recoveries
        self._rest_s = rest_s
        self._random = random.Random(seed)
        self.tally = Tally()

    def run(self, kills: int) -> Tally:
        """Kill so many pulls; one that came to its end is begun anew, one not pinned is ended first."""
        while self.tally.kills < kills:
            self._kill_one()
            self._check()
            if visible(self._root):
                if not (self._root / LOCK_NAME).exists():
                    self._recover()
                self._begin_anew()
        self.finish()
        return self.tally

    def _recover(self) -> None:
        if self._recoveries:
            self._recoveries -= 1
            self.finish()

    def finish(self) -> None:
        """Let the last pull come to its end, and look at what is there."""
        code = self._begin().end()
        assert code == 0, code
        self._check()
        self._check_end()

    def _check_end(self) -> None:
        if visible(self._root) != [FILE] or drift(self._root):
            self.tally.bad.append(f"in the end: {visible(self._root)} {drift(self._root)}")

    def _kill_one(self) -> None:
        had = self._unfinished()
        process = self._begin()
        alive = self._wait(process, had)
        process.kill(children=alive and self._random.random() < 0.5)
        if alive:
            self._count(had)
        else:
            self.tally.too_late += 1
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.tally.rounds += 1
        if (self._root / LOCK_NAME).exists():
            self._check_end()
        shutil.rmtree(self._root / "models")
        (self._root / LOCK_NAME).unlink(missing_ok=True)

    def _wait(self, process: Running, had: int) -> bool:
        """Until the moment has come; False when the process ended before."""
        asked, share = len(self._hub.log), self._random.random()
        goal, rest = self._size, self._random.uniform(0, self._rest_s)  # hashing, scanning, showing
        if share < 0.4 and had < self._size:
            goal, rest = had + self._random.randint(0, self._size // 3), 0.0  # fetching
        until = time.monotonic() + SECONDS
        while process.alive() and time.monotonic() < until:
            there = len(self._hub.log) > asked and self._unfinished() >= min(goal, self._size)
            if visible(self._root) or (there and share < 0.8):
                if visible(self._root):
                    rest = self._random.uniform(0, 0.02)  # pinning
                return process.alive(rest)
            time.sleep(0.0005)
        return process.alive()

    def _count(self, had: int) -> None:
        tally = self.tally
        tally.kills += 1
        tally.resumed += had
        if visible(self._root):
            tally.shown += 1
            tally.unpinned += not (self._root / LOCK_NAME).exists()
        elif self._unfinished() == self._size:
            tally.whole += 1

    def _unfinished(self) -> int:
        sizes = [0]
        for path in (self._root / "models" / ".part").glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return max(sizes)

    def _check(self) -> None:
        """Nothing is visible but the right file, and the lock is none or whole."""
        for name in visible(self._root):
            if name != FILE or sha256(self._root / "models" / name) != self._digest:
                self.tally.bad.append(f"after kill {self.tally.kills}: {name}")
        try:
            pinned = read_lock(self._root / LOCK_NAME).artefacts
        except Exception as error:  # noqa: BLE001  # whatever it is, the lock is bad
            self.tally.bad.append(f"after kill {self.tally.kills}: {error}")
            return
        if pinned and visible(self._root) != [FILE]:
            self.tally.bad.append(f"after kill {self.tally.kills}: pinned and not visible")
