"""Whether a project can work: its files, engines, credentials, pinned models, ledger and certificates.

Only looks: nothing is made, changed, sent for an answer, or shown that is secret. How findings are printed is
`cli.doctor`'s business.
"""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from rung.config import Accept, EngineName, RungSettings, Settings
from rung.engines.protocol import Health, State
from rung.errors import ConfigError, RungError
from rung.ledger.database import locate, store_path
from rung.ledger.queries import heads, reading
from rung.ledger.verify import verify
from rung.ledger.writer import Ledger
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.models.lock.record import LockedFile
from rung.policy import allowed_set
from rung.project import Project
from rung.quantities import counted
from rung.task import Kind, Task
from rung.trust.certificate import read_certificate
from rung.userfiles.document import shown_path
from rung.userfiles.settings import load_settings
from rung.userfiles.tasks import load_task, task_paths

ENGINE_PATIENCE_S = 20.0
"""Seconds an engine may take to say how it is."""

LOCK_PATIENCE_S = 2.0
"""Seconds to wait for another process that holds the ledger."""

RECORDS_VERIFIED = 20_000
"""A ledger with more records is not verified here: that is `rung ledger verify`'s work."""


class Level(enum.StrEnum):
    """How bad a finding is: fine, not yet done or worth knowing, or broken."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        area: settings, tasks, credentials, engines, models, ledger or certificates.
        level: how it is.
        detail: one sentence.
        fix: what to do about it, None when it is fine.
    """

    area: str
    level: Level
    detail: str
    fix: str | None = None


async def examine(path: Path | None) -> list[Check]:
    """Everything there is to say about the project at `path`, or the nearest one upwards."""
    try:
        settings = load_settings(path)
    except ConfigError as error:
        return _refused("settings", error, "mend the line")
    tasks, task_checks = _tasks(settings)
    project = Project(settings)
    try:
        return [
            *_settings(settings),
            *task_checks,
            *_credentials(settings, os.environ),
            *await _engines(project, tasks),
            *await asyncio.to_thread(_lock, settings.root),
            *await _ledger(settings),
            *[check for task in tasks for check in await _certificate(project, task)],
        ]
    finally:
        await project.aclose()


def _settings(settings: Settings) -> Iterator[Check]:
    yield Check(
        "settings",
        Level.OK,
        f"rung.toml: {counted(len(settings.rungs), 'rung')}, {counted(len(settings.ladders), 'ladder')}",
    )
    used = {name for ladder in settings.ladders.values() for name in ladder}
    used |= {rung.replays for rung in settings.rungs.values() if rung.replays and rung.name in used}
    for name in settings.rungs:
        if name not in used:
            yield Check(
                "settings",
                Level.WARNING,
                f"rung {name!r} stands on no ladder",
                f"add {name!r} to a ladder in rung.toml, or remove [rungs.{name}]",
            )


def _tasks(settings: Settings) -> tuple[list[Task], list[Check]]:
    """The tasks that can be read, and what there is to say of all of them."""
    try:
        paths = task_paths(settings)
    except ConfigError as error:
        return [], _refused("tasks", error, "make the folder")
    tasks: list[Task] = []
    checks: list[Check] = []
    for path in paths:
        try:
            task = load_task(path, settings)
        except ConfigError as error:
            checks += _refused("tasks", error, "mend the line")
            continue
        tasks.append(task)
        checks.append(_task(settings, task))
    if not paths:
        folder = f"{settings.tasks_dir}/"
        fix = f"write {folder}NAME.toml; rung schema task prints what is allowed"
        checks.append(Check("tasks", Level.WARNING, f"no task in {folder}", fix))
    return tasks, checks


def _task(settings: Settings, task: Task) -> Check:
    """Whether policy and the ladder's engines leave the task a rung."""
    ladder = settings.ladder(task.ladder)
    allowed = allowed_set(settings.policy, task.privacy, [(r.name, r.where) for r in ladder])
    able = [
        rung.name
        for rung in ladder
        if rung.name in allowed.rungs and (rung.engine, task.kind) not in _UNABLE
    ]
    what = f"{task.name}: {task.kind.value}"
    what += f", {len(task.labels)} labels" if task.labels else ""
    if not allowed.rungs:
        return Check(
            "tasks",
            Level.WARNING,
            f"{what}; policy allows no rung of ladder {task.ladder!r} for {task.privacy.value} text",
            f"add a rung that runs where {allowed.rule} in rung.toml allows",
        )
    if not able:
        return Check(
            "tasks",
            Level.ERROR,
            f"{what}; no rung it may use can do that (a student only classifies)",
            f"add a rung on engine 'llama_cpp' or 'openai' to ladder {task.ladder!r}",
        )
    return Check("tasks", Level.OK, f"{what}; {task.privacy.value} text may use {', '.join(able)}")


_UNABLE = {(EngineName.STUDENT, kind) for kind in Kind if kind is not Kind.CLASSIFY}


def _credentials(settings: Settings, environment: Mapping[str, str]) -> Iterator[Check]:
    """Whether the variables that hold keys are there; their values are never looked at closer than that."""
    for rung in settings.rungs.values():
        name = rung.api_key_env
        if name is None:
            continue
        if environment.get(name, "").strip():
            yield Check("credentials", Level.OK, f"{name} is set, for rung {rung.name!r}")
        else:
            problem = "is empty" if name in environment else "is not set"
            yield Check(
                "credentials",
                Level.ERROR,
                f"the environment variable {name} {problem}; rung {rung.name!r} needs it",
                f"export {name}=…",
            )


async def _engines(project: Project, tasks: list[Task]) -> list[Check]:
    """How every engine is that a task could use, asked all at once."""
    settings = project.settings
    asked: dict[tuple[str, str], tuple[RungSettings, Task]] = {}
    for task in tasks:
        for rung in settings.ladder(task.ladder):
            if (rung.engine, task.kind) not in _UNABLE:
                asked.setdefault(
                    (rung.name, task.name if "{task}" in rung.model else ""), (rung, task)
                )
    return list(await asyncio.gather(*(_engine(project, *pair) for pair in asked.values())))


async def _engine(project: Project, rung: RungSettings, task: Task) -> Check:
    whose = f"{rung.name} ({rung.engine.value}, {rung.where.value})"
    if rung.engine is EngineName.STUDENT:
        whose = f"{rung.name} for {task.name}"
        folder = project.settings.path(rung.model.format(task=task.name))
        if not folder.exists():
            train = f"rung train {task.name} --on SUITE"
            return Check("engines", Level.WARNING, f"{whose}: not trained yet", train)
    try:
        async with asyncio.timeout(ENGINE_PATIENCE_S):
            health = await project.rung(rung.name, task).engine.health()
    except TimeoutError:
        health = Health(State.DOWN, f"did not answer within {ENGINE_PATIENCE_S:.0f} s")
    except RungError as error:
        health = Health(State.MISCONFIGURED, error.message, error.hint)
    level, usual = _STATES[health.state]
    fix = None if level is Level.OK else health.hint or usual
    return Check("engines", level, f"{whose}: {health.detail or health.state.value}", fix)


_STATES = {
    State.READY: (Level.OK, ""),
    State.COLD: (Level.WARNING, "wait until its model is loaded"),
    State.DOWN: (Level.ERROR, "start the server, or correct base_url in rung.toml"),
    State.MISCONFIGURED: (Level.ERROR, "correct the rung in rung.toml"),
}


def _lock(root: Path) -> list[Check]:
    """Whether the files of pinned models are there and as long as they were; nothing where none is pinned."""
    try:
        lock = read_lock(root / LOCK_NAME)
    except RungError as error:
        return _refused("models", error, "restore rung.lock from version control")
    checks = [
        check
        for artefact in lock.artefacts
        for file in artefact.files
        if (check := _pinned_file(root / file.path, file, artefact.name)) is not None
    ]
    if lock.artefacts and not checks:
        held = counted(len(lock.artefacts), "model")
        detail = f"{LOCK_NAME}: {held}, each file as long as it was; what is in them was not read (rung verify)"
        return [Check("models", Level.OK, detail)]
    return checks


def _pinned_file(path: Path, file: LockedFile, name: str) -> Check | None:
    """What is wrong with a pinned file that its name and size tell."""
    try:
        size = path.stat().st_size
    except OSError:
        detail = f"{LOCK_NAME}: {file.path} of {name} is not there"
        return Check("models", Level.WARNING, detail, f"rung pull {name}")
    if size == file.size:
        return None
    detail = f"{LOCK_NAME}: {file.path} of {name} has {size:,} bytes, {file.size:,} are pinned"
    fix = f"rung pull {name}, or rung verify {name} to see what changed"
    return Check("models", Level.ERROR, detail, fix)


async def _ledger(settings: Settings) -> list[Check]:
    """Whether the ledger can be read and written, and is what was written."""
    url, root = settings.ledger.url, settings.root
    try:
        path = store_path(locate(url, root), root)
        if not path.exists():
            return [_future_ledger(path)]
        writer = await asyncio.to_thread(
            Ledger.open, url, root=root, busy_timeout_s=LOCK_PATIENCE_S
        )
        await writer.aclose()
        return [await asyncio.to_thread(_verified, url, root, path)]
    except RungError as error:
        return _refused("ledger", error, "rung ledger verify shows what is wrong")


def _future_ledger(path: Path) -> Check:
    folder = path.parent
    if not folder.is_dir():
        return Check(
            "ledger",
            Level.ERROR,
            f"{shown_path(path)}: its folder does not exist",
            "make the folder, or set ledger.url in rung.toml to another place",
        )
    if os.access(folder, os.W_OK):
        return Check("ledger", Level.OK, f"{shown_path(path)}: made with the first answer")
    return Check(
        "ledger",
        Level.ERROR,
        f"{shown_path(path)}: its folder cannot be written to",
        "make the folder writable, or set ledger.url in rung.toml to another place",
    )


def _verified(url: str, root: Path, path: Path) -> Check:
    name = shown_path(path)
    with reading(url, root=root, busy_timeout_s=LOCK_PATIENCE_S) as connection:
        records = sum(head.seq + 1 for head in heads(connection))
        if records > RECORDS_VERIFIED:
            detail = f"{name}: {counted(records, 'record')}; too many to verify here (rung ledger verify)"
            return Check("ledger", Level.OK, detail)
        result = verify(connection)
    if result.intact:
        detail = f"{name}: {counted(result.receipts, 'receipt')}, every hash verified"
        return Check("ledger", Level.OK, detail)
    first = result.problems[0]
    return Check(
        "ledger",
        Level.ERROR,
        f"{name}: {first.where}: {first.what}",
        "rung ledger verify shows all; restore the file from a backup",
    )


async def _certificate(project: Project, task: Task) -> list[Check]:
    """Whether the task's certificate is there and holds for what would run now."""
    ladder = project.settings.ladder(task.ladder)
    if not any(rung.accept is Accept.CERTIFIED for rung in ladder):
        detail = f"{task.name}: none needed; its rungs answer uncertified (accept = 'contract')"
        return [Check("certificates", Level.OK, detail)]
    target = project.target(task)
    again = f"rung calibrate {task.name} --on SUITE"
    try:
        certificate = read_certificate(project.certificates, task.name, target)
        if certificate is None:
            detail = f"{task.name}: no certificate at {_percent(target)}; nothing is accepted as certified"
            return [Check("certificates", Level.WARNING, detail, again)]
        rules = (await project.course(task.name, task.privacy)).rules
    except RungError as error:
        return _refused("certificates", error, again)
    bound = next((rule.bound for rule in rules.values() if rule.bound is not None), None)
    if bound is not None:
        detail = (
            f"{task.name}: {bound.certificate}, at most {_percent(bound.max_error)} wrong with "
            f"{_percent(bound.confidence)} confidence; {counted(bound.labels, 'label')}, truth: {bound.truth}"
        )
        return [Check("certificates", Level.OK, detail)]
    why = next((r.reason for r in rules.values() if r.accept is Accept.CERTIFIED), "no rung")
    void = any(statement.certified for statement in certificate.sets)
    level = Level.ERROR if void else Level.WARNING
    return [Check("certificates", level, f"{task.name}: {why}", again)]


def _refused(area: str, error: RungError, fix: str) -> list[Check]:
    """One check for each line of an error's message."""
    return [
        Check(area, Level.ERROR, line, error.hint or fix) for line in error.message.splitlines()
    ]


def _percent(share: float) -> str:
    return f"{round(share * 100, 4):g} %"
