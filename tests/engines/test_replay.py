"""Recorded answers: exact, asked for no more than the mode says, and safe from kills and full disks."""

from __future__ import annotations

import asyncio
import math
import resource
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from rung.config import ReplayMode
from rung.engines.protocol import (
    Capabilities,
    Classification,
    ClassifyRequest,
    Finish,
    GenerateRequest,
    Generation,
    Health,
    State,
    Support,
    TokenLogprob,
)
from rung.engines.replay import ReplayEngine
from rung.errors import EngineError, EngineTimeout, EngineTruncated
from rung.receipt import Usage
from rung.task import Kind, Label, Message, Task

T = TypeVar("T")
RECORD, FILL, REPLAY = ReplayMode.RECORD, ReplayMode.FILL, ReplayMode.REPLAY
TASK = Task(name="t", kind=Kind.CLASSIFY, labels=(Label("a"), Label("b"), Label("c")))
SECRET = "please find my lost card 4711"


class Scripted:
    """An engine whose answers follow from the text; texts that begin with `!` fail.

    Args:
        model: part of its identity.
    """

    def __init__(self, model: str = "m1") -> None:
        self.model = model
        self.asked: list[str] = []
        self.failing = True
        self.closed = 0

    @property
    def batch(self) -> int:
        """Three at once."""
        return 3

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Probabilities that no short decimal can hold; `?` texts have no evidence."""
        self.asked += request.texts
        count = len(request.texts)
        rows = np.array([_row(text) for text in request.texts]).reshape(count, 3)
        bad = [i for i, text in enumerate(request.texts) if text[:1] == "!" and self.failing]
        rows[bad] = np.nan
        return Classification(
            probabilities=rows,
            chosen=np.array([-1 if i in bad else i % 3 for i in range(count)]),
            usages=tuple(Usage(len(text), 1) for text in request.texts),
            failures={i: EngineTimeout("too slow", hint="wait", charged=True) for i in bad},
            latencies_ms=tuple(0.1 * len(text) for text in request.texts),
            finishes=(Finish.STOP,) * count,
        )

    async def generate(self, request: GenerateRequest) -> Generation:
        """The prompt reversed, with token evidence."""
        text = request.messages[-1].content
        self.asked.append(text)
        if text[:1] == "!":
            raise EngineTruncated("cut off", charged=True)
        tokens = (TokenLogprob("x", math.log(1 / 3), (("x", math.log(1 / 3)), ("y", -2.0))),)
        return Generation(text[::-1], Finish.STOP, Usage(3, 4), tokens, 1 / 3, "m")

    async def embed(self, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """Two thirds."""
        self.asked += texts
        return np.array([[len(text) / 3, 1 / 7] for text in texts], dtype=np.float32)

    async def health(self) -> Health:
        """Ready."""
        return Health(State.READY, "scripted")

    async def capabilities(self) -> Capabilities:
        """Everything."""
        return Capabilities(Support.YES, Support.YES, Support.YES, Support.YES, Support.NO)

    def identity(self, task: Task) -> Mapping[str, str]:
        """Its model."""
        return {"engine": "scripted", "model": self.model}

    async def aclose(self) -> None:
        """Counted."""
        self.closed += 1


def _row(text: str) -> list[float]:
    if text[:1] == "?":
        return [math.nan] * 3
    third = len(text) / 3
    return [third - math.floor(third), 1e-300 / 7, math.pi / 10]


def using(
    path: Path,
    mode: ReplayMode,
    work: Callable[[ReplayEngine], Awaitable[T]],
    inner: Scripted | None = None,
) -> T:
    """Run `work` on a fresh replay engine and close it."""

    async def run() -> T:
        engine = ReplayEngine(inner, path, mode)
        try:
            return await work(engine)
        finally:
            await engine.aclose()

    return asyncio.run(run())


def classify(
    path: Path, mode: ReplayMode, *texts: str, inner: Scripted | None = None, task: Task = TASK
) -> Classification:
    """One micro-batch."""
    request = ClassifyRequest(task=task, texts=texts)
    return using(path, mode, lambda engine: engine.classify(request), inner)


def ask(text: str) -> GenerateRequest:
    """One generation."""
    return GenerateRequest(messages=(Message("user", text),), max_tokens=9)


def same(one: Classification, other: Classification) -> bool:
    """Whether two micro-batches are equal in every bit."""
    return (
        one.probabilities.tobytes() == other.probabilities.tobytes()
        and one.chosen.tolist() == other.chosen.tolist()
        and one.usages == other.usages
        and one.latencies_ms == other.latencies_ms
        and one.finishes == other.finishes
        and [(i, type(e), str(e), e.hint, e.charged) for i, e in one.failures.items()]  # type: ignore[attr-defined]
        == [(i, type(e), str(e), e.hint, e.charged) for i, e in other.failures.items()]  # type: ignore[attr-defined]
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A recording that is not there yet, in a folder that is not there either."""
    return tmp_path / "recordings" / "big.jsonl"


def test_classifications_come_back_bit_for_bit(path: Path) -> None:
    """Probabilities, missing evidence, usage, latencies and typed failures survive the file."""
    inner = Scripted()
    texts = ("one", "?two", "!three", "four4")
    recorded = classify(path, RECORD, *texts, inner=inner)
    assert same(recorded, asyncio.run(Scripted().classify(ClassifyRequest(task=TASK, texts=texts))))
    assert same(classify(path, REPLAY, *texts), recorded)
    assert same(classify(path, REPLAY, *texts, inner=inner), recorded)
    assert inner.asked == list(texts)


def test_how_texts_were_put_in_batches_does_not_matter(path: Path) -> None:
    """Each text is recorded for itself."""
    classify(path, RECORD, "one", "two", "three", inner=Scripted())
    apart = [classify(path, REPLAY, text).probabilities[0].tolist() for text in ("three", "one")]
    assert apart == [_row("three"), _row("one")]


def test_generations_and_embeddings_come_back_exactly(path: Path) -> None:
    """Token evidence and vectors too; a recorded error is raised again."""

    async def work(engine: ReplayEngine) -> tuple[Generation, bytes]:
        with pytest.raises(EngineTruncated, match="cut off") as caught:
            await engine.generate(ask("!x"))
        assert caught.value.charged
        assert (await engine.embed(())).shape[0] == 0
        return await engine.generate(ask("abc")), (await engine.embed(("x", "yy"))).tobytes()

    inner = Scripted()
    recorded = using(path, RECORD, work, inner)
    asked = list(inner.asked)
    assert using(path, REPLAY, work, inner) == recorded
    assert inner.asked == asked


def test_fill_asks_only_for_what_is_missing_or_failed(path: Path) -> None:
    """An answer is never asked for twice; a failure is no answer."""
    inner = Scripted()
    classify(path, FILL, "one", "!two", inner=inner)
    inner.failing, inner.asked = False, []
    got = classify(path, FILL, "one", "!two", "three", inner=inner)
    assert inner.asked == ["!two", "three"]
    assert not got.failures
    assert same(classify(path, REPLAY, "one", "!two", "three"), got)


def test_record_asks_for_everything_and_the_later_answer_counts(path: Path) -> None:
    """A second recording replaces the first, answer by answer."""
    inner = Scripted()
    classify(path, RECORD, "!one", inner=inner)
    inner.failing = False
    classify(path, RECORD, "!one", inner=inner)
    assert inner.asked == ["!one", "!one"]
    assert not classify(path, REPLAY, "!one").failures


def test_a_missing_answer_fails_its_text_alone(path: Path) -> None:
    """The error names the file and how to record."""
    classify(path, RECORD, "one", inner=Scripted())
    got = classify(path, REPLAY, "one", "other")
    assert list(got.failures) == [1]
    error = got.failures[1]
    assert isinstance(error, EngineError)
    assert str(path) in error.message
    assert 'mode = "fill"' in str(error.hint)
    with pytest.raises(EngineError, match="no answer to this call"):
        using(path, REPLAY, lambda engine: engine.generate(ask("new")), Scripted())


@pytest.mark.parametrize(
    ("inner", "task"),
    [
        (Scripted("m2"), TASK),
        (Scripted(), msgspec.structs.replace(TASK, instructions="other")),
        (Scripted(), msgspec.structs.replace(TASK, labels=TASK.labels[::-1])),
    ],
)
def test_an_answer_is_not_given_to_another_question(
    path: Path, inner: Scripted, task: Task
) -> None:
    """Another model or another task finds nothing."""
    classify(path, RECORD, "one", inner=Scripted())
    assert list(classify(path, REPLAY, "one", inner=inner, task=task).failures) == [0]


def test_the_file_holds_no_prompt_text(path: Path) -> None:
    """What was asked is there only as a digest."""
    classify(path, RECORD, SECRET, inner=Scripted())
    text = path.read_text()
    assert "4711" not in text
    assert text.splitlines()[0] == '{"type":"rung-recording","format":1}'


def test_identity_and_state_are_those_of_the_recorded_engine(path: Path) -> None:
    """A certificate does not tell a replayed engine from the engine itself."""
    inner = Scripted()

    async def facts(engine: ReplayEngine) -> tuple[object, ...]:
        health, able = await engine.health(), await engine.capabilities()
        return dict(engine.identity(TASK)), health.state, able.classify, able.embed, engine.batch

    classify(path, RECORD, "one", inner=inner)
    identity = {"engine": "scripted", "model": "m1"}
    assert using(path, RECORD, facts, inner) == (identity, State.READY, Support.YES, Support.YES, 3)
    assert using(path, REPLAY, facts) == (identity, State.READY, Support.YES, Support.NO, 256)


def test_without_a_recording_replay_says_how_to_make_one(path: Path) -> None:
    """Nothing is created by looking."""
    with pytest.raises(EngineError, match="there is no recording") as caught:
        classify(path, REPLAY, "one", inner=Scripted())
    assert 'mode = "record"' in str(caught.value.hint)
    health = using(path, REPLAY, lambda engine: engine.health(), Scripted())
    assert health.state is State.MISCONFIGURED
    assert not path.exists()


def test_without_an_engine_nothing_can_be_recorded(path: Path) -> None:
    """Recording needs what is recorded."""
    with pytest.raises(EngineError, match="no engine to record"):
        classify(path, RECORD, "one")


def test_a_torn_last_line_is_cut_off_and_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run killed inside a write loses that one answer; replaying leaves the file alone."""
    classify(path, RECORD, "one", "two", inner=Scripted())
    whole = path.read_bytes()
    torn = whole[:-20]
    path.write_bytes(torn)
    assert list(classify(path, REPLAY, "one", "two").failures) == [1]
    assert path.read_bytes() == torn
    inner = Scripted()
    got = classify(path, FILL, "one", "two", inner=inner)
    assert inner.asked == ["two"]
    assert not got.failures
    assert "was torn" in caplog.text
    assert classify(path, REPLAY, "one", "two").failures == {}


def test_a_last_line_without_its_end_is_whole_if_it_reads(path: Path) -> None:
    """An editor that strips the last line end takes no answer away."""
    classify(path, RECORD, "one", inner=Scripted())
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    classify(path, FILL, "one", "two", inner=Scripted())
    assert classify(path, REPLAY, "one", "two").failures == {}


@pytest.mark.parametrize(
    ("line", "place"),
    [(b"garbage\n", ":3: "), (b'{"type":"classified","key":1}\n', ":3: "), (b"\xff\x00\n", ":3: ")],
)
def test_a_damaged_line_is_named(path: Path, line: bytes, place: str) -> None:
    """Damage inside the file is not passed over."""
    classify(path, RECORD, "one", inner=Scripted())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(EngineError, match="not a record") as caught:
        classify(path, REPLAY, "one")
    assert place in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"type":"rung-recording","format":9}\n', "format 9"),
        (b'{"id": 1, "text": "another file"}\n', ":1: .*not a record"),
        (b'{"type":"failed","key":"k","code":"engine","message":"m"}\n', ":1: .*not a record"),
    ],
)
def test_another_file_is_refused(path: Path, content: bytes, words: str) -> None:
    """A file of another kind or format is neither read nor appended to."""
    path.parent.mkdir()
    path.write_bytes(content)
    for mode in (REPLAY, FILL):
        with pytest.raises(EngineError, match=words):
            classify(path, mode, "one", inner=Scripted())
    assert path.read_bytes() == content


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    """What cannot be opened is named."""
    for mode in (REPLAY, FILL):
        with pytest.raises(EngineError, match=str(tmp_path)):
            classify(tmp_path, mode, "one", inner=Scripted())


def test_a_full_disk_leaves_a_readable_file(path: Path) -> None:
    """The answer that did not fit is reported as charged, and no half of it stays."""
    classify(path, RECORD, "one", inner=Scripted())
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, limits[1]))
        with pytest.raises(EngineError, match="cannot write") as caught:
            classify(path, FILL, "two", inner=Scripted())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.charged
    assert path.stat().st_size == size
    assert classify(path, REPLAY, "one").failures == {}


def test_many_calls_at_once_record_whole_lines(path: Path) -> None:
    """Concurrent calls share one file."""

    async def work(engine: ReplayEngine) -> list[Classification]:
        requests = [ClassifyRequest(task=TASK, texts=(f"text {n}",)) for n in range(200)]
        return await asyncio.gather(*map(engine.classify, requests))

    recorded = using(path, RECORD, work, Scripted())
    replayed = using(path, REPLAY, work)
    assert all(map(same, recorded, replayed))
    assert len(path.read_bytes().splitlines()) == 202


def test_closing_twice_is_safe_and_closes_the_recorded_engine(path: Path) -> None:
    """The replay engine owns what it records, and opens again when it is used again."""
    inner = Scripted()

    async def work(engine: ReplayEngine) -> None:
        await engine.aclose()
        await engine.aclose()
        await engine.classify(ClassifyRequest(task=TASK, texts=("one",)))

    using(path, FILL, work, inner)
    assert inner.closed == 3
