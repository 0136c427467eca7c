"""The review store: kept once, text only where asked for and only as long as allowed."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rung.config import LedgerSettings
from rung.errors import StorageError
from rung.review import ReviewItem, ReviewStore, Status, export

KEEPS_TEXT = LedgerSettings(store_text=True, retention_days=30)
SECRET = "the customer's secret question"


def item(key: str = "run:1", **changes: Any) -> ReviewItem:
    """An unanswered question of 1 November 2126, far from its end whenever this runs."""
    plain = ReviewItem(
        key=key,
        task="triage",
        label="personal",
        receipt="01JD0000000000000000000000",
        reason="no rung was sure enough",
        input_digest="cd" * 16,
        created="2126-11-01T12:00:00.000+00:00",
        text=SECRET,
    )
    return msgspec.structs.replace(plain, **changes)


def kept(root: Path, settings: LedgerSettings, *items: ReviewItem) -> list[ReviewItem]:
    """What is in the store after these were put."""
    store = ReviewStore.open(settings, root=root)
    try:
        store.put_many(items)
        return store.list(status=None)
    finally:
        store.close()


def bytes_of(root: Path) -> bytes:
    """All that is on the disk."""
    return b"".join(path.read_bytes() for path in root.iterdir())


def test_text_is_not_kept_unless_asked_for(tmp_path: Path) -> None:
    """By default the digest is all there is, in the store and in its file."""
    assert kept(tmp_path, LedgerSettings(), item()) == [
        item(text=None, expires="2126-12-01T12:00:00.000+00:00")
    ]
    assert SECRET.encode() not in bytes_of(tmp_path)


def test_text_is_kept_with_a_date_to_erase_it(tmp_path: Path) -> None:
    """Where the settings ask for it, the text is there until its days are over."""
    assert kept(tmp_path, KEEPS_TEXT, item()) == [item(expires="2126-12-01T12:00:00.000+00:00")]
    assert stat.S_IMODE((tmp_path / "rung.review.db").stat().st_mode) == 0o600


def test_putting_a_key_again_makes_no_second_item(tmp_path: Path) -> None:
    """The item names the newer receipt; one that is done with stays as it was."""
    store = ReviewStore.open(KEEPS_TEXT, root=tmp_path)
    store.put_many([item("a"), item("b")])
    assert store.mark_done(["b", "none"]) == 1
    store.put_many([item("a", receipt="new"), item("b", receipt="new")])
    found = {one.key: (one.receipt, one.status) for one in store.list(status=None)}
    assert found == {"a": ("new", Status.OPEN), "b": (item().receipt, Status.DONE)}
    assert [one.key for one in store.list()] == ["a"]
    assert (store.count(), store.count(status=None), store.count(task="other")) == (1, 2, 0)
    store.close()


def test_expired_text_leaves_no_trace_on_the_disk(tmp_path: Path) -> None:
    """Opening the store erases what is due: the text from an open item, an item that is done with altogether."""
    old = "2020-01-01T00:00:00.000+00:00"
    store = ReviewStore.open(KEEPS_TEXT, root=tmp_path)
    store.put_many([item("open", created=old), item("done", created=old), item("young", text="y")])
    store.mark_done(["done"])
    store.close()
    assert SECRET.encode() in bytes_of(tmp_path)

    store = ReviewStore.open(KEEPS_TEXT, root=tmp_path)
    assert SECRET.encode() not in bytes_of(tmp_path)
    assert [(one.key, one.text) for one in store.list(status=None)] == [
        ("open", None),
        ("young", "y"),
    ]
    assert store.purge() == 0
    store.close()


def test_items_are_listed_oldest_first(tmp_path: Path) -> None:
    """By time, of one task or all, at most so many."""
    store = ReviewStore.open(LedgerSettings(), root=tmp_path)
    days = ["2126-11-03", "2126-11-01", "2126-11-02"]
    store.put_many([item(day, created=f"{day}T00:00:00.000+00:00") for day in days])
    store.put_many([item("other", task="other")])
    store.put_many([])
    assert [one.key for one in store.list(task="triage", limit=2)] == sorted(days)[:2]
    store.close()


def test_an_export_is_lines_of_json(tmp_path: Path) -> None:
    """One line an item, with the format's number."""
    lines = list(export(kept(tmp_path, KEEPS_TEXT, item("a"), item("b"))))
    decoded = [json.loads(line) for line in lines]
    assert [(line["format"], line["key"], line["text"]) for line in decoded] == [
        (1, "a", SECRET),
        (1, "b", SECRET),
    ]
    assert all(line.endswith(b"}\n") for line in lines)


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A folder that does not exist, and a file that is no database."""
    with pytest.raises(StorageError, match=r"no/rung\.review\.db"):
        ReviewStore.open(LedgerSettings(url="sqlite:///no/rung.db"), root=tmp_path)
    (tmp_path / "rung.review.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match="not a database") as damaged:
        ReviewStore.open(LedgerSettings(), root=tmp_path)
    assert damaged.value.hint is not None
    assert "ledger verify" not in damaged.value.hint
    assert "move the file away" in damaged.value.hint
