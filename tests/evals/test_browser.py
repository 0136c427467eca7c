"""The report in a real browser: it shows what it says, and fits a desk and a phone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import reports

from rung.evals.report.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def browse(folder: Path, page: Path, *options: str) -> str:
    """What the browser prints for `page`, with a profile of its own."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.fixture(scope="module")
def page() -> str:
    """A report of two targets, the first over two rungs."""
    return render(reports.report(reports.target(rungs=2), reports.target(0.02, 0.94)))


def test_key_texts_are_shown(tmp_path: Path, page: str) -> None:
    """The browser's own tree holds the headline and every section."""
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    tree = browse(tmp_path, path, "--dump-dom")
    for text in (
        "Answered on this device",
        "Certified bound on error",
        "Share wrong by share answered",
        "Can the confidences be believed?",
        "Path through the rungs",
        "Worst confusions",
        "Time for one row",
        "What was certified, on what",
        "Where this comes from",
    ):
        assert text in tree


@pytest.mark.parametrize("width", [1200, 768, 360])
def test_no_width_scrolls_sideways(tmp_path: Path, page: str, width: int) -> None:
    """At desk, tablet and phone width the page is no wider than its window, and no text in a chart is cut."""
    path = tmp_path / "frame.html"
    path.write_text(
        f"""<!doctype html><iframe id="f" style="border:0;width:{width}px;height:900px"
        srcdoc="{html.escape(page)}"></iframe><p id="found"></p><script>
        onload = () => {{
          const inside = document.getElementById("f").contentDocument;
          const root = inside.documentElement;
          const cut = [...inside.querySelectorAll("svg text")].filter(text => {{
            const box = text.getBoundingClientRect(), room = text.ownerSVGElement.getBoundingClientRect();
            return box.left < room.left - 1 || box.right > room.right + 1
              || box.top < room.top - 1 || box.bottom > room.bottom + 1;
          }});
          document.getElementById("found").textContent =
            `${{root.scrollWidth - root.clientWidth}} px beyond, cut [${{cut.map(t => t.textContent)}}]`;
        }};
        </script>""",
        encoding="utf-8",
    )
    tree = browse(tmp_path, path, "--dump-dom", "--window-size=1400,1000")
    found = re.search(r'<p id="found">(.*?)</p>', tree)
    assert found is not None
    assert found[1] == "0 px beyond, cut []"


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_it_can_be_photographed(tmp_path: Path, page: str, scheme: int) -> None:
    """Both colour schemes draw to a picture."""
    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(page, encoding="utf-8")
    options = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1200,2000")
    browse(tmp_path, path, f"--screenshot={picture}", *options)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000
