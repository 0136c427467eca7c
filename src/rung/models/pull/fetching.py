"""All files of a model on their way: none is visible before every one is whole, right and harmless.

What they are, and what is pinned once they are visible, is `pulling`'s and `restoring`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from rung.models.pull.download import Streams
from rung.models.pull.events import Tell, Waiting
from rung.models.pull.exclusive import exclusively
from rung.models.pull.leftovers import remove_leftovers
from rung.models.pull.obtaining import Obtained, Obtaining
from rung.models.pull.plan import FOLDER, Wanted
from rung.models.pull.room import check_room


class Batch:
    """Files that are here, and that nobody else touches until the block of `fetching` ends.

    Args:
        works: of each file.
        obtained: the files, in the same order; none is visible but those that were.
    """

    def __init__(self, works: Sequence[Obtaining], obtained: tuple[Obtained, ...]) -> None:
        self.obtained = obtained
        self._both = list(zip(works, obtained, strict=True))

    async def show(self) -> None:
        """Make all files visible, the model's first one last: without it, the others are no model.

        Raises:
            ModelError: one is not what was scanned any more.
            InputError: another file lies in its place by now.
            StorageError: it cannot be moved or linked.
        """
        for work, each in self._both:
            await work.confirm(each)
        for work, each in reversed(self._both):
            work.show(each)
        self.confirm()

    def confirm(self) -> None:
        """See that all that is visible is what was scanned.

        Raises:
            ModelError: it is not; a link to it is taken back.
        """
        for work, each in self._both:
            work.confirm_shown(each)


@asynccontextmanager
async def fetching(
    files: Sequence[Wanted], store: str | None, root: Path, sources: Streams, tell: Tell
) -> AsyncIterator[Batch]:
    """Everything from the first byte to where files may be shown; when the block ends well, nothing unfinished stays.

    Args:
        files: to be had, weights first.
        store: in whose store they may lie, for people.
        root: folder of the project.
        sources: where bytes come from.
        tell: told how it goes.

    Raises:
        InputError: something else lies in the place of a file; known before any byte is fetched.
        GateError, ModelError, SourceError, StorageError: as `pull` does.
    """
    works = [Obtaining(file, sources, store, tell) for file in files]
    check_room(root / FOLDER, [work.missing for work in works])
    async with AsyncExitStack() as held:
        for lock, name in sorted(_locks(works).items()):
            await held.enter_async_context(_held(lock, name, tell))
        there = [await work.look() for work in works]
        got = [found or await work.get() for work, found in zip(works, there, strict=True)]
        yield Batch(works, tuple(got))
        for work in works:
            work.partial.forget()
        keys = {work.partial.key for work in works}
        remove_leftovers(files[0].path.parent, source=files[0].source, keep=keys)


def _locks(works: Sequence[Obtaining]) -> dict[Path, str]:
    """The locks of what is fetched and of the places it goes to, each with the name of its file."""
    locks: dict[Path, str] = {}
    for work in works:
        work.partial.prepare()
        path = work.wanted.path
        place = hashlib.sha256(path.name.encode()).hexdigest()
        locks[work.partial.lock] = path.name
        locks[work.partial.lock.with_name(f"place-{place}.lock")] = path.name
    return locks


@asynccontextmanager
async def _held(lock: Path, name: str, tell: Tell) -> AsyncIterator[None]:
    async with exclusively(lock, lambda: tell(Waiting(name))):
        yield
