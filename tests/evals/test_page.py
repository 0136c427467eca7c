"""The report's page and charts as text: complete, self-contained, and deaf to hostile input."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser

import msgspec
import pytest
import reports

from rung.evals.report.aggregation import aggregate
from rung.evals.report.charts import risk_coverage_svg
from rung.evals.report.model import ReportRow, TargetReport
from rung.evals.report.page import render


class Elements(HTMLParser):
    """Every element and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Note its text."""
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    """A report of two targets."""
    return render(reports.report())


def bare(*rows: ReportRow, reason: str = "") -> TargetReport:
    """A target without a certificate over `rows`."""
    return TargetReport(max_error=0.05, facts=None, reason=reason, rows=aggregate(rows))


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    """No script, no address, no event handler; a policy forbids what is not there."""
    found = Elements(page)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(found.tags)
    assert not [n for n, _ in found.attributes if n.startswith("on") or n in ("src", "href")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in (
        found.attributes
    )
    assert not re.search(r"https?://|@import|url\((?!#)", page)


def test_ids_are_unique_and_references_meet_them(page: str) -> None:
    """Two targets share no id, and every label and clip points at one."""
    attributes = Elements(page).attributes
    ids = Counter(value for name, value in attributes if name == "id")
    named = {
        word for name, value in attributes if name == "aria-labelledby" for word in value.split()
    }
    named |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert max(ids.values()) == 1
    assert named <= set(ids)


def test_rates_come_with_counts_and_intervals(page: str) -> None:
    """The measured error names its interval, its rows and the target it is held against."""
    rows = reports.target().rows
    assert f"{rows.wrong} of {rows.known_answered:,}; within the target of" in page
    assert re.search(r"95\s% interval [\d.]+–[\d.]+\s%", page)
    assert "Saving (estimate)" in page
    assert "That the certifying rows are a random draw from the traffic is assumed" in page


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x00\x1b\ud800\u202e&amp;]]>'


def test_hostile_text_stays_text() -> None:
    """Labels, texts, rung names, notes and titles never become an element or an attribute."""
    row = ReportRow(
        row=1,
        answer=HOSTILE,
        expected="x" + HOSTILE,
        correct=False,
        rung=HOSTILE,
        confidence=0.9,
        path=((HOSTILE, HOSTILE),),
        text=HOSTILE,
    )
    data = msgspec.structs.replace(
        reports.report(bare(row, reason=HOSTILE), title=HOSTILE),
        task=HOSTILE,
        notes=(HOSTILE,),
        provenance=((HOSTILE, HOSTILE),),
        price_date=HOSTILE,
    )
    page = render(data)
    found = Elements(page)
    assert not {"script", "img"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name == "onerror"]
    assert "\x00" not in page and "\x1b" not in page
    page.encode("utf-8")


def test_without_known_answers_nothing_is_said_to_be_measured() -> None:
    """Error, curve, reliability and confusions say that there was nothing to compare with."""
    page = render(reports.report(reports.target(truth=False)))
    assert page.count("Not measured: no known answers.") == 2
    assert "Share wrong by share answered" in page
    assert 'class="measured"' not in page


def test_nothing_answered_is_no_error_of_zero() -> None:
    """A run that held everything back has no error rate, and no saving beyond what it must still pay."""
    rows = [
        ReportRow(row=n, expected="a", path=(("student", "unsure"),), latency_ms=0.1)
        for n in range(5)
    ]
    page = render(reports.report(bare(*rows, reason="about 800 more labels are needed")))
    assert "not measured: nothing was answered" in page
    assert "Nothing is certified at 5\N{NO-BREAK SPACE}%. About 800 more labels are needed." in page
    assert "0 of 5" in page


def test_no_rows_at_all_is_a_page_too() -> None:
    """An empty run draws no chart and says so."""
    page = render(reports.report(bare()))
    assert "No row was routed." in page
    assert "<svg" not in page


def test_agreement_is_never_called_correctness() -> None:
    """Where truth is another rung's answer, the page says which, and that it is no more than that."""
    target = reports.target(rows=200)
    assert target.facts is not None
    facts = msgspec.structs.replace(target.facts, truth="agreement:frontier")
    page = render(reports.report(msgspec.structs.replace(target, facts=facts)))
    assert "agreement with frontier, not correctness" in page


def test_a_report_without_a_target_is_refused() -> None:
    """There is nothing to show."""
    with pytest.raises(ValueError, match="at least one target"):
        render(msgspec.structs.replace(reports.report(), targets=()))


def test_the_chart_alone_is_a_whole_svg_file() -> None:
    """It parses as XML, brings its colours for light and dark, and says in words what it shows."""
    text = risk_coverage_svg(reports.report())
    root = ET.fromstring(text)  # noqa: S314 - our own text
    space = {"s": "http://www.w3.org/2000/svg"}
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in text
    described = root.find("s:desc", space)
    assert described is not None and "target 5" in (described.text or "")
    assert (
        len(root.findall(".//s:circle[@class='chosen']", space)) == 3
    )  # one of them is the legend’s


def test_tasks_stand_one_after_the_other_with_ids_of_their_own() -> None:
    """Each has its tiles, targets and way there; notes and provenance are said once."""
    one = reports.report()
    two = msgspec.structs.replace(one, task="booking")
    page = render(one, two)
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {f"task-{one.task}", "task-booking"} <= set(ids)
    assert 'href="#task-booking"' in page
    assert page.count('class="tiles"') == 2
    assert page.count('id="limits"') == page.count('id="provenance"') == 1
