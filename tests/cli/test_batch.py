"""`rung batch` as a person or a program uses it: text, JSON, signals, full disks, two at once."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "batch"))

from batch_runs import ids, recorded_rows, results_kept, rows, start, write_rows

from projects import STUDENT, examples, openai_rung, train, write_project
from rung.batch.window import MOST_ROWS
from upstream import Call, Fault, Upstream


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and complaints of a process that ends by itself."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_summary_is_for_people(tmp_path: Path) -> None:
    """Rows first, then rungs, then what stands behind the answers, then cost; rejects by reason; exit code 3."""
    with Upstream(answer=lambda call: "refund") as upstream:
        price = (
            'price = { input_per_million = "1.00", output_per_million = "2.00",'
            ' currency = "USD", date = "2026-11-01" }'
        )
        config = write_project(tmp_path, openai_rung("local", upstream.url, more=price), ("local",))
        source = write_rows(tmp_path / "in.jsonl", ["one", "two", " ", "three"])
        code, out, err = finished(start(config, source))
        again, text, _ = finished(start(config, source))
    assert (code, err) == (3, "")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0].startswith("4 rows · 3 answered · 0 for review · 1 rejected (")
    assert lines[0].endswith("out.rejects.jsonl: 1 empty)")
    assert any(line.startswith("local ") and "100 %" in line for line in lines)
    assert "not certified: 3 rows: not asked to be certified" in lines
    assert any(line.startswith("cost ") and "(estimate)" in line for line in lines)
    assert again == 3
    assert text.startswith("already finished, nothing to do (--fresh runs it again)\n4 rows · 3")


RECORD = """format = 1
kind = "extract"
privacy = "personal"
[schema]
type = "object"
required = ["people"]
properties.people.type = "integer"
"""

CALLING = """format = 1
kind = "call"
privacy = "personal"
allow_none = true
[[tools]]
name = "book"
"""


@pytest.mark.parametrize(
    ("task", "said", "figures"),
    [
        (
            RECORD,
            ['{"people":4}', '{"people":"four"}', "four people"],
            [
                "records    3 attempts, 2 of them after a repair; intervals are 95 %",
                "parsed           66.7 % (9.4 %–99.2 %), 2 of 3",
                "kept the schema  33.3 % (0.8 %–90.6 %), 1 of 3",
                "were cut         0 % (0 %–70.8 %), 0 of 3",
                "could be called  – (no tools here)",
            ],
        ),
        (
            CALLING,
            [
                '{"name":"book","arguments":{}}',
                '{"name":null,"arguments":{}}',
                '{"name":"cancel","arguments":{}}',
            ],
            [
                "records    3 attempts, 1 of them after a repair; intervals are 95 %",
                "parsed           100 % (29.2 %–100 %), 3 of 3",
                "kept the schema  66.7 % (9.4 %–99.2 %), 2 of 3",
                "were cut         0 % (0 %–70.8 %), 0 of 3",
                "could be called  50 % (1.3 %–98.7 %), 1 of 2",
            ],
        ),
    ],
    ids=["extract", "call"],
)
def test_records_are_summed_up_in_four_figures(
    tmp_path: Path, task: str, said: list[str], figures: list[str]
) -> None:
    """Each with what it is a share of and its interval; to call no tool is no call that could be carried out."""

    def reply(call: Call) -> str:
        asked = next(turn["content"] for turn in call.body["messages"] if turn["role"] == "user")
        return said[int(asked.split()[0])]

    with Upstream(answer=reply) as upstream:
        rung = openai_rung("local", upstream.url)
        config = write_project(tmp_path, rung, ("local",), task=task)
        source = write_rows(tmp_path / "in.jsonl", [f"{n} row" for n in range(3)])
        _, out, _ = finished(start(config, source))
    lines = [line.strip() for line in out.splitlines()]
    at = lines.index(figures[0])
    assert lines[at : at + 5] == figures


def test_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    """Standard output is the summary; standard error is empty."""
    with Upstream(answer=lambda call: "refund") as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",))
        source = write_rows(tmp_path / "in.jsonl", ["one", "two"])
        code, out, err = finished(start(config, source, "--json"))
    summary = json.loads(out)
    assert (code, err) == (0, "")
    assert (summary["format"], summary["rows"], summary["answered_on_device"]) == (1, 2, 2)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_in_order(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """What is in flight is finished and written, how to go on is said, and going on asks nothing twice."""
    with Upstream(answer=lambda call: "refund", always=Fault(first_s=0.02)) as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",))
        source = write_rows(tmp_path / "in.jsonl", (f"text {n}" for n in range(300)))
        process = start(config, source)
        while len(upstream.chats) < 60:
            assert process.poll() is None
        process.send_signal(sent)
        stopped, out, err = finished(process)
        done = len(upstream.chats)
        assert (stopped, ids(rows(config))) == (code, [f"q{n}" for n in range(1, done + 1)])
        assert out.startswith(f"{done} rows · {done} answered")
        assert "stopping: finishing what is in flight" in err
        again = f"rung batch {source} --task triage -o {tmp_path / 'out.jsonl'} --config {config}"
        assert f"stopped behind row {done}; to go on: {again}" in err
        code, _, err = finished(start(config, source))
        assert err.startswith(f"resuming behind row {done} (run ")
        assert set(upstream.calls_per_text().values()) == {1}
    assert (code, len(rows(config))) == (0, 300)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_run_with_a_full_window(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    """Behind a slow server, with more rows than the window holds still to be read, it stops all the same."""
    with Upstream(answer=lambda call: "refund", always=Fault(first_s=0.2)) as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",))
        source = write_rows(tmp_path / "in.jsonl", (f"text {n}" for n in range(MOST_ROWS + 5000)))
        process = start(config, source)
        while len(upstream.chats) < 60:
            assert process.poll() is None
        process.send_signal(sent)
        stopped, _, err = finished(process)
    written = rows(config)
    assert stopped == code
    assert f"stopped behind row {len(written)}; to go on: " in err
    assert 0 < len(written) < MOST_ROWS


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """Even while a server never answers; what was recorded is kept."""
    faults = [Fault(first_s=0.0)] * 5
    with Upstream(
        answer=lambda call: "refund", faults=faults, always=Fault(first_s=3600)
    ) as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",))
        source = write_rows(tmp_path / "in.jsonl", (f"text {n}" for n in range(20)))
        process = start(config, source)
        while len(recorded_rows(config)[1]) < 5:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stopping: ")
        process.send_signal(signal.SIGINT)
        code, _, err = finished(process)
    assert (code, err.strip()) == (
        130,
        "stopped at once; the same command goes on from what is recorded",
    )
    assert len(recorded_rows(config)[1]) == 5


def test_two_processes_cannot_write_one_output(tmp_path: Path) -> None:
    """The second refuses, with and without --fresh, and does not disturb the first."""
    seen_both = threading.Event()

    def answer_afterwards(call: Call) -> str:
        seen_both.wait(60)
        return "refund"

    with Upstream(answer=answer_afterwards) as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",))
        source = write_rows(tmp_path / "in.jsonl", (f"text {n}" for n in range(40)))
        first = start(config, source)
        while not upstream.chats:
            assert first.poll() is None
        for more in ((), ("--fresh",)):
            code, _, err = finished(start(config, source, *more))
            assert code == 3
            assert "out.jsonl: another process is writing it" in err
        seen_both.set()
        assert finished(first)[0] == 0
        assert set(upstream.calls_per_text().values()) == {1}
    assert len(rows(config)) == 40


def test_a_full_disk_stops_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    """One sentence, exit code 3, and afterwards every row once."""
    config = write_project(tmp_path, STUDENT.replace('"certified"', '"contract"'))
    train(config)
    texts = [f"{text} {n}" for n in range(6) for text, _ in examples(1000, seed=3)]
    source = write_rows(tmp_path / "in.jsonl", texts)

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    code, _, err = finished(start(config, source, preexec_fn=small_disk))
    assert code == 3
    assert "Traceback" not in err
    assert "the same command goes on behind row" in err
    code, _, err = finished(start(config, source))
    assert (code, len(rows(config)), results_kept(config)) == (0, len(texts), 0)
    assert ids(rows(config)) == [f"q{n}" for n in range(1, len(texts) + 1)]


def test_a_model_that_is_not_there_is_said_before_the_first_row(tmp_path: Path) -> None:
    """Nothing is written or queued, and the same command works once the path is mended."""
    rungs = '[rungs.small]\nengine = "llama_cpp"\nmodel = "nope.gguf"\naccept = "contract"\n'
    config = write_project(tmp_path, rungs, ("small",))
    source = write_rows(tmp_path / "in.jsonl", ["one", "two"])
    code, _, err = finished(start(config, source))
    assert code == 3
    assert "no rung can answer; small: " in err
    assert "nope.gguf" in err
    assert not (tmp_path / "out.jsonl").exists()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A missing folder, a folder in place of a file, a device: each one sentence."""
    with Upstream() as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",))
        source = write_rows(tmp_path / "in.jsonl", ["one"])
        for place, sentence in (
            (tmp_path / "none" / "out.jsonl", "No such file or directory"),
            (tmp_path, "it is a folder"),
            (Path("/dev/null"), "not a regular file"),
        ):
            code, _, err = finished(start(config, source, "-o", str(place)))
            assert (code, sentence in err, "Traceback" in err) == (3, True, False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    """Permission denied, in a sentence."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with Upstream() as upstream:
        config = write_project(tmp_path, openai_rung("local", upstream.url), ("local",))
        source = write_rows(tmp_path / "in.jsonl", ["one"])
        code, _, err = finished(start(config, source, "-o", str(folder / "out.jsonl")))
    assert (code, "permission denied" in err) == (3, True)


PEAK = """
import resource, sys
from rung.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Twice the rows, both more than the window holds, take less than 24 MiB more."""
    config = write_project(tmp_path, STUDENT.replace('"certified"', '"contract"'))
    train(config)
    texts = [text for text, _ in examples(2000, seed=4)]
    peaks = []
    for times in (9, 18):
        source = write_rows(tmp_path / f"in{times}.jsonl", texts * times)
        arguments = ["batch", str(source), "--task", "triage", "--config", str(config)]
        arguments += ["-o", str(tmp_path / f"out{times}.jsonl")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-c", PEAK, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        peaks.append(int(done.stderr.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 24
