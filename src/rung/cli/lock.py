"""`rung lock`: pin model files that are here already, or say and export what is pinned."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from rung.blocking import run_blocking
from rung.cli.lockfile import chosen, lock_of, project_root
from rung.cli.lockrungs import NamedModel, State, below, named_models
from rung.cli.locktext import agreement, describe, facts, frozen_facts
from rung.cli.modeltext import byte_progress
from rung.cli.options import config_option, json_option
from rung.errors import InputError, ModelError
from rung.files import write_atomically
from rung.models.lock.drift import check
from rung.models.lock.file import LOCK_NAME, read_lock, update_lock
from rung.models.lock.record import Artefact, Lock
from rung.models.reference import Origin, Reference, parse_reference
from rung.userfiles.settings import load_settings

_SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"

Progress = Callable[[int, int], None]


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--frozen",
    is_flag=True,
    help="Change nothing; exit with 1 unless rung.toml, the lock and the files agree.",
)
@click.option(
    "--export",
    metavar="FILE",
    help="Write a CycloneDX 1.6 bill of materials of all that is pinned; - prints it.",
)
@click.option("--remove", is_flag=True, help="Pin MODEL no longer; its files stay.")
@config_option
@json_option
def command(
    models: tuple[str, ...],
    frozen: bool,
    export: str | None,
    remove: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Pin models that lie below the project's folder: their digests, and what they are, go into rung.lock.

    MODEL is the path of a file, or a reference such as hf:owner/repo:Q4_K_M whose files are here and have the
    publisher's digests. Without MODEL, the files that rung.toml names and that are not pinned yet; exits with 1 when
    one of them cannot be.
    """
    if sum((frozen, export is not None, remove)) > 1 or (models and (frozen or export)):
        raise click.UsageError(
            "--frozen, --export and --remove each go alone; --remove takes MODEL"
        )
    root = project_root(config)
    if export is not None:
        _export(root, export)
    elif frozen:
        _frozen(root, config, as_json)
    elif remove:
        _remove(root, models, as_json)
    else:
        _pin(root, models, config, as_json)


def _pin(root: Path, models: Sequence[str], config: Path | None, as_json: bool) -> None:
    lock = read_lock(root / LOCK_NAME)
    rungs = () if models else named_models(load_settings(config), lock)
    new: list[Artefact] = []
    for text in models:
        new.append(_asked(parse_reference(text), root, lock, quiet=as_json))
    for path in dict.fromkeys(each.path for each in rungs if each.state is State.HERE):
        new.append(_file(path or "", root, quiet=as_json))

    def change(now: Lock) -> Lock:
        for artefact in new:
            now = now.put(artefact)
        return now

    after = update_lock(root / LOCK_NAME, change) if new else lock
    new = [after.find(each.source) or each for each in new]  # with what was known of them before
    left = [each for each in rungs if each.state not in (State.PINNED, State.HERE)]
    if as_json:
        click.echo(msgspec.json.encode(facts(lock, after, new, left)))
    else:
        click.echo(describe(lock, after, new, left))
    if left:
        raise SystemExit(1)


def _asked(reference: Reference, root: Path, lock: Lock, *, quiet: bool) -> Artefact:
    """The pin of what a user named."""
    if reference.origin is not Origin.FILE:
        return _fetched(reference, root, lock, quiet=quiet)
    artefact = _file(below(Path(reference.repo).absolute(), root), root, quiet=quiet)
    holder = lock.holder(artefact.files[0].path)
    if holder is None or holder[0].source == artefact.source:
        return artefact
    pinned, file = holder
    if file.sha256 != artefact.files[0].sha256:
        raise ModelError(
            f"{file.path!r} is pinned from {pinned.source} with sha256 {file.sha256}, and is not that file any more",
            hint=f"rung pull restores it; to pin this one, first rung lock --remove {pinned.name}",
        )
    return pinned


def _file(path: str, root: Path, *, quiet: bool) -> Artefact:
    from rung.models.lock.pinning import local_artefact

    with byte_progress(Path(path).name, quiet=quiet) as progress:
        return local_artefact(path, root, progress=progress)


def _fetched(reference: Reference, root: Path, lock: Lock, *, quiet: bool) -> Artefact:
    """The pin of a reference whose files are here.

    Raises:
        ModelError: they are not, or are pinned under another reference, which a rung may name.
    """
    from rung.models.lock.pinning import fetched_artefact
    from rung.models.pull.plan import folder_of, wanted
    from rung.models.sources.opening import Sources
    from rung.models.sources.resolved import Resolved

    async def resolved() -> Resolved:
        async with Sources() as sources:
            return await sources.resolve(reference)

    found = run_blocking(resolved())
    folder = folder_of(lock, reference)
    places = wanted(found, root, projector=False, replace=False, folder=folder)
    path = below(places[0].path, root)
    holder = lock.holder(path)
    if holder is not None and holder[0].source not in (str(reference), f"{Origin.FILE}:{path}"):
        raise ModelError(
            f"{path!r} is pinned as {holder[0].source} already, which {reference} would take the place of",
            hint=f"name it so in rung.toml, or first rung lock --remove {holder[0].name}",
        )
    with byte_progress(str(reference), quiet=quiet) as progress:
        return fetched_artefact(
            found, [(each.path, each.file) for each in places], root, progress=progress
        )


def _frozen(root: Path, config: Path | None, as_json: bool) -> None:
    lock = read_lock(root / LOCK_NAME)
    named = named_models(load_settings(config), lock)
    unpinned = [each for each in named if each.state is not State.PINNED]
    unnamed = _unnamed(lock, named)
    with byte_progress("lock", quiet=as_json) as progress:
        drifts = check(lock, root, quick=True, progress=progress)
    if as_json:
        click.echo(msgspec.json.encode(frozen_facts(lock, unpinned, unnamed, drifts)))
    else:
        click.echo(agreement(lock, unpinned, unnamed, drifts))
    if unpinned or unnamed or drifts:
        raise SystemExit(1)


def _unnamed(lock: Lock, named: Sequence[NamedModel]) -> list[Artefact]:
    """Pins that no rung names."""
    used = {each.artefact.name for each in named if each.artefact is not None}
    return [each for each in lock.artefacts if each.name not in used]


def _remove(root: Path, models: Sequence[str], as_json: bool) -> None:
    if not models:
        raise click.UsageError("--remove needs the MODEL that is to be pinned no longer")
    names = {each.name for each in chosen(lock_of(root), models)}

    def change(lock: Lock) -> Lock:
        kept = tuple(each for each in lock.artefacts if each.name not in names)
        return msgspec.structs.replace(lock, artefacts=kept)

    after = update_lock(root / LOCK_NAME, change)
    if as_json:
        click.echo(
            msgspec.json.encode(
                {"format": 1, "removed": sorted(names), "models": len(after.artefacts)}
            )
        )
    else:
        click.echo(f"pinned no longer: {', '.join(sorted(names))}; the files stay")


def _export(root: Path, target: str) -> None:
    from rung.models.lock.bom import bill_of_materials

    content = bill_of_materials(lock_of(root), at=_source_date())
    if target == "-":
        click.echo(content, nl=False)
        return
    folder = Path(target).parent
    if not folder.is_dir():
        raise InputError(
            f"cannot write {target!r}: there is no folder {str(folder)!r}",
            hint="make the folder, or name a file in one that exists",
        )
    write_atomically(Path(target), content)
    click.echo(f"exported   CycloneDX 1.6   {target}")


def _source_date() -> datetime.datetime | None:
    """The time that reproducible builds ask for: https://reproducible-builds.org/specs/source-date-epoch/."""
    text = os.environ.get(_SOURCE_DATE_EPOCH)
    if not text:
        return None
    try:
        return datetime.datetime.fromtimestamp(int(text), datetime.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"{_SOURCE_DATE_EPOCH} is {text!r}, not a number of seconds since 1970",
            hint="set it to one, or unset it",
        ) from error
