"""What models took when they really ran here, kept for the next estimate.

The engine hands in what its log and its process told; `estimate` asks. Keeping is a convenience: a folder that cannot
be written to, or a damaged file in it, costs the measurement and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from rung.errors import StorageError
from rung.files import write_atomically
from rung.models.fit.run import Run
from rung.models.header import Header
from rung.models.home import home

MOST_KEPT = 512
"""Measurements that are kept; the oldest go first. Each is a file of a few hundred bytes."""

SERVER, SCORER = "server", "scorer"
"""What a process did with its model: each keeps buffers of its own."""

_MOST_BYTES = 64 * 1024
_SUFFIX = ".measured.json"
_RESERVE_SUFFIX = ".reserve.json"

Kept = TypeVar("Kept")
Figure = TypeVar("Figure", int, float)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one model took in one engine under one run.

    Attributes:
        engine: build of the engine.
        backend: what computed: `cpu`, `cuda`, ….
        weights: bytes of weights by the engine's name of the device or buffer (`CPU_Mapped`, `CPU_REPACK`, `CUDA0`).
        cache: bytes of keys and values likewise.
        state: bytes of recurrent state likewise.
        compute: bytes of working memory likewise.
        output: bytes of logits and embeddings likewise.
        started_rss: most resident bytes of its process until it was ready; None where the system does not tell.
        peak_rss: most resident bytes of its process so far; requests that fill the context may need more.
        tokens_per_s: at which it wrote for one request alone, at its fastest; None where no answer was long enough.
        prompt_tokens_per_s: at which it read a prompt likewise.
        at: when, as RFC 3339.
    """

    engine: str
    backend: str
    weights: Mapping[str, int] = {}
    cache: Mapping[str, int] = {}
    state: Mapping[str, int] = {}
    compute: Mapping[str, int] = {}
    output: Mapping[str, int] = {}
    started_rss: int | None = None
    peak_rss: int | None = None
    tokens_per_s: float | None = None
    prompt_tokens_per_s: float | None = None
    at: str


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of an engine takes beside its model's buffers.

    Attributes:
        engine: build of the engine.
        bytes: resident, at the most.
        at: when it was measured, as RFC 3339.
    """

    engine: str
    bytes: int
    at: str


class Measurements:
    """The measurements of this machine, one small file each, so that several processes may write at once.

    Two that measure the same thing at the same moment leave one of the two results.

    Args:
        folder: where they are kept; None for `measured` in Rung's own folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = home() / "measured" if folder is None else folder

    def record(self, model: str, run: Run, measured: Measured, *, role: str = SERVER) -> bool:
        """Keep a measurement; the largest peak and the highest speeds that were ever seen stay.

        Args:
            model: the `model_key`.
            run: how it was loaded.
            measured: what it took.
            role: `SERVER` or `SCORER`.

        Returns:
            Whether it could be kept.
        """
        before = self.find(model, run, measured.engine, role=role)
        if before is not None:
            measured = msgspec.structs.replace(
                measured,
                peak_rss=_larger(before.peak_rss, measured.peak_rss),
                tokens_per_s=_larger(before.tokens_per_s, measured.tokens_per_s),
                prompt_tokens_per_s=_larger(
                    before.prompt_tokens_per_s, measured.prompt_tokens_per_s
                ),
            )
        return self._write(_name(model, run, measured.engine, role) + _SUFFIX, measured)

    def find(self, model: str, run: Run, engine: str, *, role: str = SERVER) -> Measured | None:
        """What this model took under this run in this build, None where that was not measured."""
        found = self._read(_name(model, run, engine, role) + _SUFFIX, Measured)
        return found if found is not None and found.engine == engine else None

    def record_reserve(self, reserve: Reserve) -> bool:
        """Keep what a process takes beside its model, if it is the most so far; tells whether that is kept."""
        if (self.process_reserve(reserve.engine) or 0) >= reserve.bytes:
            return True
        return self._write(_digest(reserve.engine) + _RESERVE_SUFFIX, reserve)

    def process_reserve(self, engine: str) -> int | None:
        """Bytes that a process of this build takes beside its model's buffers, None where that was not measured."""
        found = self._read(_digest(engine) + _RESERVE_SUFFIX, Reserve)
        return found.bytes if found is not None and found.engine == engine else None

    def _write(self, name: str, value: Measured | Reserve) -> bool:
        try:
            write_atomically(self._folder / name, msgspec.json.format(msgspec.json.encode(value)))
        except StorageError:
            return False
        self._bound()
        return True

    def _read(self, name: str, kind: type[Kept]) -> Kept | None:
        try:
            with (self._folder / name).open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            return msgspec.json.decode(content, type=kind)
        except (OSError, msgspec.DecodeError, RecursionError):
            return None  # missing or damaged: it will be measured again

    def _bound(self) -> None:
        """Remove the oldest measurements where there are too many; another process may do the same."""
        with contextlib.suppress(OSError):
            kept = list(self._folder.glob(f"*{_SUFFIX}"))
            if len(kept) <= MOST_KEPT:
                return
            kept.sort(key=lambda path: path.stat().st_mtime)
            for path in kept[:-MOST_KEPT]:
                path.unlink(missing_ok=True)


def model_key(*headers: Header) -> str:
    """What tells models apart as far as their memory goes: a digest of the tensor tables, the architecture's numbers
    (windows, heads, states) and the sizes of their files.

    Args:
        headers: of every part of the model, in order.
    """
    digest = hashlib.sha256()
    for header in headers:
        digest.update(f"{header.architecture} {header.size}\n".encode())
        for key in sorted(header.metadata):
            if key.startswith(f"{header.architecture}."):
                digest.update(header.metadata[key].digest)
        for tensor in header.tensors:
            digest.update(f"{tensor.name} {tensor.type.name} {tensor.shape}\n".encode())
    return digest.hexdigest()


def _name(model: str, run: Run, engine: str, role: str) -> str:
    return _digest(model, msgspec.json.encode(run, order="sorted").decode(), engine, role)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _larger(one: Figure | None, other: Figure | None) -> Figure | None:
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None
