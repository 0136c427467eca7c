"""`kill -9` at twenty moments of a pull; `bench/pull_kill.py` has two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from killing import Forked, Killer
from pullable import FILE, REFERENCE, REPO, model, sha256

from hub import Hub


@pytest.mark.parametrize(("published", "kills"), [(True, 13), (False, 7)])
def test_a_killed_pull_leaves_nothing_or_the_right_file(
    tmp_path: Path, published: bool, kills: int
) -> None:
    """Nothing visible is ever bad, with a publisher's digest and without; the last pull pins the right file."""
    original = model(tmp_path, layers=2)
    size = original.stat().st_size
    root = tmp_path / "project"
    root.mkdir()
    with Hub(rate=40e6) as hub:
        hub.add_repo(REPO, {FILE: original})
        reference = REFERENCE if published else hub.add_file(FILE, original)
        digest = sha256(original)
        killer = Killer(
            hub, reference, root, digest, size, seed=1, recoveries=1, begin=Forked, rest_s=0.3
        )
        tally = killer.run(kills)
    assert tally.bad == []
    assert tally.kills == kills
    assert tally.resumed > 0
