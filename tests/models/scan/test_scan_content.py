"""What is blocked and what is clean, over every kind of hostile file and of what comes with real models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from benign_files import PROSE, write_benign

from gguf_models import tiny_model
from malformed.contradictory_cases import CONTRADICTORY
from malformed.gguf_cases import GGUF, written
from malformed.hostile_archives import ARCHIVES, POLYGLOTS, write
from malformed.hostile_files import FILES, TEMPLATES, UNDECIDED, holes, sentencepiece
from malformed.hostile_pickles import NAMED, PICKLES, zipped
from malformed.safetensors_cases import SAFETENSORS
from rung.errors import ModelError
from rung.models.scan.report import Outcome, Report
from rung.models.scan.scanner import scan_file, scan_path

TOLERATED = {
    "embedding of another length",
    "experts of another count",
    "more tokens than rows",
    "token beyond the vocabulary",
}
"""Contradictions that engines refuse cleanly or pass over."""


def scanned(paths: Mapping[str, Path]) -> dict[str, Report]:
    """Reports by the case's name, of files in one folder."""
    folder = next(iter(paths.values())).parent
    names = {path.name: name for name, path in paths.items()}
    return {names[report.name]: report for report in scan_path(folder)}


def clean(reports: Mapping[str, Report]) -> set[str]:
    """The names of clean ones."""
    return {name for name, report in reports.items() if report.outcome is Outcome.CLEAN}


def rules(report: Report) -> list[str]:
    """The rules that found something, in order."""
    return [finding.rule for finding in report.findings]


def test_every_pickle_is_blocked_and_what_it_imports_is_named(tmp_path: Path) -> None:
    """Whatever its protocol, its wrapping, and what is broken behind it."""
    reports = scanned(write(tmp_path, PICKLES))
    assert clean(reports) == set()
    assert len(reports) == len(PICKLES)
    for name in NAMED:
        said = " ".join(finding.what for finding in reports[name].findings)
        assert "os.getcwd" in said or "builtins.print" in said or "somewhere.unheard.of_it" in said


def test_what_was_found_comes_before_what_could_not_be_read(tmp_path: Path) -> None:
    """An unpickler has run the call by the time it meets the broken opcode."""
    names = (
        "broken behind the call",
        "cut behind the call",
        "a stack that runs empty behind the call",
    )
    reports = scanned(write(tmp_path, {name: PICKLES[name] for name in names}))  # fmt: skip
    for report in reports.values():
        assert rules(report) == ["pickle", "pickle-global", "pickle-broken"]
        assert "imports os.getcwd" in report.verdict


def test_picklescan_adds_what_it_knows_of_the_names(tmp_path: Path) -> None:
    """It is a note: the verdict does not wait for it, nor change with it."""
    names = ("protocol 4", "a name that nobody lists")
    reports = scanned(write(tmp_path, {name: PICKLES[name] for name in names}))
    known, unheard = (reports[name].notes for name in names)
    assert known == ("picklescan knows as dangerous: os.getcwd",)
    assert unheard == ("picklescan knows none of its 1 names as dangerous",)


def test_every_archive_is_blocked(tmp_path: Path) -> None:
    """Encrypted, nested, damaged, bombs, and those that lead out of their folder."""
    reports = scanned(write(tmp_path, ARCHIVES))
    assert clean(reports) == set()
    assert "archive-encrypted" in rules(reports["encrypted zip"])
    assert "archive-path" in rules(reports["zip with paths that lead out"])
    assert "archive-path" in rules(reports["tar with paths that lead out"])
    assert "archive-bomb" in rules(reports["zip bomb"])
    assert "archive-nested" in rules(reports["nested zips"])
    assert "archive-nested" in rules(reports["zip with a 7z inside"])
    assert "archive-mismatch" in rules(reports["zip with another name inside"])
    assert "archive-mismatch" in rules(reports["zip that is encrypted in one place"])
    assert "archive-broken" in rules(reports["zip without its end"])
    assert "pickle-global" in rules(reports["tar of pickles"])
    assert reports["keras"].format == "Keras archive (zip)"


def test_what_is_two_things_at_once_is_blocked(tmp_path: Path) -> None:
    """Archives and pickles behind, between and inside what is accepted."""
    reports = scanned(write(tmp_path, POLYGLOTS))
    assert clean(reports) == set()
    assert rules(reports["gguf and zip in its weights"])[0] == "polyglot"
    assert rules(reports["gguf and pickle in its padding"]) == ["gguf-padding"]
    assert rules(reports["gguf and pickle before its data"]) == ["gguf-padding"]
    assert "pickle-global" in rules(reports["safetensors and pickle"])
    for name in ("gguf that is a pickle", "safetensors that are a pickle"):
        assert rules(reports[name]) == [
            "polyglot",
            "pickle",
            "pickle-global",
            *rules(reports[name])[3:],
        ]
    for name in (
        "gguf that is a tar",
        "gguf that is a tar of before ustar",
        "gguf and a 64-bit zip in its weights",
    ):
        assert rules(reports[name])[:2] == ["polyglot", "archive"]
        assert "pickle-global" in rules(reports[name])
    for name in ("gguf and hdf5", "gguf and hdf5 further on"):
        assert rules(reports[name]) == ["polyglot"]


def test_everything_that_is_not_on_the_list_is_blocked(tmp_path: Path) -> None:
    """Programs, documents, other frameworks' models, broken texts, and nothing at all."""
    reports = scanned(write(tmp_path, FILES))
    assert clean(reports) == set()
    assert rules(reports["nothing"]) == ["empty"]
    assert rules(reports["keras lambda"]) == ["keras", "keras-code"]
    external = reports["onnx with external data"].findings[1]
    assert external.what == "weights in another file: ../../etc/passwd"
    for name in FILES:
        if name.startswith("python source"):
            assert rules(reports[name])[0] in {"python-source", "text-encoding"}
    assert rules(reports["keras architecture"]) == ["keras"]
    assert rules(reports["json with objects"]) == ["json-code"]
    assert rules(reports["json with a template behind blanks"])[0] == "template-include"
    assert rules(reports["json with a template and another one"])[0] == "template-attribute"
    assert rules(reports["json with a template that is too long"]) == ["template-size"]
    assert rules(reports["json with nothing but templates"])[0] == "undecidable"


def test_every_hostile_template_is_blocked_wherever_it_stands(tmp_path: Path) -> None:
    """As a file of its own and in a model, without running away or taking the scanner with it."""
    files = write(tmp_path / "files", {name: text.encode() for name, text in TEMPLATES.items()})
    assert clean(scanned(files)) == set()
    (tmp_path / "models").mkdir()
    inside = {}
    for name in ("nested loops", "class in a branch", "another file in a branch", "doubling"):
        path = tmp_path / "models" / f"{name}.gguf"
        inside[name] = tiny_model(path, dim=64, template=TEMPLATES[name])
    reports = scanned(inside)
    assert clean(reports) == set()
    assert rules(reports["nested loops"]) == ["template-fuel"]
    assert rules(reports["class in a branch"]) == ["template-attribute"]
    assert rules(reports["another file in a branch"]) == ["template-include"]
    assert rules(reports["doubling"]) == ["undecidable"]
    assert reports["doubling"].format == "GGUF"


def test_every_malformed_header_is_blocked(tmp_path: Path) -> None:
    """Those of GGUF, of safetensors, and those that only make no sense."""
    assert clean(scanned(written(tmp_path / "g", GGUF))) == set()
    assert clean(scanned(written(tmp_path / "s", SAFETENSORS, "safetensors"))) == set()
    senseless = scanned(written(tmp_path / "c", CONTRADICTORY))
    assert clean(senseless) == TOLERATED
    assert all(senseless[name].notes for name in TOLERATED)


def test_a_terabyte_of_hole_is_decided(tmp_path: Path) -> None:
    """Whatever it begins with."""
    reports = scanned(holes(tmp_path))
    assert clean(reports) == set()
    assert {report.size for report in reports.values()} == {1 << 40}


def test_nothing_that_comes_with_real_models_is_blocked(tmp_path: Path) -> None:
    """Models of several kinds, tokenizers, texts, and chat templates in the styles in use."""
    paths = write_benign(tmp_path)
    reports = {report.name: report for report in scan_path(tmp_path)}
    assert [report.verdict for report in reports.values() if report.findings] == []
    assert {name for name, each in reports.items() if each.outcome is Outcome.TEXT} == PROSE
    assert len(paths) > 40


def test_text_of_no_format_is_never_called_clean(tmp_path: Path) -> None:
    """Some interpreter would run it, or nobody can say; a list of words is not blocked for that either."""
    reports = scanned(write(tmp_path, UNDECIDED))
    assert {report.outcome for report in reports.values()} == {Outcome.TEXT}
    assert reports["shell"].verdict.startswith("text, which nothing here loads")


def test_published_vocabularies_and_models_are_clean(shared_data: Path) -> None:
    """A vocabulary without weights is clean to look at and says what it is."""
    reports = scan_path(shared_data / "weights_tiny_gguf")
    assert [report.verdict for report in reports if report.findings] == []
    formats = {report.name: report.format for report in reports}
    assert formats["llama-2-tiny-random.gguf"] == "GGUF"
    assert formats["vocab_only/ggml-vocab-phi-3.gguf"] == "GGUF without tensors (a vocabulary)"


def test_the_same_bytes_get_the_same_verdict_under_five_names(tmp_path: Path) -> None:
    """What a file is called never counts."""
    contents = {
        "torch": PICKLES["torch"],
        "source": FILES["python source"],
        "polyglot": POLYGLOTS["gguf and zip"],
        "template": TEMPLATES["nested loops"].encode(),
        "vocabulary": sentencepiece(5),
        "json": b'{"a": 1}',
    }
    names = ("model.gguf", "model.safetensors", "data.pkl", "README.md", "x")
    for kind, content in contents.items():
        for name in names:
            path = tmp_path / kind / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    seen: dict[str, set[Report]] = {kind: set() for kind in contents}
    for report in scan_path(tmp_path):
        kind, _ = report.name.split("/")
        seen[kind].add(msgspec.structs.replace(report, name=""))
    assert {kind: len(reports) for kind, reports in seen.items()} == dict.fromkeys(contents, 1)


def test_a_template_of_a_very_long_file_is_still_found(tmp_path: Path) -> None:
    """JSON that is too long to be made into objects is asked for its outermost names only."""
    path = tmp_path / "tokenizer_config.json"
    fill = b'"' + b"x" * 5_000_000 + b'"'
    path.write_bytes(b'{"fill": ' + fill + b', "chat_template": "{{ messages.__class__ }}"}')
    assert rules(scan_file(path))[0] == "template-attribute"
    path.write_bytes(b'{"fill": ' + fill + b', "chat_template": "{{ messages[0].content }}"}')
    assert scan_file(path).outcome is Outcome.CLEAN


def test_a_report_names_only_what_can_be_printed(tmp_path: Path) -> None:
    """Names in a file cannot move a terminal's cursor."""
    path = tmp_path / "a.bin"
    path.write_bytes(zipped({"\x1b[2J\u202e.pkl": b"x"}))
    report = scan_file(path, name="a\x1b[2Jb")
    assert report.name == "a\\x1b[2Jb"
    assert all(finding.what.isprintable() for finding in report.findings)


def test_what_cannot_be_read_is_blocked_and_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A file without permission counts as undecidable, a wrong path does not."""
    path = tmp_path / "closed.gguf"
    path.write_bytes(b"x")
    path.chmod(0)
    report = scan_file(path)
    if os.geteuid() != 0:  # who may read everything can read this, too
        assert rules(report) == ["unreadable"]
    with pytest.raises(ModelError, match="does not exist"):
        scan_file(tmp_path / "missing.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    assert rules(scan_file(tmp_path / "pipe.gguf")) == ["special-file"]
    assert rules(scan_file(Path("/dev/zero"))) == ["special-file"]


def test_a_file_that_ends_its_scanner_costs_only_itself(tmp_path: Path) -> None:
    """Those before and behind it are looked at."""
    write(tmp_path, {"a": b"{}", "c": b"{}"}, "json")
    (tmp_path / "b.jinja").write_text(TEMPLATES["doubling"])
    shutil.copy(tmp_path / "b.jinja", tmp_path / "b2.jinja")
    reports = scan_path(tmp_path)
    assert [report.outcome.value for report in reports] == ["clean", "blocked", "blocked", "clean"]
    assert reports[1].verdict.startswith(
        "blocked: a file that cannot be decided: it ended the process"
    )
