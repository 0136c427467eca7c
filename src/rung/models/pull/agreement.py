"""Whether what a source has now is what is pinned; a pin does not move unless somebody says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from rung.errors import GateError
from rung.models.header import Header
from rung.models.lock.pinning import licence_of
from rung.models.lock.record import Artefact, Lock
from rung.models.lock.sidefiles import name_at_source, name_beside
from rung.models.pull.obtaining import Obtained
from rung.models.pull.plan import Wanted
from rung.models.reference import Origin, Reference
from rung.models.sources.resolved import Resolved, Role


def pinned_as(
    lock: Lock, resolved: Resolved, files: Sequence[Wanted], root: Path
) -> Artefact | None:
    """What is pinned under this source, or else what is pinned where its first file would lie.

    Args:
        lock: of the project.
        resolved: what the source has.
        files: where they would lie, weights first.
        root: folder of the project.
    """
    found = lock.find(str(resolved.reference))
    if found is not None:
        return found
    holder = lock.holder(below(files[0].path, root))
    return holder[0] if holder is not None else None


def apart(
    files: Sequence[Wanted], lock: Lock, resolved: Resolved, root: Path
) -> tuple[Wanted, ...]:
    """The same, with a name of its own for a projector that is called like another pinned model's.

    Args:
        files: where they would lie, weights first.
        lock: of the project.
        resolved: what the source has.
        root: folder of the project.
    """
    first = below(files[0].path, root)
    before = lock.find(str(resolved.reference))
    return tuple(
        msgspec.structs.replace(each, path=root / _projector(each, first, before, lock, root))
        if each.file.role is Role.PROJECTOR
        else each
        for each in files
    )


def _projector(each: Wanted, first: str, before: Artefact | None, lock: Lock, root: Path) -> str:
    """Where a projector of the model whose first file is `first` is to lie."""
    if before is not None:
        for file in before.files:
            if file.role == Role.PROJECTOR and name_at_source(before, file) == each.path.name:
                return file.path
    path = below(each.path, root)
    holder = lock.holder(path)
    if holder is None or holder[0].files[0].path == first or holder[1].sha256 == each.file.sha256:
        return path
    return below(each.path.with_name(name_beside(first, each.path.name)), root)


def with_right_of_pin(each: Wanted, pinned: Artefact | None, revision: str, root: Path) -> Wanted:
    """A file that is pinned as it is to be takes its place back from whatever lies there.

    Args:
        each: the file.
        pinned: what is pinned of its source.
        revision: that the source is at; at the pinned one a file is known by its pinned digest.
        root: folder of the project.
    """
    if pinned is None:
        return each
    digest = {file.path: file.sha256 for file in pinned.files}.get(below(each.path, root))
    file = each.file
    if file.sha256 is None and file.path is None and revision and revision == pinned.revision:
        file = msgspec.structs.replace(file, sha256=digest)
    mine = file.sha256 is not None and digest == file.sha256
    return msgspec.structs.replace(each, file=file, replace=each.replace or mine)


def check_pin(pinned: Artefact, resolved: Resolved, files: Sequence[Wanted], root: Path) -> None:
    """Refuse, before anything is fetched, what is known to be other than what is pinned.

    Raises:
        GateError: it is, or it is pinned under another reference, which a rung may name.
    """
    digests = {file.path: file.sha256 for file in pinned.files}
    other = [each.path.name for each in files if _differs(each, digests, root)]
    path, reference = below(files[0].path, root), resolved.reference
    if pinned.source not in (str(reference), f"{Origin.FILE}:{path}"):
        raise _of_another(pinned, reference, path, same=not other)
    if other:
        raise GateError(
            f"{reference} is pinned at {_short(pinned.revision)} and is at {_short(resolved.revision)} now: "
            f"{other[0]} is another file",
            hint=f"rung outdated says what changed; rung pull {pinned.name} restores what is pinned, "
            "--force pins what there is now",
        )


def check_licence(pinned: Artefact, resolved: Resolved, headers: Sequence[Header]) -> None:
    """Refuse another licence than the pinned one, which somebody may have agreed to.

    Raises:
        GateError: the same source states another one now.
    """
    now = licence_of(resolved, headers)
    if now is None or now == pinned.licence or pinned.source != str(resolved.reference):
        return
    before = repr(pinned.licence) if pinned.licence is not None else "none"
    raise GateError(
        f"the licence of {resolved.reference} is {now!r} now, and {before} is pinned",
        hint=f"read it; --force pins it, rung pull {pinned.name} restores what is pinned",
    )


def _of_another(pinned: Artefact, reference: Reference, path: str, *, same: bool) -> GateError:
    """A place that is pinned for another reference: of the same file, or of another one of that name."""
    if same:
        return GateError(
            f"{path!r} is pinned as {pinned.source} already, which {reference} would take the place of",
            hint=f"name it so in rung.toml, or first rung lock --remove {pinned.name}",
        )
    return GateError(
        f"{path!r} is the file of {pinned.source} already, and that of {reference} is another one",
        hint="--into FOLDER keeps both, this one in models/FOLDER; --force gives up the other",
    )


def _differs(each: Wanted, digests: Mapping[str, str], root: Path) -> bool:
    """Whether a file is known to be another than the pinned one; a projector may be added to a pin."""
    path = below(each.path, root)
    if path not in digests:
        return each.file.role is Role.WEIGHTS
    return each.file.sha256 not in (None, digests[path])


def check_digests(pinned: Artefact, obtained: Sequence[Obtained], root: Path) -> None:
    """Refuse what turned out, once it was here, to be other than what is pinned; nothing of it is visible."""
    digests = {file.path: file.sha256 for file in pinned.files}
    for each in obtained:
        path = below(each.wanted.path, root)
        if digests.get(path, each.sha256) != each.sha256:
            raise GateError(
                f"{path!r} is pinned with the sha256 {digests[path][:12]}… and its source gives "
                f"{each.sha256[:12]}… now",
                hint="--force pins what there is now",
            )


def below(path: Path, root: Path) -> str:
    """A path relative to the project, as the lock has it."""
    return path.relative_to(root).as_posix()


def _short(revision: str) -> str:
    return revision.removeprefix("sha256:").strip('"')[:12] or "no revision"
