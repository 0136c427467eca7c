"""Ids: unique, sorted by time, growing even within one millisecond."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from rung.ids import ALPHABET, ID_LENGTH, new_id, now


def test_ids_grow() -> None:
    """Ids of one process sort in the order they were made, however fast."""
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_an_id_starts_with_its_time() -> None:
    """The first ten characters are milliseconds since 1970, in 26 characters of Crockford's base 32."""
    before = datetime.now(UTC)
    made = new_id()
    milliseconds = 0
    for character in made[:10]:
        milliseconds = milliseconds * 32 + ALPHABET.index(character)
    assert len(made) == ID_LENGTH
    assert set(made) <= set(ALPHABET)
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    assert abs(at - before) < timedelta(minutes=1)


def test_threads_share_the_sequence() -> None:
    """Ids made on several threads at once are all different."""
    made: list[list[str]] = [[] for _ in range(4)]

    def make(ids: list[str]) -> None:
        ids.extend(new_id() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(ids,)) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for ids in made for one in ids}) == 20_000


def test_now_is_utc_to_the_millisecond() -> None:
    """ISO 8601 with its offset, so that it sorts and is read alike everywhere."""
    assert datetime.fromisoformat(now()).utcoffset() == timedelta(0)
    assert len(now()) == len("2026-11-01T12:00:00.000+00:00")
