"""The climb: from a request to an answer, one allowed rung after another, until one may be trusted or none is left.

`next_step` decides and has no effects; `Ladder` does and decides nothing. Policy is asked once, before anything
runs; what leaves the machine is in the ledger before it leaves; an answer is returned after its receipt is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from rung.climb import Climb, Finished
from rung.egress import EgressGate
from rung.errors import StorageError, first_of
from rung.ids import now
from rung.ledger.digest import KeyedDigest
from rung.ledger.record import ReceiptEntry
from rung.ledger.writer import Ledger
from rung.outcome import perform
from rung.policy import AllowedSet, effective_label
from rung.project import OpenRung, Project
from rung.receipt import OPERATIONAL, Answer, Attempt, Verdict
from rung.review import ReviewItem, ReviewStore
from rung.task import Kind, Request


class Try(msgspec.Struct, frozen=True):
    """Run this rung next."""

    rung: str


class Accept(msgspec.Struct, frozen=True):
    """The last attempt is the answer."""


class Abstain(msgspec.Struct, frozen=True):
    """No allowed rung is left and none was trusted: a person decides."""

    reason: str


def next_step(allowed: AllowedSet, attempts: Sequence[Attempt]) -> Try | Accept | Abstain:
    """What to do after these attempts: pure, so that it can be explained, replayed and tested."""
    if attempts and attempts[-1].verdict is Verdict.ACCEPTED:
        return Accept()
    tried = {attempt.rung for attempt in attempts}
    for rung in allowed.rungs:
        if rung not in tried:
            return Try(rung)
    if not allowed.rungs:
        return Abstain(f"policy allows no rung of this ladder for {allowed.label.value} text")
    kept = ", and policy keeps this text from the other rungs" if allowed.refusals else ""
    broken = [f"{a.rung} {a.verdict.value}" for a in attempts if a.verdict in OPERATIONAL]
    if broken:
        return Abstain(f"no rung answered: {', '.join(broken)}{kept}")
    return Abstain(f"not sure enough{kept}" if kept else "no rung was sure enough")


class Recorder(Protocol):
    """Makes finished answers durable; they count as done when `record` returns."""

    async def record(self, finished: Sequence[Finished]) -> None:
        """Keep these answers."""
        ...


class Ladder:
    """Answers requests with the smallest rung that may be trusted.

    Open with `Ladder.open()`, use as an async context manager, call `run` or `run_many`; from blocking code pass
    the coroutine to `run_blocking`.
    """

    def __init__(
        self, project: Project, ledger: Ledger, digest: KeyedDigest, reviews: ReviewStore
    ) -> None:
        self.project = project
        self.ledger = ledger
        self.gate = EgressGate(ledger, digest)
        self.reviews = reviews
        self._digest = digest
        self._slots: dict[str, asyncio.Semaphore] = {}

    @classmethod
    async def open(cls, path: str | Path | None = None, *, target: float | None = None) -> Ladder:
        """Open the project at `path` (a `rung.toml`), or the nearest one upwards, with its ledger.

        Args:
            path: the settings file.
            target: certify against this error bound instead of each task's own.

        Raises:
            ConfigError: the project's files are wrong.
            StorageError: the ledger cannot be opened.
        """
        project = Project.open(path, target=target)
        settings = project.settings
        return cls(
            project,
            Ledger.open(settings.ledger.url, root=settings.root),
            KeyedDigest.open(settings.ledger.url, root=settings.root),
            ReviewStore.open(settings.ledger, root=settings.root),
        )

    async def run(self, request: Request) -> Answer:
        """Answer one request, or abstain; the receipt says which and why.

        Raises:
            ConfigError, ModelError, CertificateError: the task or something it needs is wrong.
            StorageError: the receipt could not be made durable; there is no answer without one.
        """
        return (await self.run_many([request]))[0]

    async def run_many(
        self,
        requests: Sequence[Request],
        *,
        recorder: Recorder | None = None,
        run: str | None = None,
        halted: Callable[[], bool] = lambda: False,
    ) -> list[Answer]:
        """Answer many requests, in their order; each is recorded as soon as it is finished.

        Args:
            requests: any mixture of tasks and labels.
            recorder: keeps finished answers in place of a plain entry in the ledger.
            run: id of the batch run, noted in each receipt.
            halted: once it says True no further attempt begins; answers of requests that are then not finished
                are left out.

        Raises:
            As `run`.
        """
        climbs = [await self._start(index, request) for index, request in enumerate(requests)]
        recorder = recorder or _LedgerRecorder(self.ledger)
        goal = _Goal(recorder, run, halted, [None] * len(climbs))
        try:
            await self._go_on(await self._settle(climbs, goal), goal)
        except* Exception as errors:
            raise first_of(errors) from errors
        return [answer for answer in goal.answers if answer is not None]

    async def _start(self, index: int, request: Request) -> Climb:
        """Fix what is fixed for this request: its label, and so its course."""
        task = self.project.task(request.task)
        course = await self.project.course(task.name, effective_label(task.privacy, request.label))
        return Climb(index, request, course, self._digest(request.text))

    async def _settle(self, climbs: Sequence[Climb], goal: _Goal) -> list[tuple[Climb, str]]:
        """Record the climbs that are done; the others with the rung each goes on to."""
        created = now()
        done: list[Finished] = []
        waiting: list[tuple[Climb, str]] = []
        for climb in climbs:
            match next_step(climb.course.allowed, climb.attempts):
                case Try(rung):
                    waiting.append((climb, rung))
                case Accept():
                    done.append(climb.finish(goal.run, None, created))
                case Abstain(reason):
                    done.append(climb.finish(goal.run, reason, created))
        await self._finish(done, goal)
        return waiting

    async def _go_on(self, waiting: Sequence[tuple[Climb, str]], goal: _Goal) -> None:
        """Run each climb on its next rung, those of one course together in micro-batches."""
        groups: dict[tuple[int, str], list[Climb]] = {}
        for climb, name in waiting:
            groups.setdefault((id(climb.course), name), []).append(climb)
        async with asyncio.TaskGroup() as attempts:
            for (_, name), members in groups.items():
                course = members[0].course
                rung = course.rungs[name]
                # only labels are scored together; what is written takes a slot of its own
                size = rung.engine.batch if course.task.kind is Kind.CLASSIFY else 1
                for first in range(0, len(members), size):
                    part = members[first : first + size]
                    attempts.create_task(self._attempt(rung, part, goal))

    async def _attempt(self, rung: OpenRung, climbs: Sequence[Climb], goal: _Goal) -> None:
        """Run one micro-batch on one rung, then let its members climb on.

        The rung's slot is given back when the answers are recorded: a crash then loses no more of them than the rung
        may have in flight.
        """
        async with self._slot(rung):
            if goal.halted():
                return
            course = climbs[0].course
            performed = await perform(
                rung,
                course.task,
                course.allowed,
                [climb.request for climb in climbs],
                gate=self.gate,
                receipts=[climb.id for climb in climbs],
                below=[climb.below for climb in climbs] if climbs[0].attempts else (),
            )
            for climb, outcome in zip(climbs, performed.outcomes, strict=True):
                climb.add(rung, outcome)
            waiting = await self._settle(climbs, goal)
        await self._go_on(waiting, goal)

    async def _finish(self, done: Sequence[Finished], goal: _Goal) -> None:
        """Queue the unanswered for review, make the rest durable, and only then count them as answered."""
        if not done:
            return
        unanswered = [finished for finished in done if not finished.answer.answered]
        if unanswered:
            items = [_review_item(finished) for finished in unanswered]
            await asyncio.to_thread(self.reviews.put_many, items)
        await goal.recorder.record(done)
        for finished in done:
            goal.answers[finished.index] = finished.answer

    def _slot(self, rung: OpenRung) -> asyncio.Semaphore:
        """The rung's limit of attempts in flight."""
        settings = rung.settings
        return self._slots.setdefault(settings.name, asyncio.Semaphore(settings.limits.concurrency))

    async def aclose(self) -> None:
        """Release engines, seal the ledger, close the review store."""
        try:
            await self.project.aclose()
            await self.ledger.aclose()
        finally:
            self.reviews.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        except StorageError as unsealed:
            if error is None:
                raise
            error.add_note(f"and the ledger was not sealed: {unsealed}")


class _Goal(msgspec.Struct):
    """Where the answers of one `run_many` go."""

    recorder: Recorder
    run: str | None
    halted: Callable[[], bool]
    answers: list[Answer | None]


class _LedgerRecorder:
    """Keeps answers as receipts in the ledger and nowhere else."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def record(self, finished: Sequence[Finished]) -> None:
        await self._ledger.append([ReceiptEntry(f.answer.receipt) for f in finished])


def _review_item(finished: Finished) -> ReviewItem:
    receipt = finished.answer.receipt
    return ReviewItem(
        key=finished.request.idempotency_key or receipt.id,
        task=receipt.task,
        label=receipt.label,
        receipt=receipt.id,
        reason=receipt.standing_reason,
        input_digest=receipt.input_digest,
        created=receipt.created,
        text=finished.request.text,
    )
