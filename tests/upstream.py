"""A real loopback server that speaks the OpenAI API, answers by a scripted function, and fails on
demand.

In tests: `with Upstream(...) as upstream:` runs it in a thread of its own, so that synchronous and
asynchronous tests use it alike. As a process of its own, `python tests/upstream.py --port 0 --log
FILE` prints its port and appends one durable line for every call before it answers it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import ssl
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self

from aiohttp import web

Json = dict[str, Any]  # whatever JSON a client sends; looked at, never kept to a shape


class Mode(Enum):
    """What happens to a call."""

    NORMAL = auto()
    STATUS = auto()  # answers `status` with `body`
    HTML = auto()  # a web page with status 200
    BROKEN_JSON = auto()  # a stream whose first event is cut-off JSON
    DROP = auto()  # hangs up after `after` events of the stream
    HANG_UP = auto()  # closes the connection without an answer
    EMPTY_CHOICES = auto()
    REFUSAL = auto()  # the refusal field instead of content
    CUT = auto()  # finish_reason "length" after half of the answer
    HUGE_LINE = auto()  # one endless event
    ENDLESS = auto()  # a stream that never stops
    NEVER = auto()  # takes the request and says nothing
    REDIRECT = auto()
    ERROR_EVENT = auto()  # an error object inside the stream, after `after` events
    EMPTY_BODY = auto()
    UNFINISHED = auto()  # a tidy stream with [DONE] and without finish_reason
    GZIP = auto()  # claims an encoding that nobody asked for


@dataclass(frozen=True)
class Fault:
    """One call's misfortune; `NORMAL` with delays is a slow server."""

    mode: Mode = Mode.NORMAL
    status: int = 500
    body: str = '{"error": {"message": "scripted failure"}}'
    headers: tuple[tuple[str, str], ...] = ()
    first_s: float = 0.0  # before the first token, after the headers
    between_s: float = 0.0  # between two tokens
    after: int = 2


@dataclass(frozen=True)
class Token:
    """A scripted token: its text, its log-probability, the alternatives at its place."""

    text: str
    logprob: float = -0.01
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Call:
    """One request as the server saw it."""

    path: str
    key: str | None
    body: Json
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """The last message: what a row's own text is."""
        messages = self.body.get("messages") or [{"content": ""}]
        return str(messages[-1]["content"])

    @property
    def enum(self) -> list[str]:
        """The labels its schema allows, none without such a schema."""
        schema = (self.body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
        return list(schema.get("properties", {}).get("label", {}).get("enum", []))

    @property
    def listed(self) -> list[str]:
        """The labels its prompt lists."""
        lines = str((self.body.get("messages") or [{"content": ""}])[0]["content"]).splitlines()
        return [line[2:].partition(":")[0] for line in lines if line.startswith("- ")]

    @property
    def is_probe(self) -> bool:
        """Whether it asks what the server can do rather than for an answer."""
        return self.text in ("Name any animal.", "Reply with the single word: hello")


Answer = Callable[[Call], str | list[Token]]


def pieces(text: str, size: int = 4) -> list[Token]:
    """`text` cut into tokens of `size` characters, each near certain."""
    return [
        Token(text[at : at + size], -0.01, ((text[at : at + size], -0.01), ("~", -4.6)))
        for at in range(0, len(text), size)
    ] or [Token("")]


def hashed_label(call: Call) -> str:
    """One of the labels the schema allows or the prompt lists, by the text's digest."""
    digest = int.from_bytes(hashlib.sha256(call.text.encode()).digest()[:8], "big")
    labels = call.enum or call.listed
    return labels[digest % len(labels)] if labels else "hello"


@dataclass
class Upstream:
    """The server; see the module's docstring.

    Args:
        answer: the label or text of a call, or its tokens.
        logprobs: token probabilities: `True` gives them, `False` ignores the field, `None` refuses
            it.
        json_schema: the same for `response_format`; unless `True`, labels come as bare text.
        streams: answers with a stream; `False` ignores the wish and answers whole.
        line_end: of the stream's lines.
        pieces_of: cuts the stream into network writes of that many bytes; 0 leaves it alone.
        usage: the token counts it reports, None for none.
        models: ids it lists.
        refuses: fields it answers with 400, naming them.
        tokenize: how texts become tokens.
        embeddings: whether it has any.
        faults: consumed one per call that is no probe; then calls succeed.
        always: the fault of every call once `faults` are used up.
        log: file that gets a line per call, on disk before the call is answered.
        port: 0 for any free one.
        tls: speaks https with this certificate.
    """

    answer: Answer = hashed_label
    logprobs: bool | None = True
    json_schema: bool | None = True
    streams: bool = True
    line_end: str = "\n"
    pieces_of: int = 0
    done: bool = True
    usage: Json | None = field(
        default_factory=lambda: {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    )
    models: tuple[str, ...] = ("tiny",)
    owned_by: str = "tests"
    max_top_logprobs: int = 20
    refuses: tuple[str, ...] = ()
    content_type: str = "text/event-stream"
    tokenize: Callable[[str], list[Token]] = pieces
    embeddings: bool = True
    faults: Iterable[Fault] = ()
    always: Fault = Fault()
    log: Path | None = None
    port: int = 0
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.faults = deque(self.faults)
        self.probe_faults: deque[Fault] = deque()
        self.calls: list[Call] = []
        self.cancelled = 0
        self.in_flight = self.most_in_flight = 0
        self._log_file = (
            os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND) if self.log else -1
        )
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # What tests ask about

    @property
    def url(self) -> str:
        """The address a rung's `base_url` takes."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    @property
    def chats(self) -> list[Call]:
        """Chat calls that are no probes."""
        return [
            call for call in self.calls if call.path.endswith("completions") and not call.is_probe
        ]

    @property
    def probes(self) -> list[Call]:
        """Calls that asked what the server can do."""
        return [call for call in self.calls if call.is_probe]

    def calls_per_text(self) -> Counter[str]:
        """How often each row's text was asked."""
        return Counter(call.text for call in self.chats)

    def calls_per_key(self) -> Counter[str | None]:
        """How often each idempotency key was sent."""
        return Counter(call.key for call in self.chats)

    # Its life

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the upstream did not start")
        return self

    def wait(self) -> None:
        """Until the server ends; by itself it never does."""
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        if self._log_file >= 0:
            os.close(self._log_file)

    async def serve(self) -> None:
        """Serve until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._guarded(self._chat))
        app.router.add_post("/v1/embeddings", self._guarded(self._embed))
        app.router.add_get("/v1/models", self._guarded(self._list_models))
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    # What it does with a call

    def _guarded(self, handle: Callable[[web.Request, Call], Any]) -> Callable[[web.Request], Any]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            body = await request.json() if request.method == "POST" else {}
            call = Call(
                request.path, request.headers.get("Idempotency-Key"), body, dict(request.headers)
            )
            self._note(call)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                return await handle(request, call)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.in_flight -= 1

        return guarded

    def _note(self, call: Call) -> None:
        self.calls.append(call)
        if self._log_file >= 0:
            kind = "probe" if call.is_probe else call.path.rpartition("/")[2]
            line = json.dumps({"kind": kind, "key": call.key, "text": call.text})
            os.write(self._log_file, line.encode() + b"\n")
            os.fsync(self._log_file)

    async def _chat(self, request: web.Request, call: Call) -> web.StreamResponse:
        refused = self._refusal(call)
        if refused is not None:
            return refused
        queue = self.probe_faults if call.is_probe else self.faults
        usual = Fault() if call.is_probe else self.always
        fault = queue.popleft() if isinstance(queue, deque) and queue else usual
        if fault.mode is not Mode.NORMAL and (early := _EARLY.get(fault.mode)):
            return await early(request, fault)
        tokens = self._tokens(call)
        if not self.streams:
            await asyncio.sleep(fault.first_s)
            return self._whole(call, tokens, fault)
        return await self._stream(request, call, tokens, fault)

    def _refusal(self, call: Call) -> web.Response | None:
        """The 400 for a field this server does not take."""
        named = [name for name in self.refuses if call.body.get(name) is not None]
        if self.logprobs is None and call.body.get("logprobs"):
            named.append("logprobs")
        if (call.body.get("top_logprobs") or 0) > self.max_top_logprobs:
            named.append("top_logprobs")
        if self.json_schema is None and call.body.get("response_format"):
            named.append("response_format")
        if not named:
            return None
        # OpenAI's wording for its newer models
        instead = " Use 'max_completion_tokens' instead." if "max_tokens" in named else ""
        message = f"Unsupported parameter: '{named[0]}' is not supported with this model.{instead}"
        return web.json_response({"error": {"message": message, "code": 400}}, status=400)

    def _tokens(self, call: Call) -> list[Token]:
        held = self.json_schema is True and bool(call.enum)
        if call.is_probe:
            return self.tokenize(json.dumps({"label": call.enum[0]}) if held else "hello")
        answer = self.answer(call)
        if not isinstance(answer, str):
            return answer
        return self.tokenize(json.dumps({"label": answer}) if held else answer)

    def _choice(self, call: Call, token: Token, where: str) -> Json:
        choice: Json = {"index": 0, where: {"content": token.text}, "finish_reason": None}
        if self.logprobs is True and call.body.get("logprobs"):
            choice["logprobs"] = {"content": [_entry(token)]}
        return choice

    def _whole(self, call: Call, tokens: list[Token], fault: Fault) -> web.Response:
        choice: Json = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(token.text for token in tokens)},
            "finish_reason": "length" if fault.mode is Mode.CUT else "stop",
        }
        if self.logprobs is True and call.body.get("logprobs"):
            choice["logprobs"] = {"content": [_entry(token) for token in tokens]}
        body: Json = {"id": "x", "model": "tiny-1", "choices": [choice], "usage": self.usage}
        if fault.mode is Mode.EMPTY_CHOICES:
            body["choices"] = []
        return web.json_response(body)

    async def _stream(
        self, request: web.Request, call: Call, tokens: list[Token], fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": self.content_type, **dict(fault.headers)}
        )
        await response.prepare(request)
        await self._event(
            response, _chunk({"index": 0, "delta": {"role": "assistant", "content": ""}})
        )
        await asyncio.sleep(fault.first_s)
        if fault.mode is Mode.CUT:
            tokens = tokens[: len(tokens) // 2]
        elif fault.mode is Mode.REFUSAL:
            tokens = []
        for count, token in enumerate(tokens):
            if count == fault.after and fault.mode is Mode.DROP:
                _abort(request)
                return response
            if count == fault.after and fault.mode is Mode.ERROR_EVENT:
                await self._event(response, {"error": {"message": "the GPU fell over"}})
                return response
            if count:
                await asyncio.sleep(fault.between_s)
            await self._event(response, _chunk(self._choice(call, token, "delta")))
        await self._end(response, fault)
        return response

    async def _end(self, response: web.StreamResponse, fault: Fault) -> None:
        last: Json = {"index": 0, "delta": {}, "finish_reason": "stop"}
        if fault.mode is Mode.CUT:
            last["finish_reason"] = "length"
        if fault.mode is Mode.REFUSAL:
            last["delta"] = {"refusal": "I cannot help with that."}
        if fault.mode is not Mode.UNFINISHED:
            await self._event(response, _chunk(last))
        if self.usage is not None:
            await self._event(response, {"model": "tiny-1", "choices": [], "usage": self.usage})
        if self.done:
            await self._write(response, f"data: [DONE]{self.line_end}{self.line_end}")

    async def _event(self, response: web.StreamResponse, value: Json) -> None:
        end = self.line_end
        await self._write(response, f": keep-alive{end}data: {json.dumps(value)}{end}{end}")

    async def _write(self, response: web.StreamResponse, text: str) -> None:
        data = text.encode()
        step = self.pieces_of or len(data)
        for at in range(0, len(data), step):
            await response.write(data[at : at + step])
            if self.pieces_of:
                await asyncio.sleep(0)

    async def _embed(self, _request: web.Request, call: Call) -> web.StreamResponse:
        if not self.embeddings:
            return web.Response(status=501, text="This server does not support embeddings")
        data = [
            {"index": index, "embedding": [float(len(text)), 1.0]}
            for index, text in enumerate(call.body["input"])
        ]
        return web.json_response({"data": data[::-1], "usage": self.usage})

    async def _list_models(self, request: web.Request, _call: Call) -> web.StreamResponse:
        if self.always.mode is not Mode.NORMAL and (early := _EARLY.get(self.always.mode)):
            return await early(request, self.always)
        data = [{"id": name, "object": "model", "owned_by": self.owned_by} for name in self.models]
        return web.json_response({"object": "list", "data": data})


def _entry(token: Token) -> Json:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.text.encode()),
        "top_logprobs": [{"token": text, "logprob": lp} for text, lp in token.alternatives],
    }


def _chunk(choice: Json) -> Json:
    return {"id": "x", "object": "chat.completion.chunk", "model": "tiny-1", "choices": [choice]}


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _status(_request: web.Request, fault: Fault) -> web.StreamResponse:
    return web.Response(status=fault.status, text=fault.body, headers=dict(fault.headers))


async def _html(_request: web.Request, _fault: Fault) -> web.StreamResponse:
    return web.Response(text="<!doctype html><title>Sign in</title>", content_type="text/html")


async def _hang_up(request: web.Request, _fault: Fault) -> web.StreamResponse:
    _abort(request)
    return web.Response()


async def _never(_request: web.Request, _fault: Fault) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def _redirect(_request: web.Request, _fault: Fault) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"})


async def _raw_stream(request: web.Request, parts: Iterable[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in parts:
        await response.write(part)
    return response


async def _broken_json(request: web.Request, _fault: Fault) -> web.StreamResponse:
    return await _raw_stream(request, [b'data: {"choices": [{"index": 0, "del\n\n'])


async def _huge_line(request: web.Request, _fault: Fault) -> web.StreamResponse:
    return await _raw_stream(request, [b"data: ", *[b"x" * 65536] * 128])


async def _endless(request: web.Request, _fault: Fault) -> web.StreamResponse:
    event = json.dumps(_chunk({"index": 0, "delta": {"content": "la" * 8192}}))
    return await _raw_stream(request, [f"data: {event}\n\n".encode()] * 4096)


async def _empty_body(_request: web.Request, _fault: Fault) -> web.StreamResponse:
    return web.Response(text="", content_type="application/json")


async def _empty_choices(_request: web.Request, _fault: Fault) -> web.StreamResponse:
    return web.json_response({"model": "tiny-1", "choices": []})


async def _gzip(_request: web.Request, _fault: Fault) -> web.StreamResponse:
    return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})


_EARLY: dict[Mode, Callable[[web.Request, Fault], Any]] = {
    Mode.STATUS: _status,
    Mode.HTML: _html,
    Mode.HANG_UP: _hang_up,
    Mode.NEVER: _never,
    Mode.REDIRECT: _redirect,
    Mode.BROKEN_JSON: _broken_json,
    Mode.HUGE_LINE: _huge_line,
    Mode.ENDLESS: _endless,
    Mode.EMPTY_BODY: _empty_body,
    Mode.EMPTY_CHOICES: _empty_choices,
    Mode.GZIP: _gzip,
}


def main() -> None:
    """Serve until killed; the port is the first line of the output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for any free one")
    parser.add_argument("--log", type=Path, help="file that gets one line per call")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first token")
    parser.add_argument("--no-logprobs", action="store_true", help="give no token probabilities")
    parser.add_argument("--no-schema", action="store_true", help="ignore response_format")
    arguments = parser.parse_args()
    upstream = Upstream(
        port=arguments.port,
        log=arguments.log,
        logprobs=not arguments.no_logprobs,
        json_schema=not arguments.no_schema,
        always=Fault(first_s=arguments.delay),
    )

    with upstream:
        sys.stdout.write(f"{upstream.port}\n")
        sys.stdout.flush()
        upstream.wait()


if __name__ == "__main__":
    main()
