"""`rung.lock` on disk: read strictly, written whole, changed by one process at a time.

Objects have their keys in one order and artefacts are sorted by name, so that a change of one model is a change of
its lines. What the values mean is `record`'s.
"""

from __future__ import annotations

import contextlib
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from rung.errors import ConfigError, StorageError
from rung.exclusive import let_go, take
from rung.files import storage_error, write_atomically
from rung.models.lock.lines import line_of
from rung.models.lock.record import Lock
from rung.models.lock.sound import complaint
from rung.version import __version__

LOCK_NAME = "rung.lock"
FORMAT = 1
LARGEST = 64 * 2**20
"""Bytes; chat templates are the longest thing in a lock, some kilobytes each."""
PATIENCE_S = 30.0
"""Seconds to wait for another process that changes the lock, which takes it milliseconds."""
_LOOK_AGAIN_S = 0.01

_RESTORE = "restore it from version control, or remove it and pin the models again: rung lock"
_PLACE = re.compile(r" - at `(\$[^`]*)`$")


class _Version(msgspec.Struct):
    """What every format of the file begins with."""

    format: int


def read_lock(path: Path) -> Lock:
    """Read a lock.

    Args:
        path: of `rung.lock`; where there is no such file, nothing is pinned.

    Raises:
        ConfigError: it is damaged or of a newer format; the message starts with the file and line.
        StorageError: it cannot be read.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(
            facts.st_mode
        ):  # asked before: opening a pipe waits for somebody to write to it
            raise ConfigError(f"{path}: is not a regular file", hint=_RESTORE)
        if facts.st_size > LARGEST:
            raise ConfigError(f"{path}: has more than {LARGEST:,} bytes", hint=_RESTORE)
        content = path.read_bytes()
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise StorageError(
            f"cannot read {str(path)!r}: {error.strerror or error}", hint="check its permissions"
        ) from error
    return _decoded(content, path)


def update_lock(path: Path, change: Callable[[Lock], Lock]) -> Lock:
    """Change a lock; of processes and threads that do so at once, none loses what another wrote.

    Args:
        path: of `rung.lock`; it is made where it is not there.
        change: from the lock as it is to the lock to be; called while others wait.

    Returns:
        The lock as it is now.

    Raises:
        ConfigError: what is there is damaged.
        StorageError: it cannot be read or written, or another process does not finish with it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    with _alone(path):
        before = read_lock(path)
        after = change(before)
        if after != before or not path.exists():
            content = encoded(after)
            _decoded(content, path)  # what could not be read again is not written
            write_atomically(path, content)
    return after


def encoded(lock: Lock) -> bytes:
    """A lock as the file has it."""
    ordered = msgspec.structs.replace(
        lock, artefacts=tuple(sorted(lock.artefacts, key=lambda each: each.name))
    )
    content = msgspec.json.encode(ordered)  # keys in the order of the structs: the format first
    return msgspec.json.format(content, indent=2) + b"\n"


def _decoded(content: bytes, path: Path) -> Lock:
    try:
        content.decode()
        version = msgspec.json.decode(content, type=_Version).format
    except msgspec.ValidationError:
        version = FORMAT  # what is wrong with it is said below, with its place
    except UnicodeDecodeError as error:
        raise _malformed(content, path, f"it is not UTF-8 (byte {error.start})") from error
    except msgspec.DecodeError as error:
        raise _malformed(content, path, str(error)) from error
    except RecursionError as error:
        raise _malformed(content, path, "it is nested too deeply (byte 0)") from error
    if version > FORMAT:
        raise ConfigError(
            f"{path}: format {version} is newer than Rung {__version__}, which reads format {FORMAT}",
            hint="update Rung, the way it was installed: pip install --upgrade rung, or a newer checkout",
        )
    try:
        lock = msgspec.json.decode(content, type=Lock)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        line = line_of(content, place[1] if place else "$")
        what = _PLACE.sub("", str(error))
        where = f" ({place[1].removeprefix('$.')})" if place else ""
        raise ConfigError(f"{path}:{line}: {what}{where}", hint=_RESTORE) from error
    if lock.format != FORMAT:
        raise ConfigError(f"{path}: {lock.format} is not a format of {LOCK_NAME}", hint=_RESTORE)
    if wrong := complaint(lock):
        raise ConfigError(f"{path}: {wrong}", hint=_RESTORE)
    return lock


def _malformed(content: bytes, path: Path, what: str) -> ConfigError:
    for number, line in enumerate(content.splitlines(), start=1):
        if line.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
            return ConfigError(
                f"{path}:{number}: a merge left its conflict marks in the file",
                hint="keep one side (git checkout --ours or --theirs), then pin what is missing: rung lock",
            )
    at = re.search(r"\(byte (\d+)\)", what)
    end = int(at[1]) if at else len(content)
    line_number = content[:end].count(b"\n") + 1
    return ConfigError(f"{path}:{line_number}: {what}", hint=_RESTORE)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes and threads from changing the lock meanwhile.

    Not the lock itself is held, which is replaced, nor its folder, which programs that are not Rung may hold.
    """
    guard = path.with_name(f".{path.name}.guard")
    try:
        descriptor = _waited(guard, path)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        yield
    finally:
        let_go(guard, descriptor)


def _waited(guard: Path, path: Path) -> int:
    """Wait until no one else changes the lock."""
    until = time.monotonic() + PATIENCE_S
    while (descriptor := take(guard)) is None:
        if time.monotonic() > until:
            raise StorageError(
                f"{str(path)!r} is being changed by another process, for {PATIENCE_S:.0f} s now",
                hint="wait for it, or end it",
            )
        time.sleep(_LOOK_AGAIN_S)
    return descriptor
