"""One file of a model: found here, in another program's store, or downloaded; checked and scanned, not yet visible."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from rung.errors import GateError, InputError, ModelError
from rung.models.bounded import facts_of
from rung.models.pull.download import Download, Streams
from rung.models.pull.events import Hashing, Here, Linked, Restarted, Tell
from rung.models.pull.hashing import sha256_of
from rung.models.pull.partial import Partial
from rung.models.pull.placing import check_free, link, place, settle
from rung.models.pull.plan import Wanted
from rung.models.scan.report import Outcome, Report
from rung.models.scan.scanner import scan_file
from rung.models.sources.resolved import Role

_AFTER = {
    False: "it was not made visible, and nothing is pinned",
    True: "it lay there already: remove it, and do not load it",
}
"""What a blocked file means, by whether it was there before."""

_TENSORS = {Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER}
_FORMATS = {"GGUF", "safetensors"}
"""What a scan calls files with tensors; harmless texts and vocabularies are no weights."""

State = tuple[int, int, int, int, int]
"""Device, inode, size, and times of the last write and of the last change: another one where a file was written to."""


class Obtained(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is whole, right and harmless.

    Attributes:
        wanted: what it is.
        size: in bytes.
        sha256: of its bytes, computed here.
        report: of the scan.
        lies: where it is now.
        state: of it when its bytes were hashed.
        etag: the source's name for its content, where it gave one with the bytes.
        original: the file of a store that it is to be linked to; None for a download, or where it lies already.
        here: whether it lies where it belongs already.
    """

    wanted: Wanted
    size: int
    sha256: str
    report: Report
    lies: Path
    state: State
    etag: str | None = None
    original: Path | None = None
    here: bool = False


class Obtaining:
    """Gets one file as far as it can get without being visible.

    Args:
        wanted: the file.
        sources: where bytes come from.
        store: whose store it may lie in, for people.
        tell: told how it goes.
    """

    def __init__(self, wanted: Wanted, sources: Streams, store: str | None, tell: Tell) -> None:
        self.wanted = wanted
        self.partial = Partial(wanted.path.parent, wanted.file, wanted.source)
        self._sources = sources
        self._store = store or "this machine"
        self._tell = tell
        self._name = wanted.path.name
        self._linked = False

    @property
    def missing(self) -> int:
        """Bytes that are still to come, as far as is known; what lies at its place is looked at later."""
        size, there = self.wanted.file.size or 0, self.wanted.path
        if self.wanted.file.path is not None or (there.is_file() and there.stat().st_size == size):
            return 0
        return max(0, size - self.partial.size)

    async def look(self) -> Obtained | None:
        """The file at its place; None where there is none, or one that may be replaced.

        Raises:
            InputError: something else lies there.
            ModelError: it cannot be read.
            GateError: the scan blocks it.
        """
        path, expected = self.wanted.path, self.wanted.file.sha256 or self._fetched_before()
        if not path.is_file():
            check_free(path, replace=self.wanted.replace)
            return None
        if expected is None:  # only its size can be compared before the other one is here
            if self.wanted.file.size not in (None, path.stat().st_size):
                check_free(path, replace=self.wanted.replace)
            return None
        state = _state(path)
        found = await self._hash(path)
        if found == expected:
            self._tell(Here(self._name))
            self.partial.path.unlink(missing_ok=True)
            return self._passed(await self._scanned(path, found, state, here=True))
        if self.wanted.replace:
            return None
        raise InputError(
            f"{str(path)!r} is there already and is another file (sha256 {found[:12]}…, wanted {expected[:12]}…)",
            hint="move it away, or --force replaces it",
        )

    async def get(self) -> Obtained:
        """Find the file in a store or fetch it, check its size and digest, and scan it.

        Raises:
            ModelError: what a store has is damaged and there is no other source.
            SourceError: the source does not give it, or gives other bytes.
            StorageError: it cannot be written.
            GateError: the scan blocks it, or it is of another kind; then nothing of it is kept.
        """
        return self._passed(await self._in_store() or await self._downloaded())

    def _passed(self, found: Obtained) -> Obtained:
        """The same, when it may be used."""
        what = None
        if found.report.outcome is Outcome.BLOCKED:
            what = found.report.verdict
        elif self.wanted.file.role in _TENSORS and found.report.format not in _FORMATS:
            what = f"no {self.wanted.file.role.value} but {found.report.format}"
        if what is None:
            return found
        if found.original is None and not found.here:
            self.partial.discard()
        raise GateError(f"{self._name!r} is {what}", hint=_AFTER[found.here])

    def _fetched_before(self) -> str | None:
        """The digest of what was fetched of this very content and not pinned, because the process ended there."""
        record, etag = self.partial.record, self.wanted.etag
        if record is None or (etag is not None and record.etag != etag) or etag == "":
            return None
        return record.sha256

    async def _in_store(self) -> Obtained | None:
        """The file of another program's store, None where there is none or it is damaged."""
        if self.wanted.file.path is None:
            return None
        original, expected = self.wanted.file.path.resolve(), self.wanted.file.sha256
        state = _state(original)
        found = await self._hash(original)
        if expected in (None, found):
            return await self._scanned(original, found, state, original=original)
        if self.wanted.file.url is None:
            raise ModelError(
                f"{str(original)!r} has the sha256 {found}, {expected} is expected",
                hint=f"the copy in {self._store} is damaged or another one; fetch it again there",
            )
        self._tell(Restarted(self._name, f"the copy in {self._store} is damaged; it is fetched"))
        return None

    async def _downloaded(self) -> Obtained:
        record, etag = self.partial.record, self.wanted.etag
        if etag and record is not None and record.etag != etag:
            self._tell(Restarted(self._name, "its source has another version by now"))
            self.partial.discard()
        away = msgspec.structs.replace(self.wanted.file, path=None)
        done = await Download(away, self.partial, self._sources, self._tell).run()
        path = self.wanted.path
        if self.wanted.file.sha256 is None and path.is_file():
            state = _state(path)
            if await self._hash(path) == done.sha256:
                self._tell(Here(self._name))
                self.partial.path.unlink(missing_ok=True)
                return await self._scanned(path, done.sha256, state, here=True)
        return await self._scanned(self.partial.path, done.sha256, _state(self.partial.path))

    async def _scanned(
        self,
        path: Path,
        sha256: str,
        state: State,
        *,
        original: Path | None = None,
        here: bool = False,
    ) -> Obtained:
        report: Report = await asyncio.to_thread(scan_file, path, name=self._name)
        record = self.partial.record
        return Obtained(
            wanted=self.wanted,
            size=report.size,
            sha256=sha256,
            report=report,
            lies=path,
            state=state,
            etag=record.etag if record is not None else self.wanted.etag,
            original=original,
            here=here,
        )

    async def _hash(self, path: Path) -> str:
        return await sha256_of(
            path, lambda done, total: self._tell(Hashing(self._name, done, total))
        )

    async def confirm(self, obtained: Obtained) -> None:
        """See that the file is still what was hashed and scanned, just before it is made visible.

        Raises:
            ModelError: something wrote to it, or it is gone.
        """
        if _state(obtained.lies) == obtained.state:
            return
        # Its times change with a new link to it, too.
        if await self._hash(obtained.lies) != obtained.sha256:
            raise self._changed(obtained)

    def show(self, obtained: Obtained) -> None:
        """Make the file visible.

        Raises:
            InputError: another file lies at its place.
            StorageError: it cannot be moved or linked.
        """
        path = self.wanted.path
        if obtained.here or _same_file(obtained.original, path):
            return
        if obtained.original is not None:
            self.partial.prepare()
            self.partial.keep_record(size=obtained.size, sha256=obtained.sha256)
            symbolic = link(obtained.original, self.partial, path, replace=self.wanted.replace)
            self._linked = True
            self._tell(Linked(self._name, self._store, symbolic))
        else:
            settle(self.partial)
            place(self.partial, path, replace=self.wanted.replace)

    def confirm_shown(self, obtained: Obtained) -> None:
        """See that what is visible now is what was scanned; the link that was made to another file is taken back.

        Raises:
            ModelError: it is another file, or was written to.
        """
        path = self.wanted.path
        if _state(path)[:4] == obtained.state[:4]:
            return
        if self._linked:
            path.unlink(missing_ok=True)
        raise self._changed(obtained)

    def _changed(self, obtained: Obtained) -> ModelError:
        return ModelError(
            f"{str(obtained.original or obtained.lies)!r} changed after it was scanned; nothing is pinned",
            hint="wait until nothing writes to it any more, and run it again",
        )


def _state(path: Path) -> State:
    facts = facts_of(path)
    times = facts.st_mtime_ns, facts.st_ctime_ns
    return facts.st_dev, facts.st_ino, facts.st_size, *times


def _same_file(original: Path | None, path: Path) -> bool:
    return original is not None and path.exists() and path.samefile(original)
