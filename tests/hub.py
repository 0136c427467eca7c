"""Real loopback servers that imitate Hugging Face, the Ollama registry and a plain web server, and fail on demand.

    with Hub() as hub:
        commit = hub.add_repo("qwen/tiny-gguf", {"tiny-Q4_K_M.gguf": path_or_bytes}, licence="apache-2.0")
        digest = hub.add_ollama("library/tiny", "1b", [(MODEL_LAYER, path_or_bytes)])
        url = hub.add_file("tiny.gguf", path_or_bytes)
        hub.use(monkeypatch, tmp_path)           # HF_ENDPOINT, RUNG_OLLAMA_REGISTRY, RUNG_HOME, empty stores; no token
        hub.fail(Fault(Mode.CUT, after=1000))    # the next request for contents is cut; times=2, path="/api/"
        ...
        hub.log, hub.bytes_served, hub.requests_for("/cdn/")

One thread, two ports: `hub.url` is Hugging Face, the registry and the web server, `hub.cdn_url` where contents lie
(another origin, so credentials must not follow). Contents are bytes or files, which are read as they are sent. A second
`add_repo` of the same name moves its branch to a new commit; older commits stay. `rate` bounds the bytes per second of
each answer, for tests that need time to interrupt one. `latency_s` passes before every answer. As a process:
`python tests/hub.py --file PATH …` serves files as the repository `local/files` and prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol, Self

from aiohttp import web

Json = dict[str, Any]  # what a server sends; looked at, never kept to a shape

MODEL_LAYER = "application/vnd.ollama.image.model"
PROJECTOR_LAYER = "application/vnd.ollama.image.projector"
ADAPTER_LAYER = "application/vnd.ollama.image.adapter"
TEMPLATE_LAYER = "application/vnd.ollama.image.template"
LICENSE_LAYER = "application/vnd.ollama.image.license"
PARAMS_LAYER = "application/vnd.ollama.image.params"
SYSTEM_LAYER = "application/vnd.ollama.image.system"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
PIECE = 64 * 1024


class Mode(Enum):
    """What goes wrong with a request."""

    CUT = auto()  # the connection closes after `after` bytes of the body
    DRIP = auto()  # one byte of the body every 50 ms, for ever or as long as there are any
    STALL = auto()  # nothing more comes after `after` bytes of the body
    IGNORE_RANGE = auto()  # 200 and the whole content
    WRONG_RANGE = auto()  # 206 with bytes from another place than asked for
    WRONG_SIZE = auto()  # announces and sends `after` bytes more than there are
    SHORT = auto()  # announces and sends only the first `after` bytes, as if that were all
    WRONG_BYTES = auto()  # the first byte of the body is another one
    ETAG = auto()  # the content has another entity tag than before, so If-Range does not hold
    WEAK_ETAG = auto()  # the entity tag is a weak one
    NO_ETAG = auto()
    STATUS = auto()  # answers `status`, with `headers`
    REDIRECT = auto()  # 302 to `to`
    HTML = auto()  # a page with status 200
    HANG_UP = auto()  # closes the connection without an answer


@dataclass(frozen=True)
class Fault:
    """One request's misfortune; with `whole`, ranges are ignored besides."""

    mode: Mode
    after: int = 0
    status: int = 503
    headers: tuple[tuple[str, str], ...] = ()
    to: str = ""
    whole: bool = False


@dataclass
class Request:
    """One request as the servers saw it; `sent` grows while the body goes out."""

    method: str
    path: str
    port: int
    range: str | None
    if_range: str | None
    authorization: str | None
    encoding: str | None
    status: int = 0
    sent: int = 0


NOTE = web.RequestKey("note", Request)
FAULT = web.RequestKey[Fault | None]("fault", object)  # type: ignore[arg-type]  # a union is no class


@dataclass(frozen=True)
class Content:
    """The bytes of one file, in memory or on disk."""

    source: bytes | Path
    sha256: str
    size: int

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end`."""
        if isinstance(self.source, bytes):
            for at in range(start, end, PIECE):
                yield self.source[at : min(at + PIECE, end)]
            return
        with self.source.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(PIECE, end - start))):
                start += len(piece)
                yield piece


def content_of(source: bytes | Path) -> Content:
    """Bytes or a file, with digest and size."""
    if isinstance(source, bytes):
        return Content(source, hashlib.sha256(source).hexdigest(), len(source))
    with source.open("rb") as file:
        return Content(
            source, hashlib.file_digest(file, "sha256").hexdigest(), source.stat().st_size
        )


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    sha: str
    files: Mapping[str, Content]


@dataclass
class Repo:
    """A repository of Hugging Face."""

    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    licence: str | None = None
    base_models: tuple[str, ...] = ()
    gated: bool = False
    tags: tuple[str, ...] = ()

    def commit(self, revision: str) -> Commit | None:
        """By branch or commit."""
        return self.commits.get(self.branches.get(revision, revision))


class Patches(Protocol):
    """What `hub.use` needs of pytest's monkeypatch."""

    def setenv(self, name: str, value: str) -> None:
        """Set a variable until the test ends."""

    def delenv(self, name: str, raising: bool = True) -> None:
        """Unset a variable until the test ends."""


@dataclass
class Hub:
    """The servers; see the module's docstring.

    Args:
        latency_s: before every answer.
        rate: bytes per second of each body, None for as fast as it goes.
        token: the token that gated repositories take.
        small: files below so many bytes are no LFS files: no SHA-256 in listings, served without a redirect.
    """

    latency_s: float = 0.0
    rate: float | None = None
    token: str = "hf_right"
    small: int = 0
    port: int = 0
    cdn_port: int = 0

    def __post_init__(self) -> None:
        self.log: list[Request] = []
        self._repos: dict[str, Repo] = {}
        self._contents: dict[str, Content] = {}
        self._manifests: dict[tuple[str, str], bytes] = {}
        self._files: dict[str, Content] = {}
        self._faults: list[tuple[Fault, str, list[int]]] = []
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # What tests put in

    def add_repo(
        self,
        name: str,
        files: Mapping[str, bytes | Path],
        *,
        licence: str | None = None,
        base_models: Sequence[str] = (),
        gated: bool = False,
        branch: str = "main",
        tags: Sequence[str] = (),
    ) -> str:
        """Commit these files (all of them) to a repository of Hugging Face; gives the commit."""
        contents = {path: content_of(source) for path, source in files.items()}
        repo = self._repos.setdefault(name, Repo())
        listing = json.dumps(
            [name, len(repo.commits), *((p, c.sha256) for p, c in contents.items())]
        )
        sha = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
        repo.commits[sha], repo.branches[branch] = Commit(sha, contents), sha
        repo.licence, repo.base_models = licence, tuple(base_models)
        repo.gated, repo.tags = gated, tuple(tags)
        self._contents |= {content.sha256: content for content in contents.values()}
        return sha

    def add_ollama(self, name: str, tag: str, layers: Sequence[tuple[str, bytes | Path]]) -> str:
        """Publish a model under `namespace/name` and a tag; gives `sha256:` and the manifest's digest."""
        config = content_of(json.dumps({"model_format": "gguf", "layers": len(layers)}).encode())
        contents = [(kind, content_of(source)) for kind, source in layers]
        self._contents |= {c.sha256: c for c in (config, *(c for _, c in contents))}
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _layer("application/vnd.docker.container.image.v1+json", config),
                "layers": [_layer(kind, content) for kind, content in contents],
            }
        ).encode()
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        self._manifests[name, tag] = self._manifests[name, digest] = manifest
        return digest

    def set_manifest(self, name: str, tag: str, manifest: bytes) -> None:
        """Publish any bytes as a manifest."""
        self._manifests[name, tag] = manifest

    def manifest(self, name: str, tag: str) -> bytes:
        """The bytes of a manifest, as a registry's client stores them."""
        return self._manifests[name, tag]

    def add_file(self, name: str, source: bytes | Path) -> str:
        """Serve a file of the plain web server, replacing an earlier one; gives its address."""
        self._files[name] = content_of(source)
        return f"{self.url}/files/{name}"

    def fail(self, fault: Fault, *, times: int = 1, path: str = "") -> None:
        """Let the next `times` requests fail whose path contains `path`; without one, those for contents."""
        self._faults.append((fault, path, [times]))

    # What tests ask about

    @property
    def url(self) -> str:
        """Hugging Face, the registry and the plain web server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cdn_url(self) -> str:
        """Where contents lie."""
        return f"http://127.0.0.1:{self.cdn_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point a process at these servers."""
        return {"HF_ENDPOINT": self.url, "RUNG_OLLAMA_REGISTRY": self.url}

    @property
    def bytes_served(self) -> int:
        """Bytes of bodies, of every request."""
        return sum(request.sent for request in self.log)

    def requests_for(self, part: str) -> list[Request]:
        """Requests whose path contains `part`."""
        return [request for request in self.log if part in request.path]

    def use(self, patches: Patches, home: Path | None = None) -> None:
        """Point this process at these servers, without a token or a proxy; with a home, keep everything below it.

        The stores of other programs are then `home/hub`, `home/ollama` and `home/lmstudio/models`; they start empty.
        """
        places = {
            "RUNG_HOME": "rung",
            "HF_HOME": "hf",
            "HF_HUB_CACHE": "hub",
            "OLLAMA_MODELS": "ollama",
            "LMSTUDIO_HOME": "lmstudio",
        }
        below = {name: str(home / place) for name, place in places.items()} if home else {}
        for name, value in {**self.environment, **below}.items():
            patches.setenv(name, value)
        for name in (
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_HUB_OFFLINE",
            "ALL_PROXY",
            "all_proxy",
        ):
            patches.delenv(name, raising=False)

    # Its life

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the hub did not start")
        return self

    def wait(self) -> None:
        """Until the servers end; by themselves they never do."""
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def serve(self) -> None:
        """Serve until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        hub, cdn = web.Application(), web.Application()
        hub.router.add_get("/api/models/{owner}/{repo}/tree/{revision:.+}", self._tree)
        hub.router.add_get("/api/models/{owner}/{repo}/revision/{revision:.+}", self._info)
        hub.router.add_get("/api/models/{owner}/{repo}", self._info)
        hub.router.add_get("/v2/{owner}/{repo}/manifests/{tag}", self._manifest)
        hub.router.add_get("/v2/{owner}/{repo}/blobs/{digest}", self._blob)
        hub.router.add_get("/files/{name:.+}", self._file)
        hub.router.add_get("/{owner}/{repo}/resolve/{rest:.+}", self._resolve)
        cdn.router.add_get("/cdn/{digest}", self._cdn)
        runners = []
        for app, port in ((hub, self.port), (cdn, self.cdn_port)):
            app.middlewares.append(self._middleware())
            runner = web.AppRunner(
                app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            runners.append(runner)
        self.port, self.cdn_port = (runner.addresses[0][1] for runner in runners)
        self._ready.set()
        await self._stop.wait()
        for runner in runners:
            await runner.cleanup()

    def _middleware(self) -> Any:  # aiohttp's type for one is not public
        @web.middleware
        async def noted(request: web.Request, handler: Any) -> web.StreamResponse:
            headers = request.headers
            note = Request(
                request.method,
                request.path_qs,
                self.port if request.path.split("/")[1] != "cdn" else self.cdn_port,
                headers.get("Range"),
                headers.get("If-Range"),
                headers.get("Authorization"),
                headers.get("Accept-Encoding"),
            )
            self.log.append(note)
            request[NOTE] = note
            fault = self._fault(request.path)
            request[FAULT] = fault
            await asyncio.sleep(self.latency_s)
            response: web.StreamResponse
            if fault is not None and fault.mode in _EARLY:
                response = _early(request, fault)
            elif fault is not None and fault.mode is Mode.DRIP and "/api/" in request.path:
                response = web.Response(body=_dripping(bytes(1000)))
            else:
                try:
                    response = await handler(request)
                except web.HTTPException as error:
                    response = error
                    note.status = error.status
                    raise
            note.status = response.status
            if isinstance(response, web.Response) and isinstance(response.body, bytes):
                note.sent = len(response.body)
            return response

        return noted

    def _fault(self, path: str) -> Fault | None:
        contents = path.startswith(("/cdn/", "/files/"))
        for fault, part, left in self._faults:
            if left[0] > 0 and (part in path if part else contents):
                left[0] -= 1
                return fault
        return None

    # Hugging Face

    def _repo(self, request: web.Request, revision: str) -> tuple[Repo, Commit]:
        repo = self._repos.get(f"{request.match_info['owner']}/{request.match_info['repo']}")
        if repo is None:
            # As the real one: it does not say whether a private repository exists.
            raise web.HTTPUnauthorized(
                headers={"X-Error-Code": "RepoNotFound"},
                text='{"error":"Invalid username or password."}',
            )
        commit = repo.commit(revision)
        if commit is None:
            raise web.HTTPNotFound(
                headers={"X-Error-Code": "RevisionNotFound"}, text='{"error":"Invalid rev id"}'
            )
        return repo, commit

    async def _info(self, request: web.Request) -> web.Response:
        repo, commit = self._repo(request, request.match_info.get("revision", "main"))
        sized = "blobs" in request.query
        card: Json = {"license": repo.licence, "base_model": list(repo.base_models)}
        info: Json = {
            "_id": "0",
            "id": f"{request.match_info['owner']}/{request.match_info['repo']}",
            "sha": commit.sha,
            "private": False,
            "gated": "auto" if repo.gated else False,
            "tags": [*repo.tags, *([f"license:{repo.licence}"] if repo.licence else [])],
            "cardData": {key: value for key, value in card.items() if value},
            "siblings": [
                {"rfilename": path, **(self._sizes(content) if sized else {})}
                for path, content in commit.files.items()
            ],
        }
        return web.json_response(info)

    def _sizes(self, content: Content) -> Json:
        facts: Json = {"size": content.size, "blobId": content.sha256[:40]}
        if content.size >= self.small:
            facts["lfs"] = {"sha256": content.sha256, "size": content.size, "pointerSize": 135}
        return facts

    async def _tree(self, request: web.Request) -> web.Response:
        _, commit = self._repo(request, request.match_info["revision"].partition("/")[0])
        rows = [
            {
                "type": "file",
                "path": path,
                "oid": content.sha256[:40],
                "size": content.size,
                "lfs": {"oid": content.sha256, "size": content.size, "pointerSize": 135},
            }
            for path, content in commit.files.items()
        ]
        return web.json_response(rows)

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        revision, _, path = request.match_info["rest"].partition("/")
        repo, commit = self._repo(request, revision)
        if repo.gated and request.headers.get("Authorization") != f"Bearer {self.token}":
            refused = (
                web.HTTPForbidden if "Authorization" in request.headers else web.HTTPUnauthorized
            )
            raise refused(
                headers={"X-Error-Code": "GatedRepo"}, text="Access to this model is restricted."
            )
        content = commit.files.get(path)
        if content is None:
            raise web.HTTPNotFound(
                headers={"X-Error-Code": "EntryNotFound"}, text="Entry not found"
            )
        if content.size < self.small:
            return await self._send(request, content)
        return web.Response(
            status=302,
            headers={
                "Location": f"{self.cdn_url}/cdn/{content.sha256}?signature=1",
                "X-Repo-Commit": commit.sha,
                "X-Linked-Etag": f'"{content.sha256}"',
                "X-Linked-Size": str(content.size),
            },
        )

    # The Ollama registry

    async def _manifest(self, request: web.Request) -> web.Response:
        name = f"{request.match_info['owner']}/{request.match_info['repo']}"
        manifest = self._manifests.get((name, request.match_info["tag"]))
        if manifest is None:
            return web.json_response(
                {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]},
                status=404,
            )
        return web.Response(body=manifest, content_type=MANIFEST)

    async def _blob(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"].removeprefix("sha256:")
        if digest not in self._contents:
            return web.json_response({"errors": [{"code": "BLOB_UNKNOWN"}]}, status=404)
        return web.Response(status=307, headers={"Location": f"{self.cdn_url}/cdn/{digest}"})

    # Contents

    async def _cdn(self, request: web.Request) -> web.StreamResponse:
        content = self._contents.get(request.match_info["digest"])
        if content is None:
            raise web.HTTPNotFound
        return await self._send(request, content)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        content = self._files.get(request.match_info["name"])
        if content is None:
            raise web.HTTPNotFound
        return await self._send(request, content)

    async def _send(self, request: web.Request, content: Content) -> web.StreamResponse:
        """Answer with a content, whole or a part, and with what is to go wrong."""
        fault = request[FAULT]
        mode = fault.mode if fault else None
        after = fault.after if fault else 0
        etag = _etag(content, mode)
        size = after if mode is Mode.SHORT else content.size
        size += after if mode is Mode.WRONG_SIZE else 0
        ignored = mode is Mode.IGNORE_RANGE or (fault is not None and fault.whole)
        start, end, partial = (0, size, False) if ignored else _span(request, etag, size)
        if start >= size > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        response = web.StreamResponse(status=206 if partial else 200)
        response.content_type = "application/octet-stream"
        response.headers["Accept-Ranges"] = "bytes"
        if etag:
            response.headers["ETag"] = etag
        if partial:
            shift = 1 if mode is Mode.WRONG_RANGE else 0
            response.headers["Content-Range"] = f"bytes {start + shift}-{end - 1 + shift}/{size}"
        response.content_length = end - start
        await response.prepare(request)
        note = request[NOTE]
        note.status = response.status
        if request.method == "HEAD":
            return response
        await self._body(request, response, _pieces(content, start, end, mode), fault)
        return response

    async def _body(
        self,
        request: web.Request,
        response: web.StreamResponse,
        pieces: Iterable[bytes],
        fault: Fault | None,
    ) -> None:
        note = request[NOTE]
        stops = fault is not None and fault.mode in {Mode.CUT, Mode.STALL}
        for whole in pieces:
            piece = whole
            if fault is not None and fault.mode is Mode.DRIP:
                async for byte in _dripping(whole):
                    await response.write(byte)
                    note.sent += 1
                continue
            if stops and fault is not None:
                piece = whole[: max(0, fault.after - note.sent)]
            await response.write(piece)
            note.sent += len(piece)
            if self.rate:
                await asyncio.sleep(len(piece) / self.rate)
            if stops and fault is not None and note.sent >= fault.after:
                if fault.mode is Mode.STALL and self._stop is not None:
                    await self._stop.wait()
                if request.transport is not None:
                    request.transport.close()  # what was written still goes out
                return


def _layer(kind: str, content: Content) -> Json:
    return {"mediaType": kind, "digest": f"sha256:{content.sha256}", "size": content.size}


def _etag(content: Content, mode: Mode | None) -> str | None:
    if mode is Mode.NO_ETAG:
        return None
    if mode is Mode.ETAG:
        return '"another"'
    return ("W/" if mode is Mode.WEAK_ETAG else "") + f'"{content.sha256}"'


def _span(request: web.Request, etag: str | None, size: int) -> tuple[int, int, bool]:
    """First byte, the one behind the last, and whether this is a partial answer."""
    asked = request.headers.get("Range")
    valid = request.headers.get("If-Range") in {None, etag}
    if asked is None or not valid:
        return 0, size, False
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return int(first), min(size, int(last) + 1 if last else size), True


def _pieces(content: Content, start: int, end: int, mode: Mode | None) -> Iterator[bytes]:
    sent = start
    for piece in content.pieces(start, min(end, content.size)):
        wrong = mode is Mode.WRONG_BYTES and sent == start
        sent += len(piece)
        yield bytes([piece[0] ^ 0xFF]) + piece[1:] if wrong else piece
    if sent < end:
        yield bytes(end - sent)


async def _dripping(content: bytes) -> AsyncIterator[bytes]:
    for value in content:
        yield bytes([value])
        await asyncio.sleep(0.05)


_EARLY = frozenset({Mode.STATUS, Mode.REDIRECT, Mode.HTML, Mode.HANG_UP})


def _early(request: web.Request, fault: Fault) -> web.Response:
    """An answer that has nothing to do with what was asked for."""
    if fault.mode is Mode.REDIRECT:
        return web.Response(status=302, headers={"Location": fault.to})
    if fault.mode is Mode.HTML:
        return web.Response(text="<html><body>Sign in</body></html>", content_type="text/html")
    if fault.mode is Mode.HANG_UP and request.transport is not None:
        request.transport.abort()
    return web.Response(status=fault.status, headers=dict(fault.headers), text="scripted failure")


def main() -> None:
    """Serve files until the process ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--file", type=Path, action="append", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--rate", type=float, help="bytes per second of each body")
    arguments = parser.parse_args()
    with Hub(latency_s=arguments.latency, rate=arguments.rate, port=arguments.port) as hub:
        hub.add_repo("local/files", {path.name: path for path in arguments.file})
        sys.stdout.write(f"{hub.url}\n")
        sys.stdout.flush()
        hub.wait()


if __name__ == "__main__":
    main()
