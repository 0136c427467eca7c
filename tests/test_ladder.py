"""The climb: policy first, then the smallest rung; every verdict distinct; nothing leaves unrecorded."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from projects import STUDENT, examples, openai_rung, train, write_project, write_suite
from rung.blocking import run_blocking
from rung.cli import root as command_line
from rung.errors import ConfigError, StorageError
from rung.ladder import Abstain, Accept, Ladder, Try, next_step
from rung.policy import AllowedSet, Place, Refusal
from rung.receipt import Answer, Attempt, Standing, Verdict
from rung.task import Privacy, Request
from upstream import Fault, Mode, Upstream


def allowed(*rungs: str, refused: tuple[str, ...] = ()) -> AllowedSet:
    """What policy left of a ladder."""
    return AllowedSet(
        Privacy.PERSONAL,
        "policy.egress.personal",
        rungs,
        tuple(Refusal(name, Place.ANYWHERE, "personal may not go to anywhere") for name in refused),
    )


def attempt(rung: str, verdict: Verdict) -> Attempt:
    """An attempt that ended so."""
    return Attempt(rung, "device", verdict)


def ask(config: Path, text: str = "where is my parcel", **request: object) -> Answer:
    """One request through a ladder opened and closed for it."""

    async def climb() -> Answer:
        async with await Ladder.open(config) as ladder:
            return await ladder.run(Request("triage", text, **request))

    return run_blocking(climb())


def path(answer: Answer) -> list[tuple[str, str]]:
    """Rungs and verdicts of a receipt."""
    return [(a.rung, a.verdict.value) for a in answer.receipt.attempts]


def calibrate(config: Path, suite: Path, *more: str) -> None:
    """`rung calibrate triage`, which must succeed."""
    done = CliRunner().invoke(
        command_line,
        ["calibrate", "triage", "--on", str(suite), "--config", str(config), "--yes", *more],
        catch_exceptions=False,
    )
    assert done.exit_code == 0


# --- the decision -----------------------------------------------------------------------------


def test_the_first_step_is_the_lowest_allowed_rung() -> None:
    """Nothing is tried before the smallest."""
    assert next_step(allowed("student", "local"), []) == Try("student")


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.ACCEPTED])
def test_every_verdict_but_accepted_climbs(verdict: Verdict) -> None:
    """Unsure, invalid, timeout and the rest all go on to the next rung."""
    assert next_step(allowed("student", "local"), [attempt("student", verdict)]) == Try("local")


def test_an_accepted_attempt_is_the_answer() -> None:
    """No higher rung is asked after that."""
    steps = [attempt("student", Verdict.ACCEPTED)]
    assert next_step(allowed("student", "local"), steps) == Accept()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (allowed(), "policy allows no rung of this ladder for personal text"),
        (allowed("student"), "no rung was sure enough"),
        (
            allowed("student", refused=("cloud",)),
            "not sure enough, and policy keeps this text from the other rungs",
        ),
    ],
)
def test_with_no_rung_left_it_abstains_and_says_why(given: AllowedSet, reason: str) -> None:
    """Never a guess."""
    tried = [attempt(rung, Verdict.UNSURE) for rung in given.rungs]
    assert next_step(given, tried) == Abstain(reason)


@pytest.mark.parametrize(
    ("given", "verdicts", "reason"),
    [
        (allowed("a"), ["failed"], "no rung answered: a failed"),
        (allowed("a", "b"), ["unsure", "timeout"], "no rung answered: b timeout"),
        (allowed("a", "b"), ["cold", "unsure"], "no rung answered: a cold"),
        (allowed("a", "b"), ["overloaded", "failed"], "no rung answered: a overloaded, b failed"),
        (
            allowed("a", refused=("c",)),
            ["failed"],
            "no rung answered: a failed, and policy keeps this text from the other rungs",
        ),
        (allowed("a", "b"), ["truncated", "invalid"], "no rung was sure enough"),
    ],
)
def test_a_rung_that_failed_is_named_where_no_other_answered(
    given: AllowedSet, verdicts: list[str], reason: str
) -> None:
    """An engine that is down is not called unsure."""
    tried = [
        attempt(rung, Verdict(verdict)) for rung, verdict in zip(given.rungs, verdicts, strict=True)
    ]
    assert next_step(given, tried) == Abstain(reason)


# --- the climb --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose student is trained and certified at 10 %."""
    config = write_project(tmp_path_factory.mktemp("certified"))
    train(config)
    calibrate(config, write_suite(config.parent / "cal.jsonl", examples(300, seed=2)))
    return config


def test_a_sure_student_answers_under_its_certificate(certified: Path) -> None:
    """The receipt names the certificate, the bound, and both numbers that were compared."""
    answer = ask(certified, "the courier has my parcel")
    (only,) = answer.receipt.attempts
    assert answer.value == "delivery"
    assert answer.receipt.standing is Standing.CERTIFIED
    assert answer.receipt.bound is not None
    assert (answer.receipt.bound.max_error, answer.receipt.bound.truth) == (0.1, "human")
    assert only.confidence is not None
    assert only.threshold is not None
    assert only.confidence > only.threshold


def test_a_label_without_certifying_rows_is_not_certified(certified: Path) -> None:
    """Rows labelled secret were not calibrated on, so nothing is promised for them."""
    answer = ask(certified, "the courier has my parcel", label=Privacy.SECRET)
    assert not answer.answered
    assert "no calibration rows are labelled secret" in answer.receipt.attempts[0].reason


def test_retraining_voids_the_certificate_and_the_receipt_names_the_model(tmp_path: Path) -> None:
    """A certificate of another model is refused, visibly."""
    config = write_project(tmp_path)
    train(config)
    calibrate(config, write_suite(tmp_path / "cal.jsonl", examples(300, seed=2)))
    train(config, rows=130)
    answer = ask(config, "the courier has my parcel")
    assert path(answer) == [("student", "unsure")]
    assert "is void: student." in answer.receipt.attempts[0].reason


def test_an_unsure_student_climbs_to_the_next_rung(tmp_path: Path) -> None:
    """Without a certificate the student accepts nothing, and a contract rung answers, marked uncertified."""
    with Upstream(answer=lambda call: "login") as upstream:
        config = write_project(
            tmp_path, STUDENT + openai_rung("local", upstream.url), ("student", "local")
        )
        train(config)
        answer = ask(config)
    assert path(answer) == [("student", "unsure"), ("local", "accepted")]
    assert answer.value == "login"
    assert answer.receipt.standing is Standing.UNCERTIFIED


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault(Mode.STATUS, status=429, headers=(("Retry-After", "600"),)), "overloaded"),
        (Fault(Mode.HTML), "failed"),
        (Fault(Mode.REFUSAL), "refused"),
        (Fault(Mode.CUT), "truncated"),
        (Fault(Mode.DROP), "truncated"),
        (Fault(Mode.NEVER), "timeout"),
    ],
)
def test_each_failure_has_its_own_verdict_and_the_next_rung_answers(
    tmp_path: Path, fault: Fault, verdict: str
) -> None:
    """An engine that fails costs its own attempt and nothing else."""
    with (
        Upstream(answer=lambda call: "login", always=fault) as broken,
        Upstream(answer=lambda call: "refund") as sound,
    ):
        quick = "[rungs.one.timeouts]\nfirst_token = 0.5\n[rungs.one.limits]\nretries = 0"
        rungs = openai_rung("one", broken.url, more=quick) + openai_rung("two", sound.url)
        answer = ask(write_project(tmp_path, rungs, ("one", "two")))
    assert path(answer) == [("one", verdict), ("two", "accepted")]
    assert answer.value == "refund"


def test_an_answer_outside_the_labels_is_invalid(tmp_path: Path) -> None:
    """A made-up label is no answer, however sure the model is of it."""
    with Upstream(answer=lambda call: "banana", json_schema=False) as upstream:
        answer = ask(write_project(tmp_path, openai_rung("local", upstream.url), ("local",)))
    assert path(answer) == [("local", "invalid")]
    assert answer.value is None


def test_personal_text_never_reaches_a_rung_beyond_the_device(tmp_path: Path) -> None:
    """The forbidden rung gets no call at all, and the receipt says why."""
    with Upstream(answer=lambda call: "login") as upstream:
        rungs = STUDENT + openai_rung("cloud", upstream.url, where="anywhere")
        config = write_project(tmp_path, rungs, ("student", "cloud"))
        train(config)
        answer = ask(config)
        assert upstream.chats == []
    assert path(answer) == [("student", "unsure"), ("cloud", "forbidden")]
    assert answer.receipt.rule == "policy.egress.personal"


def test_what_leaves_is_in_the_ledger_and_the_text_is_not(tmp_path: Path) -> None:
    """Each departure is recorded with its label, rule and host; the text is only digested."""
    with Upstream(answer=lambda call: "login") as upstream:
        rungs = openai_rung("cloud", upstream.url, where="anywhere")
        config = write_project(tmp_path, rungs, ("cloud",), privacy="public")
        ask(config, "a very recognisable canary")
    database = b"".join(p.read_bytes() for p in tmp_path.glob("rung*.db*"))
    with sqlite3.connect(tmp_path / "rung.db") as connection:
        kinds = [
            kind for (kind,) in connection.execute("SELECT kind FROM ledger_record ORDER BY seq")
        ]
        (body,) = connection.execute(
            "SELECT body FROM ledger_record WHERE kind = 'egress'"
        ).fetchone()
    assert kinds == ["open", "egress", "receipt", "seal"]
    assert b'"policy.egress.public"' in body
    assert b"canary" not in database


def test_nothing_leaves_when_its_departure_cannot_be_recorded(tmp_path: Path) -> None:
    """A ledger that cannot be written stops the call before the first byte."""
    with Upstream(answer=lambda call: "login") as upstream:
        rungs = openai_rung("cloud", upstream.url, where="anywhere")
        config = write_project(tmp_path, rungs, ("cloud",), privacy="public")

        async def climb() -> None:
            async with await Ladder.open(config) as ladder:
                with sqlite3.connect(tmp_path / "rung.db") as other:
                    other.execute("DROP TABLE ledger_record")
                await ladder.run(Request("triage", "hello"))

        with pytest.raises(StorageError):
            run_blocking(climb())
        assert upstream.chats == []


def test_a_ladder_opens_by_a_plain_string(certified: Path) -> None:
    """As the README writes it."""

    async def climb() -> Answer:
        async with await Ladder.open(str(certified)) as ladder:
            return await ladder.run(Request("triage", "the courier has my parcel"))

    assert run_blocking(climb()).value == "delivery"


def test_an_unknown_task_is_a_sentence(certified: Path) -> None:
    """The nearest name is offered."""

    async def climb() -> None:
        async with await Ladder.open(certified) as ladder:
            await ladder.run(Request("triag", "hello"))

    with pytest.raises(ConfigError, match="triage"):
        run_blocking(climb())


def test_many_requests_come_back_in_their_order(certified: Path) -> None:
    """Whatever the path of each, answers stand where their requests stood."""
    rows = examples(700, seed=9)

    async def climb() -> list[Answer]:
        async with await Ladder.open(certified) as ladder:
            return await ladder.run_many([Request("triage", text, id=text) for text, _ in rows])

    answers = run_blocking(climb())
    assert [answer.receipt.request_id for answer in answers] == [text for text, _ in rows]


def test_a_text_alone_and_in_a_crowd_gets_the_same_confidence(certified: Path) -> None:
    """A decision does not depend on which rows happened to stand beside it."""
    rows = examples(600, seed=10)

    async def climb() -> tuple[list[Answer], Answer]:
        async with await Ladder.open(certified) as ladder:
            crowd = await ladder.run_many([Request("triage", text) for text, _ in rows])
            return crowd, await ladder.run(Request("triage", rows[300][0]))

    crowd, alone = run_blocking(climb())
    assert crowd[300].receipt.attempts[0].confidence == alone.receipt.attempts[0].confidence
