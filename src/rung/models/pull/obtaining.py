"""One file of a model: found here, in another program's store, or downloaded; checked and scanned, not yet visible."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from rung.errors import GateError, InputError, ModelError
from rung.models.pull.download import Download, Streams
from rung.models.pull.events import Hashing, Here, Linked, Restarted, Tell
from rung.models.pull.hashing import sha256_of
from rung.models.pull.partial import Partial, Record
from rung.models.pull.placing import link, place, settle
from rung.models.pull.plan import Wanted
from rung.models.scan.report import Outcome, Report
from rung.models.scan.scanner import scan_file

_AFTER = {
    False: "it was not made visible, and nothing is pinned",
    True: "it lay there already: remove it, and do not load it",
}
"""What a blocked file means, by whether it was there before."""


class Obtained(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is whole, right and harmless.

    Attributes:
        wanted: what it is.
        size: in bytes.
        sha256: of its bytes, computed here.
        report: of the scan.
        lies: where it is now.
        etag: the source's name for its content, where it gave one with the bytes.
        original: the file of a store that it is to be linked to; None for a download, or where it lies already.
        here: whether it lies where it belongs already.
    """

    wanted: Wanted
    size: int
    sha256: str
    report: Report
    lies: Path
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
        self.partial = Partial(wanted.path.parent, wanted.file)
        self._sources = sources
        self._store = store or "this machine"
        self._tell = tell
        self._name = wanted.path.name

    @property
    def missing(self) -> int:
        """Bytes that are still to come, as far as is known; what lies at its place is looked at later."""
        size, there = self.wanted.file.size or 0, self.wanted.path
        if self.wanted.file.path is not None or (there.is_file() and there.stat().st_size == size):
            return 0
        return max(0, size - self.partial.size)

    async def run(self) -> Obtained:
        """Find or fetch the file, check its size and digest, and scan it.

        Raises:
            InputError: another file lies at its place.
            ModelError: what a store has is damaged and there is no other source.
            SourceError: the source does not give it, or gives other bytes.
            StorageError: it cannot be written.
            GateError: the scan blocks it; then nothing of it is kept.
        """
        found = await self._here() or await self._in_store() or await self._downloaded()
        if found.report.outcome is not Outcome.CLEAN:
            if found.original is None and not found.here:
                self.partial.discard()
            raise GateError(f"{self._name!r} is {found.report.verdict}", hint=_AFTER[found.here])
        return found

    async def _here(self) -> Obtained | None:
        """The file at its place, None where there is none, or one that may be replaced."""
        path, expected = self.wanted.path, self.wanted.file.sha256 or self._fetched_before()
        if not path.is_file() or expected is None:
            return None
        found = await self._hash(path)
        if found == expected:
            self._tell(Here(self._name))
            self.partial.path.unlink(missing_ok=True)
            return await self._scanned(path, found, here=True)
        if self.wanted.replace:
            return None
        raise InputError(
            f"{str(path)!r} is there already and is another file (sha256 {found[:12]}…, wanted {expected[:12]}…)",
            hint="move it away, or --force replaces it",
        )

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
        found = await self._hash(original)
        if expected in (None, found):
            return await self._scanned(original, found, original=original)
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
        if (
            self.wanted.file.sha256 is None
            and path.is_file()
            and await self._hash(path) == done.sha256
        ):
            self._tell(Here(self._name))
            self.partial.path.unlink(missing_ok=True)
            return await self._scanned(path, done.sha256, here=True)
        return await self._scanned(self.partial.path, done.sha256)

    async def _scanned(
        self, path: Path, sha256: str, *, original: Path | None = None, here: bool = False
    ) -> Obtained:
        report: Report = await asyncio.to_thread(scan_file, path, name=self._name)
        record = self.partial.record
        return Obtained(
            wanted=self.wanted,
            size=report.size,
            sha256=sha256,
            report=report,
            lies=path,
            etag=record.etag if record is not None else self.wanted.etag,
            original=original,
            here=here,
        )

    async def _hash(self, path: Path) -> str:
        return await sha256_of(
            path, lambda done, total: self._tell(Hashing(self._name, done, total))
        )

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
            self.partial.keep_record(Record(size=obtained.size, sha256=obtained.sha256))
            symbolic = link(obtained.original, self.partial, path, replace=self.wanted.replace)
            self._tell(Linked(self._name, self._store, symbolic))
        else:
            settle(self.partial)
            place(self.partial, path, replace=self.wanted.replace)


def _same_file(original: Path | None, path: Path) -> bool:
    return original is not None and path.exists() and path.samefile(original)
