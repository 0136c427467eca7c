"""Bytes from a server that misbehaves: each kind of fault, over real sockets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pullable import Told

from hub import Fault, Hub, Mode
from rung.blocking import run_blocking
from rung.errors import ModelError, SourceError
from rung.models.pull.download import Download, Fetched
from rung.models.pull.events import Fetching, Restarted, Resumed, Retrying
from rung.models.pull.partial import Partial
from rung.models.reference import parse_reference
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import RemoteFile

SIZE = 3_000_000
CONTENT = random.Random(0).randbytes(SIZE)
NO_PAUSES = (0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Servers of this test."""
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))
    with Hub() as hub:
        hub.use(monkeypatch)
        yield hub


def remote(hub: Hub, *, digest: bool = True) -> RemoteFile:
    """The file on the hub, with a publisher's digest or as a plain address."""
    if not digest:
        url = hub.add_file("model.gguf", CONTENT)
        return run_blocking(_first(url))
    hub.add_repo("maker/model", {"model.gguf": CONTENT})
    return run_blocking(_first("hf:maker/model:model.gguf"))


async def _first(reference: str) -> RemoteFile:
    async with Sources() as sources:
        return (await sources.resolve(parse_reference(reference))).files[0]


def fetch(
    file: RemoteFile, folder: Path, told: Told | None = None, *, attempts: int = 1000
) -> Fetched:
    """Download the file, without pauses between attempts."""

    async def work() -> Fetched:
        async with Sources() as sources:
            return await Download(
                file,
                Partial(folder, file),
                sources,
                told or Told(),
                pauses_s=NO_PAUSES,
                most_attempts=attempts,
            ).run()

    return run_blocking(work())


def content(file: RemoteFile, folder: Path) -> bytes:
    """What has come."""
    return Partial(folder, file).path.read_bytes()


def test_a_file_comes_whole_with_the_digest_of_its_publisher(hub: Hub, tmp_path: Path) -> None:
    """And nothing is asked for twice."""
    file = remote(hub)
    before, told = hub.bytes_served, Told()
    done = fetch(file, tmp_path, told)
    assert (done.size, done.sha256, done.by_publisher) == (SIZE, file.sha256, True)
    assert content(file, tmp_path) == CONTENT
    assert hub.bytes_served - before < SIZE + 1000
    assert told.kinds() == ["Fetching"]


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_connection_costs_only_what_had_not_come(
    hub: Hub, tmp_path: Path, share: float, digest: bool
) -> None:
    """The rest is asked for under the condition that it is of the same file."""
    file = remote(hub, digest=digest)
    hub.fail(Fault(Mode.CUT, after=int(SIZE * share)), times=1)
    asked, told = len(hub.log), Told()
    fetch(file, tmp_path, told)
    assert content(file, tmp_path) == CONTENT
    ranged = [r for r in hub.log[asked:] if r.range not in (None, "bytes=0-") and r.sent]
    assert bool(ranged) == (share > 0)
    assert all(request.if_range for request in ranged)
    assert sum(isinstance(event, Retrying) for event in told.events) == 1


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (Mode.IGNORE_RANGE, "from the start only"),
        (Mode.ETAG, "from the start only"),
        (Mode.WRONG_RANGE, None),
        (Mode.WRONG_SIZE, None),
        (Mode.HTML, None),
        (Mode.STATUS, None),
        (Mode.HANG_UP, None),
        (Mode.SHORT, None),
    ],
)
def test_a_source_that_does_not_go_on_properly_is_asked_again(
    hub: Hub, tmp_path: Path, mode: Mode, why: str | None
) -> None:
    """Every odd answer to the request for the rest ends in the right bytes."""
    file = remote(hub)
    hub.fail(Fault(Mode.CUT, after=SIZE // 2), path="/cdn/")
    hub.fail(Fault(mode, after=100), path="/cdn/")
    told = Told()
    fetch(file, tmp_path, told)
    assert content(file, tmp_path) == CONTENT
    restarts = [event.why for event in told.events if isinstance(event, Restarted)]
    assert any(why in said for said in restarts) if why else restarts == []


def test_what_an_earlier_process_left_is_used(hub: Hub, tmp_path: Path) -> None:
    """Its bytes are hashed, not fetched."""
    file = remote(hub)
    partial = Partial(tmp_path, file)
    partial.prepare()
    partial.path.write_bytes(CONTENT[:2_000_000])
    before, told = hub.bytes_served, Told()
    fetch(file, tmp_path, told)
    assert content(file, tmp_path) == CONTENT
    assert hub.bytes_served - before < 1_010_000
    assert [event.have for event in told.events if isinstance(event, Resumed)] == [2_000_000]


def test_a_whole_file_that_was_left_is_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    """The process may have ended between the last byte and the check."""
    file = remote(hub)
    partial = Partial(tmp_path, file)
    partial.prepare()
    partial.path.write_bytes(CONTENT)
    before = len(hub.log)
    assert fetch(file, tmp_path).sha256 == file.sha256
    assert len(hub.log) == before


@pytest.mark.parametrize("left", [bytes(1_000_000), CONTENT + b"more", CONTENT[:-1] + b"!"])
def test_a_damaged_rest_of_an_earlier_attempt_costs_a_second_download(
    hub: Hub, tmp_path: Path, left: bytes
) -> None:
    """Not an error that would come back for ever."""
    file = remote(hub)
    partial = Partial(tmp_path, file)
    partial.prepare()
    partial.path.write_bytes(left)
    told = Told()
    fetch(file, tmp_path, told)
    assert content(file, tmp_path) == CONTENT
    assert "Restarted" in told.kinds()


def test_without_a_digest_bytes_of_unknown_origin_are_not_used(hub: Hub, tmp_path: Path) -> None:
    """Nothing would tell that they are of another file."""
    file = remote(hub, digest=False)
    partial = Partial(tmp_path, file)
    partial.prepare()
    partial.path.write_bytes(bytes(1_000_000))
    done = fetch(file, tmp_path)
    assert not done.by_publisher
    assert content(file, tmp_path) == CONTENT


def test_a_damaged_record_of_an_earlier_attempt_is_none(hub: Hub, tmp_path: Path) -> None:
    """And what it was about is fetched anew."""
    file = remote(hub, digest=False)
    partial = Partial(tmp_path, file)
    partial.prepare()
    partial.path.write_bytes(CONTENT[:100])
    partial.path.with_suffix(".json").write_bytes(b'{"format": 1, "url": ')
    told = Told()
    fetch(file, tmp_path, told)
    assert content(file, tmp_path) == CONTENT
    assert told.kinds()[0] == "Restarted"


def test_an_address_without_an_etag_is_read_again_from_the_start(hub: Hub, tmp_path: Path) -> None:
    """Its rest could be of another file."""
    file = remote(hub, digest=False)
    hub.fail(Fault(Mode.NO_ETAG), times=2, path="/files/")
    partial = Partial(tmp_path, file)
    partial.prepare()
    hub.fail(Fault(Mode.CUT, after=SIZE // 2), path="/files/")
    fetch(file, tmp_path)
    assert content(file, tmp_path) == CONTENT


def test_other_bytes_than_published_are_thrown_away(hub: Hub, tmp_path: Path) -> None:
    """The sentence has both digests."""
    file = remote(hub)
    hub.fail(Fault(Mode.WRONG_BYTES), times=9)
    with pytest.raises(SourceError, match=f"its publisher states {file.sha256}"):
        fetch(file, tmp_path)
    assert Partial(tmp_path, file).size == 0


def test_a_source_that_stays_away_is_asked_five_times(hub: Hub, tmp_path: Path) -> None:
    """Then the sentence says how much is kept, and the same call goes on."""
    file = remote(hub)
    hub.fail(Fault(Mode.CUT, after=1_500_000), path="/cdn/")
    hub.fail(Fault(Mode.STATUS, status=503), times=5, path="/cdn/")
    with pytest.raises(SourceError, match=r"5 attempts brought nothing .* of 3,000,000 bytes"):
        fetch(file, tmp_path)
    assert 1_000_000 < Partial(tmp_path, file).size < SIZE
    told = Told()
    fetch(file, tmp_path, told)
    assert content(file, tmp_path) == CONTENT
    assert told.kinds()[0] == "Resumed"


def test_where_nothing_came_there_is_nothing_to_go_on_from(hub: Hub, tmp_path: Path) -> None:
    """The sentence does not promise it."""
    hub.fail(Fault(Mode.STATUS, status=503), times=5, path="/cdn/")
    with pytest.raises(SourceError, match="nothing came in 5 attempts") as refused:
        fetch(remote(hub), tmp_path)
    assert "goes on" not in (refused.value.hint or "")


def test_a_source_that_gets_on_is_given_any_number_of_attempts(hub: Hub, tmp_path: Path) -> None:
    """Ten cuts, each after a megabyte or more."""
    big = CONTENT * 5
    hub.add_repo("maker/big", {"big.gguf": big})
    file = run_blocking(_first("hf:maker/big:big.gguf"))
    hub.fail(Fault(Mode.CUT, after=1_300_000), times=10, path="/cdn/")
    told = Told()
    fetch(file, tmp_path, told)
    assert content(file, tmp_path) == big
    assert sum(isinstance(event, Retrying) for event in told.events) == 10


def test_a_source_that_begins_anew_each_time_and_breaks_off_is_given_up(
    hub: Hub, tmp_path: Path
) -> None:
    """Though it gets further every second time than the time before."""
    file = remote(hub)
    for _ in range(20):
        hub.fail(Fault(Mode.CUT, after=300_000, whole=True), path="/cdn/")
        hub.fail(Fault(Mode.CUT, after=1_500_000, whole=True), path="/cdn/")
    told = Told()
    with pytest.raises(SourceError, match=r"5 attempts brought nothing .* bytes that are kept"):
        fetch(file, tmp_path, told)
    assert len(hub.requests_for("/cdn/")) == 7
    assert Partial(tmp_path, file).size > 100_000


def test_a_source_is_not_taken_more_than_a_few_times_the_file_from(
    hub: Hub, tmp_path: Path
) -> None:
    """It goes on every second time, gets on then, and never comes to the end."""
    file = remote(hub)
    for _ in range(20):
        hub.fail(Fault(Mode.CUT, after=1_300_000, whole=True), path="/cdn/")
        hub.fail(Fault(Mode.CUT, after=1_300_000), path="/cdn/")
    before = hub.bytes_served
    with pytest.raises(SourceError, match=r"bytes came, again and again from the start"):
        fetch(file, tmp_path)
    assert hub.bytes_served - before < 4 * SIZE + 1_000_000


def test_attempts_have_an_end_even_where_each_gets_on(hub: Hub, tmp_path: Path) -> None:
    """And the same command goes on."""
    hub.add_repo("maker/big", {"big.gguf": CONTENT * 5})
    file = run_blocking(_first("hf:maker/big:big.gguf"))
    hub.fail(Fault(Mode.CUT, after=1_300_000), times=4, path="/cdn/")
    with pytest.raises(SourceError, match="4 attempts are the most") as refused:
        fetch(file, tmp_path, attempts=4)
    assert refused.value.hint == "the same command goes on from there"
    fetch(file, tmp_path)
    assert content(file, tmp_path) == CONTENT * 5


def test_a_file_that_went_away_is_no_reason_to_wait(hub: Hub, tmp_path: Path) -> None:
    """404 is an answer."""
    file = remote(hub)
    hub.fail(Fault(Mode.STATUS, status=404), times=9, path="/resolve/")
    told = Told()
    with pytest.raises((ModelError, SourceError)):
        fetch(file, tmp_path, told)
    assert not any(isinstance(event, Fetching) for event in told.events)
