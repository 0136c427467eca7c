"""What goes wrong with a server, as errors for people: what happened, where, what to do.

A server's own words help, so they are quoted, but only a bounded excerpt in which keys and anything
of the prompt are blanked: servers echo both, and messages end up in receipts and logs.
"""

from __future__ import annotations

import re

import aiohttp
import msgspec
from yarl import URL

from rung.engines.openai import wire
from rung.engines.openai.retry import Retryable
from rung.errors import (
    EngineCold,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRefused,
    EngineTruncated,
    EngineUnavailable,
)

_EXCERPT_CHARS = 300
_BLANK = "\x00"  # stands for what was taken out until runs of it are one mark
_ECHO_CHARS = 16  # a run this long that the prompt holds too is an echo of it, not a coincidence
_SHORT_ECHO_CHARS = 4  # a whole text this long is
_KEY_LIKE = re.compile(r"(?i)\b(?:sk|pk|key|token|hf|gsk)[-_][\w*.-]{6,}|bearer\s+\S+")
_LOADING = re.compile(r"(?i)\bloading\b|still (?:starting|warming)|not (?:yet )?loaded")
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_BAD_REQUEST = frozenset({400, 413, 415, 422, 501})
_SERVER_LOG = "look at the server's own log"
_BY_STATUS: dict[int, tuple[type[EngineError], str]] = {
    404: (EngineRefused, "check model and base_url (base_url ends with /v1 on most servers)"),
    408: (EngineUnavailable, _SERVER_LOG),
    429: (EngineOverloaded, "lower limits.concurrency or raise limits.retry_budget_s"),
    500: (EngineUnavailable, _SERVER_LOG),
    502: (EngineUnavailable, _SERVER_LOG),
    503: (EngineOverloaded, "the server is busy or down for now"),
    504: (EngineUnavailable, _SERVER_LOG),
}


class RequestRefused(EngineRefused):
    """The server takes the address and the key, and not this request.

    Attributes:
        words: the server's own words, unbounded and unmasked: for decisions, never for printing.
    """

    def __init__(self, message: str, *, words: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.words = words


class Redactor:
    """Blanks out what must not be repeated: the key, anything like a key, and what the prompt says.

    Args:
        key: the credential in use, None without one.
        texts: all that was sent.
    """

    def __init__(self, key: str | None, texts: tuple[str, ...]) -> None:
        self._key = key
        self._texts = texts

    def excerpt(self, words: str) -> str:
        """At most 300 characters of `words` on one line, fit for a message."""
        text = _one_line(words)
        if self._key:
            text = text.replace(self._key, "***")
        text = _KEY_LIKE.sub("***", text)
        cut = self._without_echo(text[: 2 * _EXCERPT_CHARS])
        # A cut can leave the beginning of an echo, too short to be known for one.
        text = cut if len(text) <= 2 * _EXCERPT_CHARS else cut[:-_ECHO_CHARS]
        return text if len(text) <= _EXCERPT_CHARS else text[:_EXCERPT_CHARS] + "…"

    def _without_echo(self, text: str) -> str:
        """`text` without what it repeats of the texts, whole or in runs of `_ECHO_CHARS`."""
        sent = [_one_line(part) for part in self._texts]
        for part in sent:
            if len(part) >= _SHORT_ECHO_CHARS:
                text = text.replace(part, _BLANK)
        echoed = bytearray(len(text))
        for start in range(len(text) - _ECHO_CHARS + 1):
            run = text[start : start + _ECHO_CHARS]
            if any(run in part for part in sent):
                echoed[start : start + _ECHO_CHARS] = b"\x01" * _ECHO_CHARS
        kept = "".join(_BLANK if hit else char for char, hit in zip(text, echoed, strict=True))
        return re.sub(f"{_BLANK}+", "[…]", kept)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def place(url: URL) -> str:
    """`url` for messages: no credentials, no query."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


def words_of(body: bytes) -> str:
    """What an error body says: its message, or the body itself where it is plain text."""
    try:
        words = msgspec.json.decode(body, type=wire.ErrorBody).words
    except (ValueError, RecursionError):
        words = ""
    return words or body.decode("utf-8", "replace")


def looks_like_html(body: bytes) -> bool:
    """Whether `body` is a web page."""
    return body.lstrip()[:1] == b"<"


def fault_of_status(
    status: int, body: bytes, url: URL, redactor: Redactor, key_env: str | None
) -> EngineError:
    """The error for a status that is not 200; `is_retried` says which may be tried again."""
    words = words_of(body)
    page = looks_like_html(body)
    said = "an HTML page" if page else redactor.excerpt(words)
    what = f"{place(url)} answered HTTP {status}" + (f": {said}" if said else "")
    if status in (401, 403):
        return EngineRefused(what, hint=_key_hint(key_env))
    if 300 <= status < 400:
        return EngineRefused(
            f"{place(url)} answered HTTP {status}, a redirect; redirects are not followed",
            hint="set base_url to the address the server redirects to",
        )
    if status == 503 and not page and _LOADING.search(words):
        return EngineCold(what, hint="the model is loading; try again when it is")
    if page and status not in _BY_STATUS:
        return EngineProtocolError(
            what, hint="base_url leads to a web page; it ends with /v1 on most servers"
        )
    if status in _BAD_REQUEST:
        return RequestRefused(what, words=words, hint="the server does not take this request")
    kind, hint = _BY_STATUS.get(status, (EngineRefused, None))
    return kind(what, hint=hint)


def _key_hint(key_env: str | None) -> str:
    if key_env is None:
        return "the server wants a key: name the environment variable that holds it in api_key_env"
    return f"check the key in the environment variable {key_env}"


def is_retried(status: int) -> bool:
    """Whether the same request may be sent again after this status."""
    return status in _RETRIED


def fault_of_connecting(error: aiohttp.ClientConnectorError, url: URL) -> EngineError | Retryable:
    """The failure for a request that found no server: nobody read it, so most may be tried again."""
    host = f"{url.host}:{url.port}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return EngineUnavailable(
            f"{host} did not prove who it is: its TLS certificate is not accepted",
            hint="install the certificate's authority on this machine, or correct base_url",
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return EngineUnavailable(
            f"no TLS connection to {host} could be made",
            hint="check whether base_url should begin with http:// or https://",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        message = f"no address is known for {url.host!r}"
        hint = "check base_url and the network"
    else:
        reason = error.os_error.strerror
        message = f"nothing answers at {host}" + (f" ({reason})" if reason else "")
        hint = "start the server, or correct base_url"
    return Retryable(EngineUnavailable(message, hint=hint))


def no_answer(url: URL) -> EngineError:
    """The server took the request and hung up before it answered."""
    return EngineUnavailable(
        f"{place(url)} closed the connection before it answered",
        hint="look at the server's own log; it may have crashed",
        charged=True,
    )


def cut_off(url: URL) -> EngineTruncated:
    """The connection ended inside the answer."""
    return EngineTruncated(
        f"{place(url)} ended the stream before the answer was complete",
        hint="look at the server's own log; it may have crashed",
        charged=True,
    )


def not_the_protocol(url: URL, what: str) -> EngineProtocolError:
    """The server answered, with something else than the OpenAI API has."""
    return EngineProtocolError(
        f"{place(url)} answered {what}",
        hint="check that base_url is an OpenAI-compatible server's address up to and including /v1",
        charged=True,
    )
