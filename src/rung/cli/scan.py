"""`rung scan`: whether files may be loaded, by what they hold."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from rung.cli.options import config_option, json_option
from rung.cli.scansarif import sarif
from rung.cli.scantext import Scanned, describe, facts
from rung.errors import InputError, RungError, SourceError
from rung.files import write_atomically
from rung.models.header import Header
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.models.lock.identity import template_of
from rung.models.lock.record import Lock
from rung.models.scan.report import Finding, Outcome, Report, shown
from rung.models.scan.scanner import scan_file, scan_folder
from rung.models.scan.template import template_diff
from rung.models.sources.resolved import Role

_GGUF = "GGUF"
_WEIGHTS = Role.WEIGHTS.value
_LONGEST_TEMPLATE = 512 * 1024


class _NotPinned(InputError):
    """A lock says nothing of a file."""


class _Target(msgspec.Struct, frozen=True):
    """A file or folder to look at.

    Attributes:
        path: of it.
        name: that it is shown by, None for its path.
        pinned: the chat template that it is to have, None when nobody said.
        links: pinned files of a folder, which may be links into another program's store.
    """

    path: Path
    name: str | None = None
    pinned: str | None = None
    links: frozenset[Path] = frozenset()


@click.command()
@click.argument("targets", metavar="PATH|MODEL...", nargs=-1, required=True)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help=f"Compare chat templates with those of a {LOCK_NAME}, a .gguf file or a template file.",
)
@click.option("--sarif", "sarif_file", metavar="FILE|-", help="Write the findings as SARIF 2.1.0.")
@config_option
@json_option
def command(
    targets: tuple[str, ...],
    against: Path | None,
    sarif_file: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Look into files, folders, pinned models (by their name in rung.lock) or models in other programs' stores.

    What a file is called never counts. Clean are GGUF, safetensors, JSON, chat templates and SentencePiece vocabularies
    without contradictions. Other text is never loaded and never called clean. Everything else is blocked, and so is
    what cannot be decided. Nothing is loaded, unpacked or run. Exits with 1 when something is blocked.
    """
    if as_json and sarif_file == "-":
        raise click.UsageError("--json and --sarif - both write to standard output")
    scanned, errors = _scanned(targets, against, config)
    if errors and not scanned:
        raise errors[0]
    if sarif_file is not None:
        _write(sarif_file, msgspec.json.encode(sarif([each.report for each in scanned])))
    if as_json:
        click.echo(msgspec.json.encode(facts(scanned, errors)))
    elif sarif_file != "-":
        click.echo(describe(scanned))
    if errors:  # what was found comes before what could not be looked at
        raise errors[0]
    if any(each.report.outcome is Outcome.BLOCKED for each in scanned):
        raise SystemExit(1)


def _write(file: str, content: bytes) -> None:
    if file == "-":
        sys.stdout.buffer.write(content + b"\n")
    else:
        write_atomically(Path(file), content + b"\n")


def _scanned(
    words: Sequence[str], against: Path | None, config: Path | None
) -> tuple[list[Scanned], list[RungError]]:
    """What is found in everything that was asked for, and what could not be looked at or compared."""
    scanned: list[Scanned] = []
    errors: list[RungError] = []
    for word in words:
        try:
            found = [each for target in _targets(word, config) for each in _reports(target)]
        except RungError as error:
            errors.append(error)
            continue
        within = Path(word).is_dir()
        for path, report, pinned in found:
            try:
                scanned.append(_compared(report, path, pinned, against, within=within))
            except RungError as error:
                scanned.append(Scanned(report))
                errors.append(error)
    return scanned, errors


def _reports(target: _Target) -> Iterator[tuple[Path, Report, str | None]]:
    """Each file of a target, its report, and the chat template that it is to have."""
    if not target.path.is_dir():
        yield target.path, scan_file(target.path, name=target.name), target.pinned
        return
    for path, report in scan_folder(target.path, pinned=target.links):
        name = shown(str(target.path / report.name))
        yield path, msgspec.structs.replace(report, name=name), None


def _targets(word: str, config: Path | None) -> list[_Target]:
    path = Path(word)
    if path.is_symlink() or path.exists():
        return [_Target(path, links=_links(path, config) if path.is_dir() else frozenset())]
    return _pinned(word, config) or _stored(word)


def _lock(config: Path | None) -> tuple[Path, Lock]:
    """The project's folder and its lock, an empty one where there is none."""
    from rung.cli.lockfile import project_root

    root = project_root(config).absolute()
    path = root / LOCK_NAME
    return root, read_lock(path) if path.is_file() else Lock()


def _links(folder: Path, config: Path | None) -> frozenset[Path]:
    """Files that are pinned by this project, and by those that a folder lies in.

    A lock in the folder itself came with it and says nothing of it, unless it is this project's.
    """
    locks = [_lock(config)]
    for above in folder.resolve().parents:
        with contextlib.suppress(RungError):  # then its links are blocked as all others
            if (above / LOCK_NAME).is_file():
                locks.append((above, read_lock(above / LOCK_NAME)))
    places = [
        root / file.path
        for root, lock in locks
        for artefact in lock.artefacts
        for file in artefact.files
    ]
    return frozenset(place.parent.resolve() / place.name for place in places)


def _pinned(word: str, config: Path | None) -> list[_Target]:
    """The files of a model in the project's lock, none when it is not there."""
    root, lock = _lock(config)
    artefact = lock.find(word)
    if artefact is None:
        return []
    return [
        _Target(
            root / file.path,
            file.path,
            (artefact.template or "") if file.role == _WEIGHTS else None,
        )
        for file in artefact.files
    ]


def _stored(word: str) -> list[_Target]:
    """The files of a model in a store of this machine.

    Raises:
        InputError: it is no reference, or of a model that is not on this machine.
    """
    from rung.blocking import run_blocking
    from rung.models.reference import parse_reference
    from rung.models.sources.opening import Sources
    from rung.models.sources.resolved import Resolved

    reference = parse_reference(word)

    async def resolved() -> Resolved:
        async with Sources(offline=True) as sources:
            return await sources.resolve(reference)

    try:
        found = run_blocking(resolved())
    except SourceError as error:
        raise InputError(
            f"{str(reference)!r} is not on this machine by that name, and rung scan fetches nothing",
            hint="name a path, a pinned model or, exactly, hf:owner/repo@commit:file.gguf; "
            "rung pull scans what it fetches",
        ) from error
    return [_Target(file.path, file.name) for file in found.files if file.path is not None]


def _compared(
    report: Report, path: Path, pinned: str | None, against: Path | None, *, within: bool
) -> Scanned:
    """A report, blocked where the chat template is not the one that was agreed to.

    Args:
        report: of the scan.
        path: of the file.
        pinned: the template that is pinned for it, None for none.
        against: what to compare with instead.
        within: whether the file was found in a folder; then it may be one that nothing is pinned for.

    Raises:
        RungError: `against` cannot be read, or pins something else.
    """
    if report.outcome is Outcome.BLOCKED or not report.format.startswith(_GGUF):
        return Scanned(report)
    try:
        agreed = pinned if against is None else _agreed(against, path)
    except _NotPinned as error:
        if not within:
            raise
        note = f"{error.message}: its chat template was compared with nothing"
        return Scanned(msgspec.structs.replace(report, notes=(*report.notes, note)))
    if agreed is None:
        return Scanned(report)
    header = _header(path)
    if header.number("split.no"):  # templates are in the first part
        return Scanned(report)
    by_lock = against is None or _is_lock(against, _beginning(against))
    name = "pinned" if by_lock else "agreed"
    diff = template_diff(agreed, template_of((header,)) or "", name=name)
    if not diff:
        return Scanned(report)
    what = "a chat template that is not the pinned one"
    if not by_lock:
        what = f"a chat template that is not that of {shown(str(against))}"
    changed = msgspec.structs.replace(
        report,
        outcome=Outcome.BLOCKED,
        findings=(Finding("template-changed", what, "tokenizer.chat_template"),),
    )
    return Scanned(changed, diff, pinned=by_lock)


def _header(path: Path) -> Header:
    from rung.models.header import read_header

    return read_header(path)


def _agreed(against: Path, path: Path) -> str | None:
    """The chat template that a file is to have.

    Raises:
        RungError: `against` cannot be read, or pins something else.
    """
    if not against.is_file():
        raise InputError(f"{str(against)!r} is no file", hint=f"name a {LOCK_NAME} or a file")
    begin = _beginning(against)
    if begin.startswith(b"GGUF"):
        return template_of((_header(against),)) or ""
    if _is_lock(against, begin):
        return _in_lock(read_lock(against), against, path)
    try:
        return begin.decode()
    except UnicodeDecodeError:
        raise InputError(
            f"{str(against)!r} holds no chat template", hint="name a text or a .gguf file"
        ) from None


def _beginning(against: Path) -> bytes:
    with against.open("rb") as file:
        return file.read(_LONGEST_TEMPLATE)


def _is_lock(against: Path, begin: bytes) -> bool:
    return against.name == LOCK_NAME or begin.lstrip().startswith(b'{"artefacts"')


def _in_lock(lock: Lock, against: Path, path: Path) -> str | None:
    """What a lock pins for a file: by its place, else by its name, else the only model there is."""
    for artefact in lock.artefacts:
        weights = [Path(file.path) for file in artefact.files if file.role == _WEIGHTS]
        places = {(against.parent / file).absolute() for file in weights}
        if path.absolute() in places or path.name in {file.name for file in weights}:
            return artefact.template or ""
    if len(lock.artefacts) == 1:
        return lock.artefacts[0].template or ""
    raise _not_pinned(against, path)


def _not_pinned(against: Path, path: Path) -> _NotPinned:
    return _NotPinned(
        f"{str(against)!r} pins nothing called {path.name!r}",
        hint="name the file that holds the template it is to have",
    )
