"""`rung calibrate`: certificates from labelled rows, with every way they can be refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from projects import LABELS, STUDENT, examples, openai_rung, train, write_project, write_suite
from rung.blocking import run_blocking
from rung.calibration.measuring import Measured, measure
from rung.calibration.run import HUMAN, Plan
from rung.cli import root as command_line
from rung.errors import EngineUnavailable, EvidenceError, GateError, SuiteError, UserError
from rung.ladder import Ladder
from rung.receipt import Answer
from rung.suite import load_suite
from rung.task import Privacy, Request
from rung.text import text_digest
from rung.trust.certificate import Certificate, read_attempts, read_certificate
from upstream import Call, Token, Upstream


def calibrate(config: Path, suite: Path | None, *more: str) -> Result:
    """Run the command; deliberate errors are left on the result."""
    on = ["--on", str(suite)] if suite else []
    return CliRunner().invoke(
        command_line, ["calibrate", "triage", *on, "--config", str(config), *more]
    )


def certificate(config: Path, target: float = 0.1) -> Certificate:
    """The certificate that was written."""
    found = read_certificate(config.parent / "certificates", "triage", target)
    assert found is not None
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a trained student."""
    config = write_project(tmp_path)
    train(config)
    return config


def test_it_certifies_and_says_on_what(project: Path) -> None:
    """The certificate holds counts, exact bounds, the attempt, the truth and the sampling."""
    suite = write_suite(project.parent / "cal.jsonl", examples(300, seed=2), sampling="traffic")
    done = calibrate(project, suite)
    assert done.exit_code == 0, done.output
    found = certificate(project)
    (personal, secret) = found.sets
    assert (found.attempt, found.truth, found.sampling, found.rows) == (1, "human", "stated", 300)
    assert personal.certified
    assert personal.upper is not None
    assert personal.errors / personal.accepted <= personal.upper <= 0.1
    assert personal.coverage_low <= personal.coverage <= personal.coverage_high
    assert personal.delta == pytest.approx(6 * 0.05 / math.pi**2)
    assert (secret.certified, secret.reason) == (False, "no calibration rows are labelled secret")


def test_rows_that_do_not_say_how_they_were_chosen_are_assumed_to_be_traffic(project: Path) -> None:
    """The assumption is recorded, and printed."""
    done = calibrate(project, write_suite(project.parent / "cal.jsonl", examples(300, seed=2)))
    assert certificate(project).sampling == "assumed"
    assert "taken as drawn from traffic" in done.output


def test_the_same_rows_again_are_the_same_attempt(project: Path) -> None:
    """Repeating spends nothing and gives the same certificate; more rows are attempt two."""
    suite = write_suite(project.parent / "cal.jsonl", examples(300, seed=2))
    calibrate(project, suite)
    first = certificate(project)
    calibrate(project, suite)
    assert certificate(project) == first
    calibrate(project, write_suite(project.parent / "more.jsonl", examples(350, seed=3)))
    assert certificate(project).attempt == 2
    assert certificate(project).sets[0].delta == pytest.approx(6 * 0.05 / math.pi**2 / 4)


def test_each_target_is_a_certificate_of_its_own(project: Path) -> None:
    """Two targets in one run are two files, each the first attempt at its own claim."""
    suite = write_suite(project.parent / "cal.jsonl", examples(300, seed=2))
    assert calibrate(project, suite, "--target", "10%", "--target", "20%").exit_code == 0
    assert [certificate(project, t).attempt for t in (0.1, 0.2)] == [1, 1]


def test_five_rows_are_not_enough_and_it_says_how_many_more(project: Path) -> None:
    """No certificate is better than a false one; exit code 4 means more labels would do."""
    suite = write_suite(project.parent / "cal.jsonl", examples(5, seed=2))
    done = calibrate(project, suite)
    assert isinstance(done.exception, EvidenceError)
    assert "on 5 labelled rows: they are too few" in str(done.exception)
    assert not certificate(project).sets[0].certified


def test_a_few_more_rows_are_asked_for_when_they_would_do(project: Path) -> None:
    """Forty rows without a mistake cannot certify 5 %; the number that probably would is told."""
    suite = write_suite(project.parent / "cal.jsonl", examples(40, seed=2))
    done = calibrate(project, suite, "--target", "5%")
    assert isinstance(done.exception, EvidenceError)
    assert "more labelled examples at this error rate" in str(done.exception)


def test_an_error_rate_above_the_target_is_no_question_of_numbers(project: Path) -> None:
    """With labels at random no number of rows would certify anything."""
    noisy = [(t, LABELS[n % 3]) for n, (t, _) in enumerate(examples(400, seed=2))]
    done = calibrate(project, write_suite(project.parent / "cal.jsonl", noisy))
    assert isinstance(done.exception, GateError)
    assert "no number of labelled rows would do" in str(done.exception)


def test_a_failed_attempt_is_counted(project: Path) -> None:
    """Trying until it passes is paid for."""
    calibrate(project, write_suite(project.parent / "few.jsonl", examples(5, seed=2)))
    calibrate(project, write_suite(project.parent / "cal.jsonl", examples(300, seed=3)))
    tries = read_attempts(project.parent / "certificates", "triage").tries
    assert [(entry.attempt, entry.certified) for entry in tries] == [(1, False), (2, True)]


def test_rows_the_student_was_trained_on_are_refused(project: Path) -> None:
    """They would certify its memory; the rows are named."""
    rows = [*examples(50, seed=2), *examples(3, seed=1)]
    done = calibrate(project, write_suite(project.parent / "cal.jsonl", rows))
    assert isinstance(done.exception, SuiteError)
    assert "3 calibration rows are in the training set of rung 'student': row 51, 52, 53" in str(
        done.exception
    )


def test_curated_rows_are_refused(project: Path) -> None:
    """Hand-picked rows say nothing about traffic."""
    rows = write_suite(project.parent / "cal.jsonl", examples(50, seed=2), sampling="curated")
    assert isinstance(calibrate(project, rows).exception, SuiteError)


def test_each_privacy_label_is_certified_on_its_own_rows(tmp_path: Path) -> None:
    """Two labels in one suite are two statements that share the chance of error."""
    config = write_project(tmp_path, privacy="internal")
    train(config)
    lines = (
        write_suite(tmp_path / "a.jsonl", examples(300, seed=2), privacy="internal").read_text()
        + write_suite(tmp_path / "b.jsonl", examples(300, seed=3), privacy="secret").read_text()
    )
    suite = tmp_path / "cal.jsonl"
    suite.write_text(lines.replace('"id": "r', '"id": "', 300))
    done = calibrate(config, suite)
    assert done.exit_code == 0, done.output
    sets = {labels: s for s in certificate(config).sets for labels in s.labels}
    assert [sets[p].certified for p in (Privacy.INTERNAL, Privacy.SECRET)] == [True, True]
    assert sets[Privacy.SECRET].delta == pytest.approx(6 * 0.05 / math.pi**2 / 2)
    assert not sets[Privacy.PERSONAL].certified


def hesitant(call: Call) -> str | list[Token]:
    """The right label, surer on some texts than on others."""
    from projects import WORDS

    label = max(LABELS, key=lambda name: sum(word in call.text for word in WORDS[name]))
    doubt = 0.02 + 0.3 * (len(call.text) % 7) / 7
    head = '{"label":"' if call.enum else ""
    tail = '"}' if call.enum else ""
    other = next(name for name in LABELS if name != label)
    token = Token(
        label, math.log(1 - doubt), ((label, math.log(1 - doubt)), (other, math.log(doubt)))
    )
    return [*([Token(head)] if head else []), token, *([Token(tail)] if tail else [])]


def test_two_rungs_are_certified_together(tmp_path: Path) -> None:
    """The bound is on all accepted answers, and each rung's own part stands beside it."""
    with Upstream(answer=hesitant) as upstream:
        rungs = STUDENT + openai_rung("local", upstream.url, accept="certified")
        config = write_project(tmp_path, rungs, ("student", "local"))
        train(config, rows=60)
        done = calibrate(config, write_suite(tmp_path / "cal.jsonl", examples(250, seed=2)))
    assert done.exit_code == 0, done.output
    statement = certificate(config).sets[0]
    assert statement.rungs == ("student", "local")
    assert [rule.rung for rule in statement.rules] == ["student", "local"]
    assert statement.accepted == sum(rule.accepted for rule in statement.rules)
    assert {"student.model", "local.model", "local.evidence"} <= set(statement.fingerprint)


def test_agreement_with_the_rung_above_can_stand_for_truth(tmp_path: Path) -> None:
    """What truth means is in the certificate."""
    with Upstream(answer=hesitant) as upstream:
        rungs = STUDENT + openai_rung("local", upstream.url)
        config = write_project(tmp_path, rungs, ("student", "local"))
        train(config)
        suite = write_suite(tmp_path / "cal.jsonl", examples(250, seed=2))
        done = calibrate(config, suite, "--truth", "agreement:local")
    assert done.exit_code == 0, done.output
    assert certificate(config).truth == "agreement:local"


def test_unlabelled_traffic_fits_a_calibrator_on_agreement_with_the_rung_above(
    tmp_path: Path,
) -> None:
    """No label is spent on a calibrator when a better rung can judge unlabelled rows."""

    def weak(call: Call) -> str | list[Token]:
        wrong = len(call.text) % 7 > 4
        tokens = hesitant(call)
        if not wrong or isinstance(tokens, str):
            return tokens
        return [
            Token("login", t.logprob, (("login", t.logprob), ("refund", math.log(0.2))))
            if t.text in LABELS
            else t
            for t in tokens
        ]

    with Upstream(answer=weak) as below, Upstream(answer=hesitant) as above:
        rungs = openai_rung("small", below.url, accept="certified") + openai_rung("big", above.url)
        config = write_project(tmp_path, rungs, ("small", "big"))
        traffic = write_suite(tmp_path / "traffic.jsonl", examples(200, seed=5))
        suite = write_suite(tmp_path / "cal.jsonl", examples(250, seed=2))
        calibrate(config, suite, "--unlabelled", str(traffic))
    calibrator = json.loads((tmp_path / "certificates/triage/small.calibrator.json").read_bytes())
    assert calibrator["source"] == "agreement:big"
    assert certificate(config).sets[0].fingerprint["small.calibrator"] != "none"


def often_wrong(call: Call) -> str | list[Token]:
    """Wrong on a third of the texts, and as sure of those as of the others."""
    tokens = hesitant(call)
    if len(call.text) % 3 or isinstance(tokens, str):
        return tokens
    right = next(token.text for token in tokens if token.text in LABELS)
    other = LABELS[LABELS.index(right) - 1]
    return [
        Token(other, t.logprob, ((other, t.logprob), (right, math.log(0.1))))
        if t.text == right
        else t
        for t in tokens
    ]


def test_labelled_rows_of_their_own_fit_calibrators_that_hear_the_rung_below(
    tmp_path: Path,
) -> None:
    """What a rung cannot tell of itself, the student's word for or against it tells."""
    with Upstream(answer=often_wrong) as upstream:
        rungs = STUDENT + openai_rung("local", upstream.url, accept="certified")
        config = write_project(tmp_path, rungs, ("student", "local"))
        train(config, rows=60)
        fit = write_suite(tmp_path / "fit.jsonl", examples(200, seed=5))
        done = calibrate(
            config, write_suite(tmp_path / "cal.jsonl", examples(250, seed=2)), "--fit", str(fit)
        )
        assert done.exit_code == 0, done.output
        asked = len(upstream.chats)
        again = calibrate(config, fit, "--fit", str(fit))
    path = tmp_path / "certificates" / "triage" / "local.calibrator.json"
    calibrator = json.loads(path.read_bytes())
    assert calibrator["source"] == "held-out"
    assert calibrator["weights"][calibrator["columns"].index("support")] > 0
    assert asked == 450  # each row once: weighing it anew asks no engine
    assert certificate(config).sets[0].rungs == ("student", "local")
    assert isinstance(again.exception, SuiteError)
    assert "among the rows that fit a calibrator" in str(again.exception)


def test_the_ladder_is_as_sure_as_the_calibration_was(tmp_path: Path) -> None:
    """What a certificate is about is what answers: the same row gets the same confidence on every rung it climbs."""
    with Upstream(answer=often_wrong) as upstream:
        rungs = STUDENT + openai_rung("local", upstream.url, accept="certified")
        config = write_project(tmp_path, rungs, ("student", "local"))
        train(config, rows=24)
        suite = write_suite(tmp_path / "cal.jsonl", examples(250, seed=2))
        fit = write_suite(tmp_path / "fit.jsonl", examples(200, seed=5))
        calibrate(config, suite, "--fit", str(fit))

        async def both() -> tuple[Measured, list[Answer]]:
            # nothing is certified at this target, so every row climbs to the top
            async with await Ladder.open(config, target=0.01) as ladder:
                task = ladder.project.task("triage")
                rows = load_suite(suite, task, for_="calibration")
                plan = Plan(
                    task=task, suite=rows, truth=HUMAN, unlabelled=(), progress=lambda *_: None
                )
                (measured,) = await measure(ladder, plan)
                requests = [Request("triage", row.input) for row in rows.examples]
                return measured, await ladder.run_many(requests)

        measured, answers = run_blocking(both())
    for answer, scores in zip(answers, measured.scores, strict=True):
        assert [a.confidence for a in answer.receipt.attempts] == pytest.approx(scores.tolist())


def test_a_failed_fit_leaves_what_is_certified_alone(tmp_path: Path) -> None:
    """A calibrator is written with a certificate that needs it, not before."""
    with Upstream(answer=often_wrong) as upstream:
        rungs = STUDENT + openai_rung("local", upstream.url, accept="certified")
        config = write_project(tmp_path, rungs, ("student", "local"))
        train(config, rows=60)
        suite = write_suite(tmp_path / "cal.jsonl", examples(250, seed=2))
        calibrate(config, suite)
        before = certificate(config)
        few = write_suite(tmp_path / "few.jsonl", examples(3, seed=5))
        done = calibrate(config, suite, "--fit", str(few))
    assert isinstance(done.exception, EvidenceError)
    assert certificate(config) == before
    assert not (tmp_path / "certificates" / "triage" / "local.calibrator.json").exists()


def test_a_label_without_the_rung_below_is_certified_too(tmp_path: Path) -> None:
    """A calibrator leans on a rung below only where every label has one."""
    egress = '[policy.egress]\npublic = ["site"]\npersonal = ["device", "site"]'
    with Upstream(answer=often_wrong) as upstream:
        lower = STUDENT
        upper = openai_rung("local", upstream.url, accept="certified", where="site")
        config = write_project(
            tmp_path, lower + upper, ("student", "local"), settings=egress, privacy="public"
        )
        train(config, rows=60)
        fit = write_suite(tmp_path / "fit.jsonl", examples(200, seed=5))
        calibrate(
            config, write_suite(tmp_path / "cal.jsonl", examples(250, seed=2)), "--fit", str(fit)
        )
    path = tmp_path / "certificates" / "triage" / "local.calibrator.json"
    assert "support" not in json.loads(path.read_bytes())["columns"]
    assert certificate(config).sets[0].rungs == ("local",)


def test_rows_a_model_was_trained_on_fit_no_calibrator(tmp_path: Path) -> None:
    """It knows their answers by heart."""
    with Upstream(answer=often_wrong) as upstream:
        rungs = STUDENT + openai_rung("local", upstream.url, accept="certified")
        config = write_project(tmp_path, rungs, ("student", "local"))
        train(config)
        learnt = write_suite(tmp_path / "learnt.jsonl", examples(20, seed=1))
        suite = write_suite(tmp_path / "cal.jsonl", examples(40, seed=2))
        done = calibrate(config, suite, "--fit", str(learnt))
        assert upstream.chats == []
    assert isinstance(done.exception, SuiteError)
    assert "in the training set of rung 'student'" in str(done.exception)


def test_rows_to_fit_with_nothing_to_fit_are_refused(project: Path) -> None:
    """A trained student has its calibrator; labels are not taken for nothing."""
    fit = write_suite(project.parent / "fit.jsonl", examples(20, seed=5))
    suite = write_suite(project.parent / "cal.jsonl", examples(40, seed=2))
    done = calibrate(project, suite, "--fit", str(fit))
    assert isinstance(done.exception, UserError)
    assert "no rung needs a calibrator" in str(done.exception)


def test_an_engine_that_fails_on_rows_stops_the_calibration(tmp_path: Path) -> None:
    """Leaving its failures out would flatter it."""
    rungs = openai_rung(
        "local",
        "http://127.0.0.1:9/v1",
        accept="certified",
        more="[rungs.local.limits]\nretries = 0",
    )
    config = write_project(tmp_path, rungs, ("local",))
    done = calibrate(config, write_suite(tmp_path / "cal.jsonl", examples(20, seed=2)))
    assert isinstance(done.exception, EngineUnavailable)
    assert "failed on 20 of 20 rows" in str(done.exception)


def test_a_failed_attempt_does_not_unsay_a_certificate_that_holds(project: Path) -> None:
    """Five unlucky rows cost an attempt, not the certificate; of another model they replace it."""
    folder = project.parent
    calibrate(project, write_suite(folder / "cal.jsonl", examples(300, seed=2)))
    before = certificate(project)
    done = calibrate(project, write_suite(folder / "few.jsonl", examples(5, seed=3)))
    assert "still holds and was kept" in done.output
    assert certificate(project) == before
    assert len(read_attempts(folder / "certificates", "triage").tries) == 2
    train(project, rows=140)
    calibrate(project, folder / "few.jsonl")
    assert not certificate(project).sets[0].certified


def test_other_thresholds_on_the_same_labels_are_another_attempt(project: Path) -> None:
    """Shopping for a grid is paid for like more labels."""
    suite = write_suite(project.parent / "cal.jsonl", examples(300, seed=2))
    traffic = write_suite(project.parent / "traffic.jsonl", examples(250, seed=7))
    calibrate(project, suite)
    calibrate(project, suite, "--unlabelled", str(traffic))
    assert certificate(project).attempt == 2


def test_rows_that_fit_a_calibrator_cannot_certify(tmp_path: Path) -> None:
    """Neither in the same run nor in a later one."""
    with Upstream(answer=hesitant) as below, Upstream(answer=hesitant) as above:
        rungs = openai_rung("small", below.url, accept="certified") + openai_rung("big", above.url)
        config = write_project(tmp_path, rungs, ("small", "big"))
        suite = write_suite(tmp_path / "cal.jsonl", examples(60, seed=2))
        same = calibrate(config, suite, "--unlabelled", str(suite))
        certificates = tmp_path / "certificates" / "triage"
        assert isinstance(same.exception, SuiteError)
        assert "among the unlabelled rows that fit a calibrator" in str(same.exception)
        rows = {"format": 1, "digests": [text_digest(text) for text, _ in examples(60, seed=2)]}
        certificates.mkdir(parents=True, exist_ok=True)
        (certificates / "small.calibrator.rows.json").write_text(json.dumps(rows))
        later = calibrate(config, suite)
    assert isinstance(later.exception, SuiteError)
    assert "among the rows that fitted the calibrator of rung 'small'" in str(later.exception)


def test_unlabelled_rows_keep_their_own_privacy(tmp_path: Path) -> None:
    """Secret traffic in the file does not travel with the public rows that are calibrated."""
    with Upstream(answer=hesitant) as upstream:
        rungs = openai_rung("cloud", upstream.url, where="anywhere", accept="certified")
        config = write_project(tmp_path, rungs, ("cloud",), privacy="public")
        suite = write_suite(tmp_path / "cal.jsonl", examples(40, seed=2))
        traffic = write_suite(
            tmp_path / "traffic.jsonl", [("top secret words", "login")], privacy="secret"
        )
        calibrate(config, suite, "--unlabelled", str(traffic))
        assert len(upstream.chats) == 40
        assert not any("top secret" in call.text for call in upstream.chats)


def test_a_truth_that_is_none_is_refused_with_what_is(project: Path) -> None:
    """A misspelt rung is not taken for one that policy forbids."""
    suite = write_suite(project.parent / "cal.jsonl", examples(30, seed=2))
    done = calibrate(project, suite, "--truth", "agreement:studnet")
    assert isinstance(done.exception, UserError)
    assert "is not one of human, agreement:student" in str(done.exception)


def test_money_is_asked_for_before_it_is_spent(tmp_path: Path) -> None:
    """Saying no calls nothing."""
    with Upstream(answer=hesitant) as upstream:
        price = '[rungs.local.price]\ninput_per_million = "5"\noutput_per_million = "9"'
        rungs = openai_rung("local", upstream.url, accept="certified", more=price)
        config = write_project(tmp_path, rungs, ("local",))
        suite = write_suite(tmp_path / "cal.jsonl", examples(20, seed=2))
        done = CliRunner().invoke(
            command_line,
            ["calibrate", "triage", "--on", str(suite), "--config", str(config)],
            input="n\n",
        )
        assert upstream.chats == []
    assert "go on?" in done.output
    assert done.exit_code == 1


def test_a_plan_needs_no_rows(project: Path) -> None:
    """It says how many would probably do, and how many can never."""
    done = calibrate(project, None, "--plan", "--target", "2%", "--coverage", "80%")
    assert done.exit_code == 0
    assert "labelled rows (4 times in 5 that is enough)" in done.output
    assert "never fewer than 303" in done.output
