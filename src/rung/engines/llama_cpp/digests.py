"""Which files a model is: their SHA-256, computed once while they stay as they are, and whether they still do.

A certificate is about exact weights. A file that is replaced under a running project would be loaded again by itself,
so an engine holds on to the files that it met first and takes no others, and where the project's lock names files,
only those.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.role import Role
from rung.errors import EngineUnavailable, ModelError
from rung.models.fingerprint import Fingerprint, changed_meanwhile, fingerprint
from rung.models.lock.hashing import hash_file
from rung.models.lock.record import LockedFile

_SPLIT = re.compile(r"(.*)-00001-of-([0-9]{5})\.gguf", re.DOTALL)
_MOST_PARTS = 1024
_RESTORE = "rung verify shows what changed; rung pull restores the pinned file"

_Prints = tuple[Fingerprint | None, ...]


class Digests(msgspec.Struct, frozen=True):
    """Digests of what answers depend on.

    Attributes:
        model: of the model, all its parts.
        adapters: of each adapter, in the order they are loaded.
    """

    model: str
    adapters: tuple[str, ...]


class PinnedFiles:
    """The files of one model as they were when they were first looked at; from then on no others count.

    Args:
        parameters: name the files.
        pins: what the project's lock says of those of them that it names, by path.
    """

    def __init__(self, parameters: ModelParameters, pins: Mapping[str, LockedFile] = {}) -> None:
        self._parts = parts_of(parameters.path)
        self._adapters = tuple(adapter.path for adapter in parameters.adapters)
        self._pins = pins
        self._admitted: _Prints | None = None
        self._pinned: _Prints | None = None
        self._digests: Digests | None = None
        self._seen: set[tuple[Role, int]] = set()
        self._hashing = threading.Lock()

    def check(self, role: Role, generation: int) -> None:
        """Check that a child has the files that were met first; call it with an open lease.

        Args:
            role: of the child.
            generation: which start of it.

        Raises:
            EngineUnavailable: they were replaced since, or are gone and the child may not have loaded them.
        """
        now = self._prints()
        if None in now and (role, generation) in self._seen:
            return  # removed while it is loaded: the child goes on with what it has
        self._hold(now)
        self._seen.add((role, generation))

    def expect(self) -> None:
        """Check, before anything is loaded, that no other files are in their place; that they are gone passes.

        It reads no file; `admit` does.

        Raises:
            EngineUnavailable: they were replaced since they were first met, or have another size than is pinned.
        """
        for path, pin in self._pins.items():
            print_ = _print(path)
            if print_ is not None and print_.size != pin.size:
                raise _drifted(pin.path, f"has {print_.size:,} bytes", f"{pin.size:,}")
        now = self._prints()
        if any(each is not None and _others(met, each) for met, each in self._pairs(now)):
            raise self._replaced()

    async def admit(self) -> None:
        """Check that the files are those that the lock names.

        They are read in full, in a thread, the first time and whenever something may have written to them since.

        Raises:
            EngineUnavailable: one has another digest, or cannot be read.
        """
        if self._pins and self._admitted != self._prints():
            await asyncio.to_thread(self._admit)

    def _admit(self) -> None:
        with self._hashing:  # who comes second finds it done
            before = self._prints()
            for path, pin in self._pins.items():
                if _print(path) is None:
                    continue  # the engine says whether it is needed
                found = file_digest(path)
                if found != pin.sha256:
                    raise _drifted(pin.path, f"is sha256 {found}", pin.sha256)
            if self._admitted is None or None not in before:
                self._hold(before)  # another file that comes in its place is not what was read
            self._admitted = before

    def digests(self) -> Digests:
        """Their digests; about a second for each GB the first time, so best called in a thread.

        Raises:
            EngineUnavailable: a file cannot be read, or is not the one that was met first.
        """
        with self._hashing:  # who comes second finds it done
            self._hold(self._prints())
            parts = [file_digest(path) for path in self._parts if Path(path).exists()]
            adapters = tuple(file_digest(path) for path in self._adapters)
            self._hold(self._prints())
            found = Digests(parts[0] if len(parts) == 1 else _joined(parts), adapters)
            if self._digests is None:
                self._digests = found
            elif self._digests != found:
                raise self._replaced()
        return found

    def _hold(self, now: _Prints) -> None:
        """Pin the files, or compare them with those that are pinned."""
        self._complain_of_missing(now)
        if self._pinned is None:
            self._pinned = now
        elif any(_others(met, each) for met, each in self._pairs(now)):
            raise self._replaced()

    def _pairs(self, now: _Prints) -> Iterator[tuple[Fingerprint | None, Fingerprint | None]]:
        """Each file as it was met, and as it is."""
        return zip(self._pinned or now, now, strict=True)

    def _replaced(self) -> EngineUnavailable:
        return EngineUnavailable(
            f"the model file {self._parts[0]!r} or one beside it was replaced since this project was opened, "
            "and what was measured is not about the new one",
            hint="open the project again, and calibrate again where a certificate named the old file",
        )

    def _complain_of_missing(self, now: _Prints) -> None:
        """A part may be missing that its model does not need; the engine says so when it does."""
        for path, print_ in zip((*self._parts, *self._adapters), now, strict=True):
            if print_ is None and path not in self._parts[1:]:
                raise EngineUnavailable(
                    f"the model file {path!r} is not there any more, or cannot be read",
                    hint="check the path in rung.toml and the file's permissions",
                )

    def _prints(self) -> _Prints:
        return tuple(_print(path) for path in (*self._parts, *self._adapters))


def files_of(parameters: ModelParameters) -> tuple[str, ...]:
    """Every file that a model is loaded from: its parts, then its adapters."""
    return (*parts_of(parameters.path), *(adapter.path for adapter in parameters.adapters))


def parts_of(path: str) -> tuple[str, ...]:
    """The files of a model that begins at `path`: several for one that was split, by the names that the engine expects.

    The first is `path` itself; of the others those that are named are returned, whether they are there or not.
    """
    found = _SPLIT.fullmatch(path)
    if found is None:
        return (path,)
    count = min(int(found[2]), _MOST_PARTS)
    rest = (f"{found[1]}-{number:05}-of-{found[2]}.gguf" for number in range(2, count + 1))
    return (path, *rest)


def file_digest(path: str) -> str:
    """The hexadecimal SHA-256 of a file.

    Raises:
        EngineUnavailable: it cannot be read, or something writes to it.
    """
    try:
        return _digest(path, fingerprint(Path(path)))
    except ModelError as error:
        raise EngineUnavailable(error.message, hint=error.hint) from error
    except OSError as error:
        raise EngineUnavailable(
            f"the model file {path!r} cannot be read: {error.strerror}",
            hint="check the path in rung.toml and the file's permissions",
        ) from error


@functools.lru_cache(maxsize=64)
def _digest(path: str, print_: Fingerprint) -> str:
    """The digest; `print_` makes a changed file another question."""
    digest = hash_file(Path(path))
    if fingerprint(Path(path)) != print_:
        raise changed_meanwhile(Path(path))
    return digest


def _drifted(path: str, found: str, pinned: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"model file changed since it was pinned: {path} {found}, rung.lock says {pinned}",
        hint=_RESTORE,
    )


def _joined(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _others(met: Fingerprint | None, now: Fingerprint | None) -> bool:
    """Whether there is surely another file now; one that was renamed or linked there and back may be the same."""
    if met is None or now is None:
        return met is not now
    return met.replaced_by(now)


def _print(path: str) -> Fingerprint | None:
    try:
        return fingerprint(Path(path))
    except ModelError:
        return None
