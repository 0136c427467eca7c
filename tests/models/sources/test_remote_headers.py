"""Headers read over the network: no further than needed, kept, and never of another file than was asked for."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import msgspec
import pytest

from gguf_models import tiny_model
from hub import MODEL_LAYER, Fault, Hub, Mode
from lookups import read_headers, resolve
from rung.errors import ModelError, SourceError
from rung.models.header import Header, read_header
from rung.models.reference import parse_reference
from rung.models.sources import header_cache
from rung.models.sources.header_cache import HeaderCache
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import RemoteFile, Role


@pytest.fixture(scope="session")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose header has 10 MiB and whose weights are a hole of 40 MiB."""
    import gguf
    import numpy as np

    path = tmp_path_factory.mktemp("long") / "long-Q4_K_M.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    chance = random.Random(5)
    for number in range(10):
        writer.add_string(f"test.text{number}", chance.randbytes(512 * 1024).hex())
    writer.add_tensor_info("blk.0.weight", (1024, 10240), np.dtype(np.float32), 40 << 20)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    start = -(-path.stat().st_size // 32) * 32
    os.truncate(path, start + (40 << 20))
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model."""
    return tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-Q4_K_M.gguf")


@pytest.mark.parametrize("text", ["hf:o/r", "ollama:t:1b", "address"])
def test_a_remote_header_is_the_files_own(hub: Hub, model: Path, text: str) -> None:
    """Over any kind of source, the same metadata and tensors as from the disk."""
    hub.add_repo("o/r", {model.name: model})
    hub.add_ollama("library/t", "1b", [(MODEL_LAYER, model)])
    address = hub.add_file("tiny.gguf", model)
    (found,) = read_headers(address if text == "address" else text)
    local = read_header(model)
    assert (found.size, found.metadata, found.tensors) == (
        local.size,
        local.metadata,
        local.tensors,
    )


def test_no_more_is_read_than_the_header_takes(hub: Hub, long_model: Path) -> None:
    """A header of 10 MiB in a file of 50 takes two requests for contents and 12 MiB."""
    hub.add_repo("o/r", {long_model.name: long_model})
    read_headers("hf:o/r")
    contents = hub.requests_for("/cdn/")
    assert [request.range for request in contents] == ["bytes=0-8388607", "bytes=8388608-12582911"]
    assert {request.encoding for request in hub.log} == {"identity"}
    assert hub.bytes_served <= 13 << 20


def test_a_server_without_ranges_is_read_no_further(hub: Hub, long_model: Path) -> None:
    """It sends the file from its start; the connection is closed when the header is whole."""
    hub.add_repo("o/r", {long_model.name: long_model})
    hub.fail(Fault(Mode.IGNORE_RANGE), times=9)
    (found,) = read_headers("hf:o/r")
    assert found.tensors == read_header(long_model).tensors
    assert hub.bytes_served < long_model.stat().st_size


def test_a_header_is_kept_by_what_identifies_its_file(hub: Hub, model: Path) -> None:
    """The second look-up reads nothing but the listing, also under another name and commit."""
    hub.add_repo("o/r", {model.name: model})
    first = read_headers("hf:o/r")
    served = len(hub.requests_for("/cdn/"))
    again = read_headers("hf:o/r")
    assert again == first
    hub.add_repo("o/r", {f"other-{model.name}": model, "README.md": b"new"})
    read_headers("hf:o/r")
    assert len(hub.requests_for("/cdn/")) == served


def test_a_digest_that_one_source_claims_says_nothing_of_anothers_header(
    hub: Hub, model: Path, long_model: Path
) -> None:
    """A server may state any digest for its bytes; they are looked at only after a download."""
    hub.add_repo("o/r", {model.name: model})

    async def ask() -> tuple[Header, ...]:
        async with Sources() as sources:
            right = await sources.resolve(parse_reference("hf:o/r"))
            claimed = RemoteFile(
                name="x.gguf",
                role=Role.WEIGHTS,
                sha256=right.files[0].sha256,
                url=hub.add_file("x.gguf", long_model),
            )
            wrong = msgspec.structs.replace(
                right, reference=parse_reference("hf:o/mirror"), files=(claimed,)
            )
            await sources.headers(wrong)
            return await sources.headers(right)

    assert asyncio.run(ask()) == (msgspec.structs.replace(read_header(model), name=model.name),)


def test_an_address_without_a_strong_tag_is_read_each_time(hub: Hub, model: Path) -> None:
    """Nothing says that it is still the same file."""
    address = hub.add_file("x.gguf", model)
    hub.fail(Fault(Mode.NO_ETAG), times=9)
    for _ in range(2):
        read_headers(address)
    assert len(hub.log) == 4


def test_a_damaged_kept_header_is_fetched_again(hub: Hub, model: Path, tmp_path: Path) -> None:
    """One wrong byte and a cut end both count as not kept."""
    hub.add_repo("o/r", {model.name: model})
    first = read_headers("hf:o/r")
    (kept,) = (tmp_path / "rung" / "headers").iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[:-1], whole[:2000] + b"?" + whole[2001:], b"", b"{}\n", whole[:50]):
        kept.write_bytes(damaged)
        before = len(hub.requests_for("/cdn/"))
        assert read_headers("hf:o/r") == first
        assert len(hub.requests_for("/cdn/")) == before + 1
        assert kept.read_bytes() == whole


def test_the_oldest_kept_headers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number and bytes are bounded; a folder that cannot be written to is no error."""
    monkeypatch.setattr(header_cache, "MOST_FILES", 3)
    cache = HeaderCache(tmp_path / "headers")
    for number in range(5):
        cache.keep(str(number), 10, b"content")
        for path in (tmp_path / "headers").iterdir():  # clocks of file systems are coarse
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    assert [cache.find(str(number)) for number in range(5)] == [None] * 2 + [(10, b"content")] * 3
    monkeypatch.setattr(header_cache, "MOST_BYTES", 1)
    cache.keep("6", 10, b"content")
    assert list((tmp_path / "headers").iterdir()) == []
    (tmp_path / "file").touch()
    HeaderCache(tmp_path / "file" / "below").keep("7", 10, b"content")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(Mode.CUT, after=3000), "breaks off"),
        (Fault(Mode.STALL, after=3000), "does not answer in time"),
        (Fault(Mode.DRIP), "does not answer in time"),
        (Fault(Mode.WRONG_RANGE), "asked from byte 0"),
        (Fault(Mode.WRONG_SIZE, after=7), "its publisher"),
        (Fault(Mode.SHORT, after=3000), "its publisher"),
        (Fault(Mode.HTML), "with a web page"),
        (Fault(Mode.STATUS, status=500), "failed with status 500"),
        (Fault(Mode.STATUS, status=416), "416"),
        (Fault(Mode.REDIRECT, to="http://10.0.0.1/x"), "not encrypted"),
        (Fault(Mode.HANG_UP), "cannot be reached"),
    ],
    ids=lambda value: value.mode.name if isinstance(value, Fault) else "",
)
def test_a_server_that_fails_is_named(hub: Hub, model: Path, fault: Fault, says: str) -> None:
    """Each way of failing is one sentence, and nothing is kept of it."""
    hub.add_repo("o/r", {model.name: model})
    hub.fail(fault, times=9)
    with pytest.raises(SourceError, match=says):
        read_headers("hf:o/r", stall_s=0.3)
    hub.fail(Fault(Mode.STATUS), times=0)
    assert not list(Path(os.environ["RUNG_HOME"]).rglob("*.header"))


def test_a_file_that_changes_between_two_requests_is_not_mixed(hub: Hub, long_model: Path) -> None:
    """The second piece has another entity tag."""
    hub.add_repo("o/r", {long_model.name: long_model})
    hub.fail(Fault(Mode.CUT, after=1 << 30))  # the first goes well
    hub.fail(Fault(Mode.ETAG))
    with pytest.raises(SourceError, match="changed while its header was read"):
        read_headers("hf:o/r")


def test_a_cancelled_header_ends(hub: Hub, model: Path, long_model: Path) -> None:
    """Before the first byte and in the midst of it, without waiting for the server."""
    hub.add_repo("o/r", {model.name: model})
    hub.add_repo("o/long", {long_model.name: long_model})

    async def cancelled(text: str) -> None:
        async with Sources() as sources:
            resolved = await sources.resolve(parse_reference(text))
            task = asyncio.create_task(sources.headers(resolved))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    for text, after in (("hf:o/r", 0), ("hf:o/long", 2 << 20)):
        hub.fail(Fault(Mode.STALL, after=after))
        asyncio.run(cancelled(text))


def test_wrong_bytes_are_no_header(hub: Hub, model: Path) -> None:
    """The parser does not trust the server."""
    hub.add_repo("o/r", {model.name: model})
    hub.fail(Fault(Mode.WRONG_BYTES))
    with pytest.raises(ModelError, match="is not a GGUF file"):
        read_headers("hf:o/r")


def test_every_part_has_its_header(hub: Hub, model: Path, tmp_path: Path) -> None:
    """Parts are read and checked against each other; two files that merely are named so are refused."""
    for number in (1, 2):
        shutil.copy(model, tmp_path / f"x-Q8_0-{number:05}-of-00002.gguf")
    hub.add_repo("o/r", {path.name: path for path in sorted(tmp_path.glob("x-*.gguf"))})
    assert len(resolve("hf:o/r:Q8_0").weights) == 2
    with pytest.raises(ModelError, match=r"x-Q8_0-00001-of-00002\.gguf"):
        read_headers("hf:o/r:Q8_0")
