"""`kill -9` at twenty moments of a pull; `bench/pull_kill.py` has two hundred."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from killing import Forked, Killer, Tally
from pullable import FILE, REFERENCE, REPO, model, sha256

from hub import Hub


def killed(folder: Path, kills: int, *, published: bool) -> Tally:
    """What comes of so many kills, with a publisher's digest or without."""
    root = folder / "project"
    root.mkdir(parents=True)
    original = model(folder)
    digest, size = sha256(original), original.stat().st_size
    with Hub(rate=40e6) as hub:
        hub.add_repo(REPO, {FILE: original})
        reference = REFERENCE if published else hub.add_file(FILE, original)
        killer = Killer(
            hub, reference, root, digest, size, seed=1, recoveries=1, begin=Forked, rest_s=0.3
        )
        return killer.run(kills)


def test_a_killed_pull_leaves_nothing_or_the_right_file(tmp_path: Path) -> None:
    """Nothing visible is ever bad, with a publisher's digest and without; the last pull pins the right file."""
    with ThreadPoolExecutor() as pool:
        one = pool.submit(killed, tmp_path / "published", 12, published=True)
        other = pool.submit(killed, tmp_path / "unpublished", 8, published=False)
        tallies = [one.result(), other.result()]
    assert [tally.bad for tally in tallies] == [[], []]
    assert sum(tally.kills for tally in tallies) == 20
    assert all(tally.resumed > 0 for tally in tallies)
