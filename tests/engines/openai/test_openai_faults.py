"""A server that is down, slow, busy, closed or wrong: each ends in its own error, with a fix."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from openai_requests import NOON, FakeTime, ask, rung, using

from rung.config import Limits, Timeouts
from rung.engines.openai.engine import OpenAIEngine
from rung.engines.openai.retry import parse_retry_after, wait_before
from rung.engines.protocol import Generation, State
from rung.errors import (
    ConfigError,
    EngineCold,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from upstream import Fault, Mode, Upstream

KEY = "sk-test-0123456789abcdef"


def one(
    url: str, time: FakeTime | None = None, text: str = "Where is it?", **changes: object
) -> Generation:
    """One free generation on a rung with `changes`."""
    return using(rung(url, **changes), lambda engine: engine.generate(ask(text)), time=time)


def status(code: int, body: str = "", **headers: str) -> Fault:
    """An answer with a status and a body."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fault(Mode.STATUS, status=code, body=body, headers=named)


def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_endpoint_that_is_down_is_unavailable_after_its_retries() -> None:
    """Nothing was sent, so the connection is tried again, with growing jittered waits."""
    time = FakeTime()
    with pytest.raises(
        EngineUnavailable, match=r"nothing answers at 127.0.0.1:\d+ .*3 tries"
    ) as caught:
        one(f"http://127.0.0.1:{closed_port()}/v1", time)
    assert time.sleeps == [0.25, 0.5]
    assert not caught.value.charged
    assert caught.value.hint == "start the server, or correct base_url"


def test_a_name_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing name lookup says which name."""

    def no_such_name(*_args: object, **_named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    with pytest.raises(EngineUnavailable, match=r"no address is known for 'nowhere.invalid'"):
        one("http://nowhere.invalid/v1")


def test_a_server_without_tls_behind_an_https_address_is_unavailable_at_once() -> None:
    """A failed handshake is not tried again."""
    time = FakeTime()
    with Upstream() as up, pytest.raises(EngineUnavailable, match="TLS"):
        one(up.url.replace("http:", "https:"), time)
    assert time.sleeps == []


def test_a_certificate_nobody_vouches_for_is_refused_at_once(tmp_path: Path) -> None:
    """Neither the text nor the key goes to a server that does not prove who it is."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate for this test, is not installed")
    pem = str(tmp_path / "server.pem")
    options = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
    subprocess.run(
        [openssl, "req", "-x509", *options, "-keyout", pem, "-out", pem + ".crt"],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem + ".crt", pem)
    time = FakeTime()
    with Upstream(tls=context) as up, pytest.raises(EngineUnavailable, match="did not prove"):
        one(up.url, time)
    assert time.sleeps == []
    assert up.calls == []


@pytest.mark.parametrize(
    ("fault", "timeouts", "limit", "charged"),
    [
        (Fault(Mode.NEVER), Timeouts(first_token=0.15), "first_token limit of 0.15 s", True),
        (Fault(first_s=30), Timeouts(first_token=0.15), "first_token limit of 0.15 s", True),
        (
            Fault(between_s=30),
            Timeouts(between_tokens=0.15),
            "between_tokens limit of 0.15 s",
            True,
        ),
        (Fault(between_s=0.1), Timeouts(total=0.25), "total limit of 0.25 s", True),
        (Fault(first_s=30), Timeouts(first_token=9, total=0.15), "total limit of 0.15 s", True),
    ],
)
def test_each_time_limit_says_which_it_is(
    fault: Fault, timeouts: Timeouts, limit: str, charged: bool
) -> None:
    """A slow server is left with the name and the value of the limit; keep-alive comments do not
    count.
    """
    with (
        Upstream(answer=lambda call: "a long enough answer", always=fault) as up,
        pytest.raises(EngineTimeout, match=limit) as caught,
    ):
        one(up.url, timeouts=timeouts)
    assert caught.value.charged is charged
    assert len(up.chats) == 1


def test_a_connection_that_is_not_accepted_ends_at_the_connect_limit() -> None:
    """A listener whose queue is full never completes the handshake."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        with pytest.raises(EngineTimeout, match=r"connect limit of 0.2 s") as caught:
            one(f"http://127.0.0.1:{address[1]}/v1", timeouts=Timeouts(connect=0.2))
        for filler in fillers:
            filler.close()
    assert not caught.value.charged


def test_a_request_may_narrow_the_total() -> None:
    """The task's own latency bound ends the attempt earlier than the rung's total."""
    with (
        Upstream(always=Fault(first_s=30)) as up,
        pytest.raises(EngineTimeout, match=r"total limit of 0.1 s"),
    ):
        using(rung(up.url), lambda engine: engine.generate(ask(timeout_s=0.1)))


def test_leaving_frees_the_server() -> None:
    """A passed limit hangs up, so that the server can stop generating."""

    async def late(engine: OpenAIEngine) -> None:
        with pytest.raises(EngineTimeout):
            await engine.generate(ask(timeout_s=0.1))
        for _ in range(200):
            if up.cancelled:
                return
            await asyncio.sleep(0.01)

    with Upstream(always=Fault(first_s=30)) as up:
        using(rung(up.url), late)
    assert up.cancelled == 1


def test_a_busy_server_is_asked_again_when_it_said() -> None:
    """`Retry-After` in seconds is waited for, plus jitter, with the same idempotency key."""
    time = FakeTime()
    with Upstream(answer=lambda call: "Yes.", faults=[status(429, Retry_After="2")]) as up:
        assert one(up.url, time).text == "Yes."
    assert time.sleeps == [2.25]
    assert len(up.calls_per_key()) == 1
    assert None not in up.calls_per_key()


def test_a_date_in_retry_after_is_understood() -> None:
    """An HTTP date is waited for from now; a past one is no wait."""
    assert parse_retry_after("Mon, 05 Jan 2026 12:00:09 GMT", NOON) == 9.0
    assert parse_retry_after("Mon, 05 Jan 2026 11:00:00 GMT", NOON) == 0.0
    assert parse_retry_after("1.5", NOON) == 1.5
    assert parse_retry_after("soon", NOON) is None
    assert parse_retry_after("-3", NOON) is None
    assert parse_retry_after(None, NOON) is None


def test_a_wait_beyond_the_budget_is_not_begun() -> None:
    """An hour's `Retry-After` is overload at once."""
    time = FakeTime()
    with (
        Upstream(always=status(429, Retry_After="3600")) as up,
        pytest.raises(EngineOverloaded, match="asks to wait 3600 s, more than the 30 s left"),
    ):
        one(up.url, time)
    assert time.sleeps == []
    assert len(up.chats) == 1


def test_the_budget_bounds_all_waits_together() -> None:
    """Retries end when the next could not start inside the budget, however many are allowed."""
    time = FakeTime()
    with Upstream(always=status(503, Retry_After="4")) as up, pytest.raises(EngineOverloaded):
        one(up.url, time, limits=Limits(retries=50, retry_budget_s=10))
    assert len(time.sleeps) == 2
    assert len(up.chats) == 3


def test_jitter_is_full_and_capped() -> None:
    """A wait is uniform between nothing and a doubling cap of eight seconds."""
    assert [wait_before(retry, None, 1.0) for retry in range(6)] == [0.5, 1, 2, 4, 8, 8]
    assert wait_before(9, None, 0.0) == 0.0


@pytest.mark.parametrize("code", [408, 500, 502, 503, 504])
def test_a_passing_failure_is_one_retry(code: int) -> None:
    """A server that fails once and then answers has answered."""
    with Upstream(answer=lambda call: "Yes.", faults=[status(code)]) as up:
        assert one(up.url).text == "Yes."
    assert len(up.chats) == 2


def test_a_lasting_failure_is_unavailable() -> None:
    """The error names status, tries and the server's words."""
    with (
        Upstream() as up_,
        pytest.raises(EngineUnavailable, match=r"HTTP 500: scripted failure \(after 3 tries\)"),
    ):
        up_.always = Fault(Mode.STATUS)
        one(up_.url)


@pytest.mark.parametrize(
    "body",
    ['{"error":{"message":"Loading model","code":503}}', '{"error":"model is still loading"}'],
)
def test_a_loading_model_is_cold(body: str) -> None:
    """Loading is not failing: it is its own verdict once the budget is spent."""
    with Upstream(always=status(503, body)) as up, pytest.raises(EngineCold) as caught:
        one(up.url)
    assert caught.value.verdict == "cold"


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_is_not_tried_again(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fix names the variable; the key itself is blanked where the server repeats it."""
    monkeypatch.setenv("TEST_KEY", KEY)
    body = f'{{"error": {{"message": "Incorrect API key provided: {KEY}."}}}}'
    with Upstream(always=status(code, body)) as up, pytest.raises(EngineRefused) as caught:
        one(up.url, api_key_env="TEST_KEY")
    assert "Incorrect API key provided: ***" in caught.value.message
    assert KEY not in repr(caught.value) + str(caught.value.hint)
    assert caught.value.hint == "check the key in the environment variable TEST_KEY"
    assert up.chats[0].headers["Authorization"] == f"Bearer {KEY}"
    assert len(up.chats) == 1


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "schlüssel"])
def test_a_missing_or_impossible_key_is_found_before_anything_is_sent(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable, never its content."""
    if value is not None:
        monkeypatch.setenv("TEST_KEY", value)
    with Upstream() as up, pytest.raises(EngineRefused, match="'TEST_KEY'") as caught:
        one(up.url, api_key_env="TEST_KEY")
    assert not value or not value.strip() or value not in str(caught.value)
    assert up.calls == []


def test_a_bad_request_repeats_the_servers_words_without_the_prompt() -> None:
    """The words help; what they echo of the input is blanked."""
    secret = "my account number is 4711 0815 and I am Jane"
    body = f'{{"error": {{"message": "too long: {secret}; the limit is 8192"}}}}'
    with Upstream(always=status(400, body)) as up, pytest.raises(EngineRefused) as caught:
        one(up.url, text=secret)
    assert "4711" not in caught.value.message
    assert "the limit is 8192" in caught.value.message


def test_a_short_text_is_not_repeated_either() -> None:
    """A name is enough to be personal."""
    body = '{"error": {"message": "cannot tokenize Jane Doe here"}}'
    with (
        Upstream(always=status(400, body)) as up,
        pytest.raises(EngineRefused, match=r"cannot tokenize \[…\] here"),
    ):
        one(up.url, text="Jane Doe")


def test_an_echo_cut_by_the_length_limit_is_not_repeated() -> None:
    """The end of a long excerpt does not hold the beginning of the prompt."""
    body = "long word " * 59 + "4711 0815 and more words" * 20
    with Upstream(always=status(400, body)) as up, pytest.raises(EngineRefused) as caught:
        one(up.url, text="long word " * 59 + "4711 0815 and more words of mine")
    assert "47" not in caught.value.message.partition("HTTP 400")[2]


def test_long_words_are_bounded() -> None:
    """A server cannot fill the log."""
    with (
        Upstream(always=status(400, "word " * 100_000)) as up,
        pytest.raises(EngineRefused) as caught,
    ):
        one(up.url)
    assert len(caught.value.message) < 500


def test_an_unknown_model_is_refused_with_a_fix() -> None:
    """404 points at model and base_url."""
    body = '{"error":{"message":"model \\"tiny\\" not found, try pulling it first"}}'
    with (
        Upstream(always=status(404, body)) as up,
        pytest.raises(EngineRefused, match="try pulling") as caught,
    ):
        one(up.url)
    assert "check model and base_url" in str(caught.value.hint)


def test_redirects_are_not_followed() -> None:
    """Another address would be an egress that policy never saw."""
    with (
        Upstream(always=Fault(Mode.REDIRECT)) as up,
        pytest.raises(EngineRefused, match="redirect"),
    ):
        one(up.url)
    assert len(up.calls) == 1


def test_a_web_page_as_error_is_the_wrong_address() -> None:
    """A page under a strange status points at base_url."""
    with Upstream(always=status(405, "<html>no</html>")) as up, pytest.raises(EngineProtocolError):
        one(up.url)


def test_a_server_that_hangs_up_is_not_asked_twice() -> None:
    """A fresh connection closed without an answer may have been charged."""
    with Upstream(always=Fault(Mode.HANG_UP)) as up, pytest.raises(EngineUnavailable) as caught:
        one(up.url)
    assert caught.value.charged
    assert len(up.chats) == 1


def test_a_kept_connection_that_was_closing_is_tried_again() -> None:
    """A connection that dies between two requests costs a retry, not a row."""

    async def two(engine: OpenAIEngine) -> list[str]:
        first = await engine.generate(ask())
        return [first.text, (await engine.generate(ask())).text]

    faults = [Fault(), Fault(Mode.HANG_UP)]
    with Upstream(answer=lambda call: "Yes.", faults=faults) as up:
        assert using(rung(up.url), two) == ["Yes.", "Yes."]
    assert len(up.chats) == 3


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is an address that policy did not allow."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Upstream(answer=lambda call: "Yes.") as up:
        assert one(up.url).text == "Yes."


@pytest.mark.parametrize(
    "address", [None, "localhost:8080", "ftp://h/v1", "http://u:p@127.0.0.1/v1"]
)
def test_an_address_that_cannot_be_used_is_a_settings_error(address: str | None) -> None:
    """The message names the key; credentials in it are not repeated."""
    with pytest.raises(ConfigError, match=r"rungs.big.base_url") as caught:
        OpenAIEngine(rung(address))  # type: ignore[arg-type]  # None is what a rung without one has
    assert "u:p" not in caught.value.message


def test_health_tells_states_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready, cold, down and misconfigured each come with a sentence."""

    def state(url: str, **changes: object) -> State:
        return using(rung(url, **changes), lambda engine: engine.health()).state

    with Upstream(models=("tiny", "huge:latest")) as up:
        assert state(up.url) is State.READY
        assert state(up.url, model="huge") is State.READY
        assert state(up.url, model="other") is State.MISCONFIGURED
        assert state(up.url, api_key_env="NOT_SET") is State.MISCONFIGURED
        assert up.chats == []
    with Upstream(models=("file.gguf",), owned_by="llamacpp") as up:
        assert state(up.url, model="any") is State.READY
    with Upstream(always=status(503, '{"error":{"message":"Loading model"}}')) as up:
        assert state(up.url) is State.COLD
    with Upstream(always=Fault(Mode.HTML)) as up:
        assert state(up.url) is State.MISCONFIGURED
    assert state(f"http://127.0.0.1:{closed_port()}/v1") is State.DOWN


def test_an_engine_used_from_a_second_loop_says_so() -> None:
    """Connections belong to one loop; after aclose the engine can be used in another."""
    with Upstream(answer=lambda call: "Yes.") as up:
        engine = OpenAIEngine(rung(up.url))
        first = asyncio.new_event_loop()
        first.run_until_complete(engine.generate(ask()))
        with pytest.raises(EngineError, match="another event loop"):
            asyncio.run(engine.generate(ask()))
        first.run_until_complete(engine.aclose())
        first.run_until_complete(engine.aclose())
        first.close()

        async def again() -> str:
            text = (await engine.generate(ask())).text
            await engine.aclose()
            return text

        assert asyncio.run(again()) == "Yes."
