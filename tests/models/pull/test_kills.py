"""`kill -9` at twenty moments of a pull; `bench/pull_kill.py` has two hundred."""

from __future__ import annotations

from pathlib import Path

from killing import Killer
from pullable import FILE, REPO, model, sha256

from hub import Hub


def test_a_killed_pull_leaves_nothing_or_the_right_file(tmp_path: Path) -> None:
    """Nothing visible is ever bad; what had come is used; the last pull pins the right file."""
    original = model(tmp_path, layers=3)
    size = original.stat().st_size
    root = tmp_path / "project"
    root.mkdir()
    with Hub(rate=40e6) as hub:
        hub.add_repo(REPO, {FILE: original})
        tally = Killer(hub, root, sha256(original), size, seed=1).run(20)
    assert tally.bad == []
    assert tally.kills == 20
    assert tally.resumed > size
    assert tally.whole + tally.shown > 0
