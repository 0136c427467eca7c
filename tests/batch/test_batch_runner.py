"""A run from its first row to its summary: order, certificates, what stops it, what takes it up again."""

from __future__ import annotations

import json
import os
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from batch_runs import Heard, ids, recorded_rows, results_kept, rows, run, start, write_rows
from click.testing import CliRunner

from projects import examples, openai_rung, train, write_project, write_suite
from rung.batch.output import read_output
from rung.batch.window import MOST_ROWS
from rung.cli import root as command_line
from rung.config import LedgerSettings
from rung.errors import ConfigError, InputError, StorageError
from rung.receipt import Standing, Verdict
from rung.review import ReviewStore, Status
from upstream import Call, Fault, Mode, Upstream


def local(root: Path, upstream: Upstream, *, more: str = "") -> Path:
    """A project whose one rung is the upstream."""
    return write_project(root, openai_rung("local", upstream.url, more=more), ("local",))


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose student is certified at 10 %."""
    config = write_project(
        tmp_path_factory.mktemp("certified"),
        settings='[frontier]\ninput_per_million = "2.50"\noutput_per_million = "10.00"\n'
        'currency = "USD"\ndate = "2026-11-01"\n',
    )
    train(config)
    suite = write_suite(config.parent / "cal.jsonl", examples(300, seed=2))
    arguments = ["calibrate", "triage", "--on", str(suite), "--config", str(config), "--yes"]
    assert CliRunner().invoke(command_line, arguments).exit_code == 0
    return config


# --- what comes out ---------------------------------------------------------------------------


def test_records_are_summed_up_in_figures_of_their_own(tmp_path: Path) -> None:
    """How many parsed, how many kept their schema, how many were cut: each with its exact interval."""
    task = """format = 1
kind = "extract"
privacy = "personal"
[schema]
type = "object"
required = ["people"]
properties.people.type = "integer"
"""
    said = {"good": '{"people":4}', "broken": '{"people":"four"}', "prose": "four people"}
    source = write_rows(tmp_path / "in.jsonl", [f"{name} {n}" for n in range(2) for name in said])

    def reply(call: Call) -> str:
        first = next(turn["content"] for turn in call.body["messages"] if turn["role"] == "user")
        return said[first.split()[0]]

    with Upstream(answer=reply) as upstream:
        rung = openai_rung("local", upstream.url)
        config = write_project(tmp_path, rung, ("local",), task=task)
        found = run(config, source).structured
    assert found is not None
    assert (found.n, found.repaired, found.executable) == (6, 4, None)
    assert (found.parsed.count, found.schema_valid.count, found.truncated.count) == (4, 2, 0)
    assert found.parsed.n == found.schema_valid.n == found.truncated.n == 6
    assert found.schema_valid.low < found.schema_valid.share == 2 / 6 < found.schema_valid.high
    assert msgspec.json.decode(msgspec.json.encode(found))["truncated"]["low"] == 0.0


def test_rows_come_out_in_order_under_the_certificate(certified: Path, tmp_path: Path) -> None:
    """More rows than the window holds, each once, in input order, with the bound and the saving summed up."""
    count = MOST_ROWS + 3000
    source = write_rows(
        tmp_path / "in.jsonl",
        (f"{text} {n}" for n in range(10) for text, _ in examples(count // 10, seed=5)),
    )
    output = tmp_path / "out.jsonl"
    heard = Heard()
    summary = run(certified, source, output=output, progress=heard)
    found = list(read_output(output))
    total = count // 10 * 10
    assert ids(found) == [f"q{n}" for n in range(1, total + 1)]
    (part,), (student,) = summary.certified, summary.rungs
    sure = [row for row in found if row.standing is Standing.CERTIFIED]
    assert (part.rows, part.max_error, part.confidence, part.labels) == (len(sure), 0.1, 0.95, 300)
    assert summary.answered + summary.abstained == summary.rows == total
    assert summary.answered_on_device == student.answered == len(sure) > total / 2
    assert student.p95_ms is not None
    assert summary.top_cost is not None
    assert summary.open_cost is not None
    assert (summary.open_cost > 0) == (summary.abstained > 0)
    assert summary.saving == summary.top_cost - summary.open_cost > 0
    assert (summary.exit_code, summary.finished, summary.uncertified) == (0, True, {})
    assert heard.shares == sorted(heard.shares)
    assert heard.shares[-1] == 1.0
    assert not (tmp_path / "out.rejects.jsonl").exists()


def test_an_unsure_row_is_abstained_with_its_reason(tmp_path: Path) -> None:
    """Without a certificate nothing is answered, every row says why, and so does the summary."""
    config = write_project(tmp_path)
    train(config)
    summary = run(config, write_rows(tmp_path / "in.jsonl", ["my parcel", "my password"]))
    assert (summary.answered, summary.abstained, summary.exit_code) == (0, 2, 0)
    assert summary.uncertified == {"no certificate at this target": 2}
    for row in rows(config):
        assert (row.answer, row.rung, row.standing) == (None, None, Standing.ABSTAINED)
        assert (row.verdict, row.reason) == (
            Verdict.UNSURE,
            "no rung was sure enough: no certificate at this target",
        )


def test_a_row_may_raise_its_privacy_label(tmp_path: Path) -> None:
    """A row that policy keeps from every rung is abstained as forbidden; the others are answered."""
    with Upstream(answer=lambda call: "login") as upstream:
        rung = openai_rung("cloud", upstream.url, where="anywhere")
        config = write_project(tmp_path, rung, ("cloud",), privacy="public")
        source = tmp_path / "in.csv"
        source.write_text("id,text,privacy\na,hello,\nb,my secret,secret\nc,hello too,public\n")
        summary = run(config, source)
        assert [call.text for call in upstream.chats] == ["hello", "hello too"]
    assert [row.verdict for row in rows(config)] == ["accepted", "forbidden", "accepted"]
    assert (summary.answered, summary.abstained, summary.answered_on_device) == (2, 1, 0)


def test_an_engine_that_is_down_is_told_once_and_costs_no_row(tmp_path: Path) -> None:
    """Every row is for review with the reason; one warning; the exit code says that the run had errors."""
    quick = "[rungs.local.limits]\nretries = 0"
    config = write_project(
        tmp_path, openai_rung("local", "http://127.0.0.1:9/v1", more=quick), ("local",)
    )
    heard = Heard()
    summary = run(config, write_rows(tmp_path / "in.jsonl", ["hello"] * 50), progress=heard)
    assert (summary.abstained, summary.failed, summary.exit_code) == (50, 50, 3)
    assert summary.rungs[0].down
    (warning,) = heard.warnings
    assert warning.startswith("every call to rung 'local' has failed so far: ")
    assert all("127.0.0.1:9" in row.reason for row in rows(config))


def test_a_column_nobody_reads_is_named(tmp_path: Path) -> None:
    """A misspelt column is not dropped in silence."""
    with Upstream(answer=lambda call: "login") as upstream:
        config, heard = local(tmp_path, upstream), Heard()
        run(config, write_rows(tmp_path / "in.jsonl", ["hello"], privcy="secret"), progress=heard)
    assert heard.warnings == ["column 'privcy' is not used; did you mean 'privacy'?"]


# --- stopping and going on --------------------------------------------------------------------


def test_a_stopped_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    """Stopping finishes what is in flight; the next run goes on, and the summary covers both."""
    stop = threading.Event()
    seen: list[str] = []

    def answer(call: Call) -> str:
        seen.append(call.text)
        if len(seen) == 40:
            stop.set()
        return "refund"

    with Upstream(answer=answer) as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", (f"text {n}" for n in range(120)))
        first = run(config, source, stop=stop)
        heard = Heard()
        second = run(config, source, progress=heard)
        asked = upstream.calls_per_text()
    assert not first.finished
    assert 40 <= first.rows <= 60
    assert heard.begun == [first.last_row]
    assert (second.rows, second.answered, second.finished) == (120, 120, True)
    assert second.rungs[0].attempts == 120
    assert set(asked.values()) == {1}
    assert ids(rows(config)) == [f"q{n}" for n in range(1, 121)]
    assert results_kept(config) == 0


def test_a_run_with_a_full_window_stops(tmp_path: Path) -> None:
    """Reading waits for room behind rows that nobody will answer any more, and gives up."""
    stop = threading.Event()
    seen: list[str] = []

    def answer(call: Call) -> str:
        seen.append(call.text)
        if len(seen) == 60:
            stop.set()
        return "refund"

    with Upstream(answer=answer, always=Fault(first_s=0.2)) as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", (f"text {n}" for n in range(MOST_ROWS + 5000)))
        summary = run(config, source, stop=stop)
    assert not summary.finished
    assert 60 <= summary.rows <= 80


def test_what_is_recorded_but_not_written_is_not_asked_again(tmp_path: Path) -> None:
    """A run that ends with answers behind an unanswered row keeps them in its database."""
    with Upstream(answer=lambda call: "refund", faults=[Fault(first_s=3600)]) as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", (f"text {n}" for n in range(60)))
        process = start(config, source)
        while len(upstream.chats) < 60 or len(recorded_rows(config)[1]) < 59:
            assert process.poll() is None
        process.kill()
        process.communicate()
        assert rows(config) == []
        summary = run(config, source)
        asked = upstream.calls_per_text()
    assert (summary.answered, summary.finished) == (60, True)
    assert asked.pop("text 0") == 2
    assert set(asked.values()) == {1}
    assert ids(rows(config)) == [f"q{n}" for n in range(1, 61)]


def test_a_finished_run_is_left_alone_until_asked_afresh(tmp_path: Path) -> None:
    """The same command again does nothing and says the same; --fresh runs everything anew."""
    with Upstream(answer=lambda call: "refund") as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", ["one", "two"])
        first = run(config, source)
        written = rows(config)
        again = run(config, source)
        assert (again.rows, again.rows_now, again.finished) == (first.rows, 0, True)
        assert rows(config) == written
        assert len(upstream.chats) == 2
        run(config, source, fresh=True)
        assert len(upstream.chats) == 4
    assert [row.receipt for row in rows(config)] != [row.receipt for row in written]
    assert ids(rows(config)) == ["q1", "q2"]


def test_a_replaced_run_leaves_nothing_to_review(tmp_path: Path) -> None:
    """--fresh takes back the open items of the run it replaces, and no others."""
    with Upstream(answer=lambda call: "banana", json_schema=False) as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", ["one", "two", "three"])
        other = run(config, source, output=tmp_path / "other.jsonl")
        first = run(config, source)
        with closing(ReviewStore.open(LedgerSettings(), root=tmp_path)) as store:
            store.mark_done([f"{first.run}:2"])
        second = run(config, source, fresh=True)
    with closing(ReviewStore.open(LedgerSettings(), root=tmp_path)) as store:
        waiting = {item.key for item in store.list()}
        done = [item.key for item in store.list(status=Status.DONE)]
    assert waiting == {f"{run_id}:{row}" for run_id in (other.run, second.run) for row in (1, 2, 3)}
    assert done == [f"{first.run}:2"]


def stopped_run(root: Path, upstream: Upstream) -> tuple[Path, Path]:
    """A project and an input with a run that has been stopped at once."""
    config = local(root, upstream)
    source = write_rows(root / "in.jsonl", ["one", "two", "three"])
    stop = threading.Event()
    stop.set()
    run(config, source, stop=stop)
    return config, source


def test_a_run_goes_on_only_with_what_it_began_with(tmp_path: Path) -> None:
    """A changed input, task, target or rejects file is refused by name, and --fresh is the way out."""
    with Upstream(answer=lambda call: "refund") as upstream:
        config, source = stopped_run(tmp_path, upstream)
        task = config.parent / "tasks" / "triage.toml"
        original = (source.read_text(), task.read_text())
        with pytest.raises(InputError, match=r"its target was 0\.1"):
            run(config, source, target=0.02)
        with pytest.raises(InputError, match=r"its rejects went to .*out\.rejects\.jsonl"):
            run(config, source, rejects=tmp_path / "other.jsonl")
        other = write_rows(tmp_path / "other-in.jsonl", ["one"])
        with pytest.raises(InputError, match=r"its input was .*in\.jsonl"):
            run(config, other)
        task.write_text(original[1].replace("What is", "Say what is"))
        with pytest.raises(InputError, match=r"task 'triage' has changed"):
            run(config, source)
        task.write_text(original[1])
        source.write_text(original[0].replace("two", "owt"))
        with pytest.raises(InputError, match=r"the content of the input has changed") as refused:
            run(config, source)
        assert refused.value.hint is not None
        assert refused.value.hint.startswith("--fresh starts over")
        source.write_text(original[0] + '{"text": "four"}\n')
        with pytest.raises(InputError, match=r"the input had \d+ bytes, now \d+"):
            run(config, source)
        source.write_text(original[0])
        os.utime(source, ns=(1, 1))
        with pytest.raises(InputError, match=r"the input was written to since"):
            run(config, source)
        assert run(config, source, fresh=True).finished


def test_an_output_that_was_changed_is_not_written_on(tmp_path: Path) -> None:
    """Neither a shortened nor a replaced output is gone on with."""
    with Upstream(answer=lambda call: "refund") as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", ["one", "two"])
        run(config, source)
        output = tmp_path / "out.jsonl"
        for content in (b"", output.read_bytes()[:-3] + b"}}\n", b"x" * 5000):
            output.write_bytes(content)
            with pytest.raises(StorageError, match="changed or removed since the run wrote"):
                run(config, source)
            assert output.read_bytes() == content


@pytest.mark.parametrize("name", ["out.jsonl", "out.rejects.jsonl"])
def test_a_file_of_somebody_else_is_never_written_over(tmp_path: Path, name: str) -> None:
    """Not even with --fresh."""
    with Upstream() as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", ["one"])
        (tmp_path / name).write_text("precious\n")
        for fresh in (False, True):
            with pytest.raises(StorageError, match="no run in this ledger wrote it"):
                run(config, source, fresh=fresh)
    assert (tmp_path / name).read_text() == "precious\n"
    assert len(list(tmp_path.glob("out*"))) == 1


def test_input_and_output_cannot_be_one_file(tmp_path: Path) -> None:
    """Nothing is written over its own input."""
    with Upstream() as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", ["one"])
        with pytest.raises(InputError, match="named twice"):
            run(config, source, output=source)
    assert len(source.read_text().splitlines()) == 1


def test_an_input_that_grows_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    """The run does not call itself finished."""
    source = write_rows(tmp_path / "in.jsonl", ["one", "two"])

    def answer(call: Call) -> str:
        with source.open("a") as file:
            file.write("\n")
        return "refund"

    with Upstream(answer=answer) as upstream:
        config = local(tmp_path, upstream)
        with pytest.raises(InputError, match="changed while it was being read"):
            run(config, source)


def test_an_unknown_task_is_said_before_anything_is_written(tmp_path: Path) -> None:
    """No output, no rejects."""
    with Upstream() as upstream:
        config = local(tmp_path, upstream)
        source = write_rows(tmp_path / "in.jsonl", ["one"])
        with pytest.raises(ConfigError, match="triag"):
            run(config, source, task="triag")
    assert list(tmp_path.glob("out*")) == []


def test_a_server_that_fails_now_and_then_costs_only_its_rows(tmp_path: Path) -> None:
    """Failed rows are for review with the verdict; all others are answered."""
    faults = [Fault(Mode.HTML), Fault(), Fault(Mode.HTML)]
    with Upstream(answer=lambda call: "refund", faults=faults) as upstream:
        one = "[rungs.local.limits]\nconcurrency = 1\nretries = 0"
        config = local(tmp_path, upstream, more=one)
        summary = run(config, write_rows(tmp_path / "in.jsonl", ["a", "b", "c", "d"]))
    assert [row.verdict for row in rows(config)] == ["failed", "accepted", "failed", "accepted"]
    assert (summary.answered, summary.failed, summary.exit_code) == (2, 2, 3)
    assert sum(summary.rungs[0].failures.values()) == 2
    assert not summary.rungs[0].down


def test_an_output_reads_back_and_a_foreign_one_is_a_sentence(tmp_path: Path) -> None:
    """The line that is not ours is named."""
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"row": 1}) + "\n")
    with pytest.raises(InputError, match=r"other\.jsonl:1: not a row that rung batch wrote"):
        list(read_output(path))
    with pytest.raises(InputError, match="No such file"):
        list(read_output(tmp_path / "none.jsonl"))
