"""Names and links in a folder that is scanned, and the stores of other programs."""

from __future__ import annotations

from pathlib import Path

from malformed.hostile_files import special_files
from rung.models.scan.report import Outcome
from rung.models.scan.scanner import scan_file, scan_path


def test_whatever_leads_out_of_the_folder_or_is_no_file_is_blocked(tmp_path: Path) -> None:
    """Links, second names, pipes and names that mean something elsewhere."""
    made = special_files(tmp_path)
    reports = {report.name: report for report in scan_path(tmp_path / "inside")}
    clean = [name for name, report in reports.items() if report.outcome is Outcome.CLEAN]
    assert clean == ["real.json"]
    assert len(reports) == len(made) + 1
    rules = {report.findings[0].rule for report in reports.values() if report.findings}
    assert rules == {"link-outside", "link-broken", "hard-link", "special-file", "file-name"}


def test_links_and_second_names_within_the_folder_are_clean(tmp_path: Path) -> None:
    """Nobody from outside can change what they lead to."""
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").symlink_to("a.json")
    (tmp_path / "c.json").hardlink_to(tmp_path / "a.json")
    assert {report.outcome for report in scan_path(tmp_path)} == {Outcome.CLEAN}


def test_a_snapshot_in_the_cache_of_hugging_face_is_clean(tmp_path: Path) -> None:
    """Its files are links to the folder of blobs beside it, and only those."""
    blobs, snapshot = (
        tmp_path / "models--a--b" / "blobs",
        tmp_path / "models--a--b/snapshots/c0ffee",
    )
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "5eed").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/5eed")
    assert [report.verdict for report in scan_path(snapshot)] == ["clean"]
    (tmp_path / "elsewhere").write_text("{}")
    (snapshot / "other.json").symlink_to("../../../elsewhere")
    assert [report.outcome.value for report in scan_path(snapshot)] == ["clean", "blocked"]


def test_a_file_that_was_asked_for_by_name_may_be_a_link(tmp_path: Path) -> None:
    """The user said which."""
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link.json"
    link.symlink_to("../a.json")
    assert scan_file(link).outcome is Outcome.CLEAN
    assert scan_path(tmp_path / "folder")[0].outcome is Outcome.BLOCKED
    link.unlink()
    link.symlink_to("nowhere")
    assert scan_file(link).findings[0].rule == "unreadable"


def test_many_files_take_several_processes_and_keep_their_order(tmp_path: Path) -> None:
    """One process looks at no more than some dozens."""
    for number in range(150):
        (tmp_path / f"{number:03}.json").write_text("{}" if number % 50 else '{"a"')
    reports = scan_path(tmp_path)
    assert [report.name for report in reports] == [f"{number:03}.json" for number in range(150)]
    blocked = [report.name for report in reports if report.findings]
    assert blocked == ["000.json", "050.json", "100.json"]
