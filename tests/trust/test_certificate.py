"""The certificate file: written once, read back exactly, void when edited; attempts are counted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rung.errors import CertificateError
from rung.task import Privacy
from rung.trust.certificate import (
    Attempts,
    Certificate,
    CertifiedSet,
    RungRule,
    Try,
    certificate_path,
    changed,
    percent_name,
    read_attempts,
    read_certificate,
    record_attempt,
    with_id,
    write_certificate,
)


def certificate() -> Certificate:
    """A certificate with one statement and an awkward threshold."""
    return with_id(
        Certificate(
            task="triage",
            created="2026-11-01",
            max_error=0.05,
            confidence=0.95,
            attempt=1,
            truth="human",
            sampling="assumed",
            suite="s1",
            rows=2000,
            sets=(
                CertifiedSet(
                    rungs=("student",),
                    labels=(Privacy.PERSONAL,),
                    certified=True,
                    rules=(RungRule("student", 0.1 + 0.2, 1700, 60, 0.04),),
                    rows=2000,
                    fingerprint={"task": "t1"},
                ),
            ),
        )
    )


def attempt(suite: str = "s1", number: int = 1) -> Try:
    """A try at 5 % on `suite`."""
    return Try(0.05, 0.95, number, suite, "f1", "2026-11-01", certified=False)


def test_a_certificate_reads_back_exactly(tmp_path: Path) -> None:
    """Thresholds keep their last bit."""
    written = certificate()
    path = write_certificate(tmp_path, written)
    assert path == tmp_path / "triage" / "5pct.json"
    assert read_certificate(tmp_path, "triage", 0.05) == written


def test_no_file_is_no_certificate(tmp_path: Path) -> None:
    """Absence is an answer, not an error."""
    assert read_certificate(tmp_path, "triage", 0.05) is None


def test_an_edited_certificate_is_refused(tmp_path: Path) -> None:
    """Lowering a threshold by hand does not make it certified."""
    path = write_certificate(tmp_path, certificate())
    path.write_text(path.read_text().replace('"errors": 60', '"errors": 6'))
    with pytest.raises(CertificateError, match="edited after it was written"):
        read_certificate(tmp_path, "triage", 0.05)


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"format": 1, "task": 3}'])
def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, content: str) -> None:
    """The message names the file and the command that writes it anew."""
    path = certificate_path(tmp_path, "triage", 0.05)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(CertificateError, match=r"5pct\.json: not a certificate") as caught:
        read_certificate(tmp_path, "triage", 0.05)
    assert "rung calibrate triage" in str(caught.value.hint)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A format this Rung does not know is not guessed at."""
    write_certificate(tmp_path, msgspec.structs.replace(certificate(), format=2))
    with pytest.raises(CertificateError, match="format 2 is not known"):
        read_certificate(tmp_path, "triage", 0.05)


@pytest.mark.parametrize(
    ("share", "name"), [(0.05, "5pct"), (0.005, "0.5pct"), (0.1, "10pct"), (0.29, "29pct")]
)
def test_targets_have_readable_file_names(share: float, name: str) -> None:
    """No binary fraction shows in a file name."""
    assert percent_name(share) == name


def test_a_changed_fingerprint_names_what_changed() -> None:
    """Added, removed and altered parts are all named."""
    assert changed({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == (
        "b",
        "c",
        "d",
    )


def test_the_same_try_again_is_the_same_attempt(tmp_path: Path) -> None:
    """Repeating a calibration on the same rows spends nothing more."""
    record_attempt(tmp_path, "triage", attempt())
    record_attempt(tmp_path, "triage", attempt())
    attempts = read_attempts(tmp_path, "triage")
    assert attempts == Attempts(tries=(attempt(),))
    assert attempts.number(0.05, 0.95, "s1", "f1") == 1


def test_more_labels_or_another_model_are_another_attempt(tmp_path: Path) -> None:
    """Failed tries count; other targets are other claims."""
    record_attempt(tmp_path, "triage", attempt())
    record_attempt(tmp_path, "triage", attempt("s2", 2))
    attempts = read_attempts(tmp_path, "triage")
    assert attempts.number(0.05, 0.95, "s3", "f1") == 3
    assert attempts.number(0.05, 0.95, "s1", "another model") == 3
    assert attempts.number(0.02, 0.95, "s1", "f1") == 1


def test_a_damaged_record_of_attempts_stops_the_calibration(tmp_path: Path) -> None:
    """Forgetting attempts would overstate the confidence of the next."""
    path = tmp_path / "triage" / "attempts.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(CertificateError, match="not a list of attempts"):
        read_attempts(tmp_path, "triage")
