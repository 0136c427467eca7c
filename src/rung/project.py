"""One project folder, opened: its settings, tasks, certificates and calibrators, and the courses they make.

A `Course` is everything that is the same for all rows of one task with one privacy label: what policy allows, the
open rungs, and each rung's acceptance rule. It is prepared once, before the first row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from rung.config import Accept, RungSettings, Settings
from rung.costs import CostEstimate
from rung.engines.opening import Engines
from rung.engines.protocol import Engine, FindsEvidence
from rung.errors import EngineError, ModelError
from rung.files import write_atomically
from rung.policy import AllowedSet, allowed_set
from rung.task import Privacy, Task
from rung.text import text_digest
from rung.trust.acceptance import Rule, make_rules
from rung.trust.calibrator import Calibrator
from rung.trust.certificate import Certificate, read_certificate
from rung.trust.fingerprint import RungIdentity, fingerprint
from rung.userfiles.settings import load_settings
from rung.userfiles.tasks import find_task

UNREACHABLE = "unreachable"
"""Stands in a fingerprint for the capabilities of an engine that does not answer."""


class OpenRung(msgspec.Struct, frozen=True):
    """A rung ready to run: its settings, its engine, and what turns its signals into confidence."""

    settings: RungSettings
    engine: Engine
    calibrator: Calibrator | None


class FittingRows(msgspec.Struct, frozen=True):
    """Digests of the rows a calibrator was fitted on: they may not certify."""

    format: int = 1
    digests: list[int] = []


class Course(msgspec.Struct, frozen=True):
    """The prepared way for rows of one task with one label."""

    task: Task
    allowed: AllowedSet
    rungs: Mapping[str, OpenRung]
    rules: Mapping[str, Rule]
    certificate: Certificate | None
    estimate: CostEstimate


class Project:
    """A folder with a `rung.toml`, opened for use.

    Args:
        settings: what `rung.toml` says.
        target: certify against this bound instead of each task's own, None for the task's own.
    """

    def __init__(self, settings: Settings, *, target: float | None = None) -> None:
        self.settings = settings
        self._target = target
        self._tasks: dict[str, Task] = {}
        self._engines = Engines(settings)
        self._courses: dict[tuple[str, Privacy], Course] = {}

    @classmethod
    def open(cls, path: str | Path | None = None, *, target: float | None = None) -> Project:
        """Open the project whose `rung.toml` is at `path`, or the nearest one upwards.

        Raises:
            ConfigError: there is none, or it is wrong.
        """
        return cls(load_settings(Path(path) if path is not None else None), target=target)

    @property
    def certificates(self) -> Path:
        """The folder of certificates and calibrators."""
        return self.settings.path(self.settings.certificates_dir)

    def task(self, name: str) -> Task:
        """The task called `name`.

        Raises:
            ConfigError: there is none, or its file is wrong.
        """
        if name not in self._tasks:
            self._tasks[name] = find_task(self.settings, name)
        return self._tasks[name]

    def target(self, task: Task) -> float:
        """The error bound that applies to `task`."""
        return self._target if self._target is not None else task.quality.max_error

    def rung(self, name: str, task: Task) -> OpenRung:
        """The rung `name` with the engine that runs `task`."""
        settings = self.settings.rungs[name]
        engine = self._engines.get(settings, task.name)
        return OpenRung(settings, engine, self._calibrator(task, name))

    def calibrator_path(self, task: Task, rung: str) -> Path:
        """Where the calibrator of `rung` on `task` lives."""
        return self.certificates / task.name / f"{rung}.calibrator.json"

    def _calibrator(self, task: Task, rung: str) -> Calibrator | None:
        path = self.calibrator_path(task, rung)
        try:
            return Calibrator.from_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ModelError as error:
            raise ModelError(f"{path}: {error.message}", hint=error.hint) from error

    def keep_calibrator(
        self, task: Task, rung: str, calibrator: Calibrator, fitted_on: Iterable[str] = ()
    ) -> None:
        """Write the calibrator of `rung` on `task`; the next `rung` call has it.

        Args:
            task, rung: whose it is.
            calibrator: what was fitted.
            fitted_on: texts it was fitted on, where no model's artefact remembers them; only digests are kept.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.calibrator_path(task, rung)
        rows = FittingRows(digests=sorted({text_digest(text) for text in fitted_on}))
        write_atomically(path.with_suffix(".rows.json"), msgspec.json.encode(rows) + b"\n")
        write_atomically(path, calibrator.to_json())

    def fitting_rows(self, task: Task, rung: str) -> frozenset[int]:
        """`text_digest`s of the texts that the calibrator of `rung` was fitted on, as far as they were kept.

        Raises:
            ModelError: the file that holds them is damaged.
        """
        path = self.calibrator_path(task, rung).with_suffix(".rows.json")
        try:
            return frozenset(msgspec.json.decode(path.read_bytes(), type=FittingRows).digests)
        except FileNotFoundError:
            return frozenset()
        except msgspec.DecodeError as error:
            raise ModelError(
                f"{path}: damaged: {error}", hint="restore it from version control"
            ) from error

    async def course(self, task_name: str, label: Privacy) -> Course:
        """The prepared way for rows of this task with this label; made once, then remembered.

        Raises:
            ConfigError, ModelError, CertificateError: a file it needs is wrong.
        """
        found = self._courses.get((task_name, label))
        return found if found is not None else await self._prepare(self.task(task_name), label)

    async def _prepare(self, task: Task, label: Privacy) -> Course:
        ladder = self.settings.ladder(task.ladder)
        allowed = allowed_set(
            self.settings.policy, label, [(rung.name, rung.where) for rung in ladder]
        )
        rungs = {name: self.rung(name, task) for name in allowed.rungs}
        certificate = read_certificate(self.certificates, task.name, self.target(task))
        current = await certified_fingerprint(task, allowed, rungs) if certificate else {}
        rules = make_rules(
            {name: rung.settings.accept for name, rung in rungs.items()},
            label,
            certificate,
            current,
        )
        estimate = CostEstimate.on_top(self.settings, task)
        course = Course(task, allowed, rungs, rules, certificate, estimate)
        if UNREACHABLE not in current.values():  # else ask again: the engine may come up
            self._courses[task.name, label] = course
        return course

    async def aclose(self) -> None:
        """Release every engine."""
        await self._engines.aclose()
        self._courses.clear()


async def certified_fingerprint(
    task: Task, allowed: AllowedSet, rungs: Mapping[str, OpenRung]
) -> dict[str, str]:
    """The fingerprint of what would run now for all rungs of `allowed`, those to be certified in detail."""
    certified = {
        name: rung for name, rung in rungs.items() if rung.settings.accept is Accept.CERTIFIED
    }
    # first: an identity can rest on what asking the engine finds out
    evidence = {name: await _evidence(rung.engine, task) for name, rung in certified.items()}
    return fingerprint(
        task,
        allowed,
        {name: rung.settings.accept for name, rung in rungs.items()},
        [
            RungIdentity(
                name,
                {**rung.engine.identity(task), "evidence": evidence[name]},
                rung.calibrator.digest if rung.calibrator is not None else "none",
            )
            for name, rung in certified.items()
        ],
    )


async def _evidence(engine: Engine, task: Task) -> str:
    """What a confidence of this engine is made from: a server that gains or loses it gives other confidences."""
    try:
        if isinstance(engine, FindsEvidence):
            return await engine.evidence(task)
        found = await engine.capabilities()
    except EngineError:
        return UNREACHABLE
    return f"logprobs {found.logprobs.value}, schema {found.json_schema.value}"
