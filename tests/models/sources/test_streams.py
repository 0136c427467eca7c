"""Files as they arrive: continued where they can be, never more, fewer or other bytes than announced."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
from pathlib import Path

import pytest

from hub import Fault, Hub, Mode
from lookups import read_file, resolve
from rung.errors import ModelError, SourceError
from rung.models.sources import web as web_module
from rung.models.sources.opening import Sources
from rung.models.sources.resolved import RemoteFile, Role
from rung.models.sources.web import Web

CONTENT = random.Random(1).randbytes(300_000)
TAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


@pytest.fixture
def file(hub: Hub) -> RemoteFile:
    """A file of a repository."""
    hub.add_repo("o/r", {"x-Q4_K_M.gguf": CONTENT})
    return resolve("hf:o/r").files[0]


def test_a_file_arrives_whole(file: RemoteFile) -> None:
    """With what is needed to continue it."""
    assert read_file(file) == (0, len(CONTENT), TAG, CONTENT)


def test_a_file_is_continued(hub: Hub, file: RemoteFile) -> None:
    """From any byte, on condition that it is still the same."""
    assert read_file(file, start=1000, etag=TAG) == (1000, len(CONTENT), TAG, CONTENT[1000:])
    asked = hub.requests_for("/cdn/")[-1]
    assert (asked.range, asked.if_range, asked.encoding) == ("bytes=1000-", TAG, "identity")


def test_another_file_by_now_starts_anew(file: RemoteFile) -> None:
    """The condition does not hold, so all of it comes."""
    assert read_file(file, start=1000, etag='"old"')[0] == 0


def test_a_server_without_ranges_starts_anew(hub: Hub, file: RemoteFile) -> None:
    """The start says so."""
    hub.fail(Fault(Mode.IGNORE_RANGE))
    assert read_file(file, start=1000, etag=TAG) == (0, len(CONTENT), TAG, CONTENT)


def test_a_weak_tag_is_none(hub: Hub, file: RemoteFile) -> None:
    """It does not stand for the bytes."""
    hub.fail(Fault(Mode.WEAK_ETAG))
    assert read_file(file)[2] is None


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(Mode.CUT, after=len(CONTENT) - 1), "breaks off"),
        (Fault(Mode.STALL, after=1000), "does not answer in time"),
        (Fault(Mode.DRIP), "does not answer in time"),
        (Fault(Mode.WRONG_SIZE, after=1), r"300,001 bytes .* its publisher 300,000"),
        (Fault(Mode.SHORT, after=299_999), r"299,999 bytes .* its publisher 300,000"),
        (Fault(Mode.HTML), "with a web page"),
        (Fault(Mode.STATUS, status=503), "failed with status 503"),
        (Fault(Mode.STATUS, status=429), "no more requests"),
        (Fault(Mode.REDIRECT, to="https://user@huggingface.co/x"), "hides its host"),
        (Fault(Mode.REDIRECT, to="ftp://huggingface.co/x"), "is not encrypted"),
        (Fault(Mode.REDIRECT, to="https://192.168.0.1:x/"), "is not an address"),
        (Fault(Mode.HANG_UP), "cannot be reached"),
    ],
    ids=lambda value: value.mode.name if isinstance(value, Fault) else "",
)
def test_a_server_that_fails_is_named(hub: Hub, file: RemoteFile, fault: Fault, says: str) -> None:
    """Each way of failing is one sentence."""
    hub.fail(fault, times=2)  # a connection that is kept open may be tried twice
    with pytest.raises(SourceError, match=says):
        read_file(file, stall_s=0.3)


def test_a_wrong_place_is_refused(hub: Hub, file: RemoteFile) -> None:
    """A part that does not begin where it was asked for is never appended."""
    hub.fail(Fault(Mode.WRONG_RANGE))
    with pytest.raises(SourceError, match="asked from byte 1000"):
        read_file(file, start=1000)


def test_a_file_that_is_gone_is_said(hub: Hub, file: RemoteFile) -> None:
    """The repository does not list it any more."""
    hub.fail(
        Fault(Mode.STATUS, status=404, headers=(("X-Error-Code", "EntryNotFound"),)),
        path="/resolve/",
    )
    with pytest.raises(ModelError, match="does not have the file any more"):
        read_file(file)


def test_a_file_of_this_machine_is_streamed_too(tmp_path: Path) -> None:
    """From a store or a folder, without a server."""
    path = tmp_path / "x.gguf"
    path.write_bytes(CONTENT)
    local = RemoteFile(name="x.gguf", role=Role.WEIGHTS, path=path)
    assert read_file(local, start=7) == (7, len(CONTENT), None, CONTENT[7:])
    path.unlink()
    with pytest.raises(ModelError, match="does not exist"):
        read_file(local)


def test_a_stream_may_be_left_early(hub: Hub, file: RemoteFile) -> None:
    """Leaving its block closes the connection, and the next request is served."""

    async def ask() -> tuple[bytes, bytes]:
        async with Sources() as sources:
            async with sources.stream(file) as stream:
                first = await anext(aiter(stream.chunks))
            async with sources.stream(file, start=len(first)) as stream:
                return first, b"".join([piece async for piece in stream.chunks])

    assert b"".join(asyncio.run(ask())) == CONTENT


def test_a_cancelled_stream_ends(hub: Hub, file: RemoteFile) -> None:
    """Cancelling does not wait for a server that stalls."""
    hub.fail(Fault(Mode.STALL, after=10))

    async def ask() -> None:
        async with Sources() as sources, sources.stream(file) as stream:
            async for _ in stream.chunks:
                pass

    async def cancelled() -> None:
        task = asyncio.create_task(ask())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


def test_the_environments_proxy_is_used_but_not_for_this_machine(
    hub: Hub, file: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download from elsewhere goes to the proxy first; what is on loopback does not."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        monkeypatch.setenv("https_proxy", address)
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert read_file(file)[3] == CONTENT

        async def ask() -> bytes:
            async with Web(stall_s=2) as web:
                asking = asyncio.create_task(_head(web, "https://model.example/x.gguf"))
                proxy.setblocking(False)
                loop = asyncio.get_running_loop()
                connection, _ = await loop.sock_accept(proxy)
                with connection:
                    said = await loop.sock_recv(connection, 1000)
                    proxy.close()
                with pytest.raises(SourceError, match="cannot be reached"):
                    await asking
                return said

        assert asyncio.run(ask()).startswith(b"CONNECT model.example:443 ")


def test_a_server_that_takes_the_call_and_says_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also before the connection is encrypted, when no byte of an answer is awaited yet."""
    monkeypatch.setattr(web_module, "CONNECT_S", 0.3)

    async def ask(url: str) -> None:
        async with Web(stall_s=0.3) as web:
            await _head(web, url)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        for scheme in ("https", "http"):
            with pytest.raises(SourceError, match="does not answer in time"):
                asyncio.run(ask(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x.gguf"))


def test_a_server_that_drips_the_head_of_its_answer_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No byte of a body is awaited yet, and something arrives all the time."""
    monkeypatch.setattr(web_module, "CONNECT_S", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            for letter in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200:
                writer.write(bytes([letter]))
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        ended.set()

    ended = asyncio.Event()

    async def ask() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Web(stall_s=0.3) as web:
            with pytest.raises(SourceError, match="does not answer in time"):
                await _head(web, f"http://127.0.0.1:{port}/x.gguf")
            await ended.wait()

    asyncio.run(ask())


async def _head(web: Web, url: str) -> int:
    async with web.get(url) as response:
        return response.status
