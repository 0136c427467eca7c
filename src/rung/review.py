"""What was not answered, for people to look at: one small store apart from the ledger.

The ledger is for ever and holds no text. This store forgets: a text is kept only where the settings ask for it, and
is erased when its days are over. Grading is done elsewhere.
"""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from rung.config import LedgerSettings
from rung.files import storage_error
from rung.ids import now
from rung.ledger.database import complaints, locate, make_engine, store_path

_METADATA = sa.MetaData()

_ITEM = sa.Table(
    "review_item",
    _METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("receipt", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("input_digest", sa.String, nullable=False),
    sa.Column("created", sa.String, nullable=False),
    sa.Column("expires", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("text", sa.String),
    sa.Index("review_item_status", "status", "created"),
    sa.Index("review_item_expires", "expires"),
)

_WAY_OUT = (
    "the receipts are in the ledger all the same: restore the file from a backup, or move the file away"
    " and the next answer begins a new one"
)

_KEYS_AT_ONCE = 500  # a statement takes a limited number of values


class Status(enum.StrEnum):
    """Whether somebody has still to look at an item."""

    OPEN = "open"
    DONE = "done"


class ReviewItem(msgspec.Struct, frozen=True, kw_only=True):
    """One input that nothing answered.

    Attributes:
        key: names it for good; putting the same key again does not make a second item.
        task: what was asked.
        label: privacy label of the text.
        receipt: id of the receipt in the ledger.
        reason: why nothing answered.
        input_digest: keyed digest of the text.
        created: UTC, ISO 8601.
        text: the text, None where the settings do not keep it or its days are over.
        expires: when the text is erased, UTC, ISO 8601; the store sets it.
        status: whether somebody has still to look at it.
    """

    key: str
    task: str
    label: str
    receipt: str
    reason: str
    input_digest: str
    created: str
    text: str | None = None
    expires: str = ""
    status: Status = Status.OPEN


class ReviewStore:
    """The store, open. Make one with `ReviewStore.open`; it may be used from any thread.

    Every call waits for the disk; from an event loop give it to a thread where that matters.
    """

    def __init__(self, url: sa.URL, settings: LedgerSettings) -> None:
        self._url = url
        self._keeps_text = settings.store_text
        self._days = settings.retention_days
        self._lock = threading.Lock()
        with self._complaints():
            self._connection = make_engine(url, writes=True).connect()
            try:
                with self._connection.begin():
                    _METADATA.create_all(self._connection)
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    def open(cls, settings: LedgerSettings, *, root: Path) -> ReviewStore:
        """Open the store beside the ledger (`rung.review.db`), making it if there is none; erase what is due.

        Args:
            settings: `[ledger]` of `rung.toml`.
            root: the folder that a relative path starts from.

        Raises:
            StorageError: it cannot be opened or written to.
        """
        path = store_path(locate(settings.url, root), root)
        path = path.with_name(f"{path.stem}.review.db")
        _make_private(path)
        store = cls(sa.URL.create("sqlite", database=str(path)), settings)
        store.purge()
        return store

    def put_many(self, items: Sequence[ReviewItem]) -> None:
        """Keep items; one whose key is there already replaces it, unless somebody has dealt with it.

        A batch that is taken up again after a crash answers a row again, under a new receipt: the item then names
        that one.

        Raises:
            StorageError: nothing of it was kept.
        """
        if not items:
            return
        statement = insert(_ITEM)
        replaced = {
            column.name: statement.excluded[column.name]
            for column in _ITEM.columns
            if column.name not in ("key", "status")
        }
        statement = statement.on_conflict_do_update(
            index_elements=["key"], set_=replaced, where=_ITEM.c.status == Status.OPEN.value
        )
        rows = [self._row(item) for item in items]
        with self._lock, self._complaints(), self._connection.begin():
            self._connection.execute(statement, rows)

    def list(
        self,
        *,
        task: str | None = None,
        status: Status | None = Status.OPEN,
        limit: int | None = None,
    ) -> list[ReviewItem]:
        """Items, oldest first.

        Args:
            task: of this task only.
            status: with this status only, None for any.
            limit: at most so many.

        Raises:
            StorageError: the store cannot be read.
        """
        query = sa.select(_ITEM).order_by(_ITEM.c.created, _ITEM.c.key).limit(limit)
        if task is not None:
            query = query.where(_ITEM.c.task == task)
        if status is not None:
            query = query.where(_ITEM.c.status == status.value)
        with self._lock, self._complaints(), self._connection.begin():
            rows = self._connection.execute(query).all()
        return [_item(row) for row in rows]

    def count(self, *, task: str | None = None, status: Status | None = Status.OPEN) -> int:
        """How many items `list` would give without a limit."""
        query = sa.select(sa.func.count()).select_from(_ITEM)
        if task is not None:
            query = query.where(_ITEM.c.task == task)
        if status is not None:
            query = query.where(_ITEM.c.status == status.value)
        with self._lock, self._complaints(), self._connection.begin():
            return int(self._connection.scalar(query) or 0)

    def mark_done(self, keys: Iterable[str]) -> int:
        """Note that somebody has dealt with these; how many were open until now.

        Raises:
            StorageError: nothing was changed.
        """
        wanted = list(keys)
        done = 0
        with self._lock, self._complaints(), self._connection.begin():
            for first in range(0, len(wanted), _KEYS_AT_ONCE):
                result = self._connection.execute(
                    sa.update(_ITEM)
                    .where(_ITEM.c.key.in_(wanted[first : first + _KEYS_AT_ONCE]))
                    .where(_ITEM.c.status == Status.OPEN.value)
                    .values(status=Status.DONE.value)
                )
                done += result.rowcount
        return done

    def withdraw(self, run: str) -> int:
        """Forget the open items of a batch run that another takes the place of; how many.

        What somebody has dealt with stays.

        Args:
            run: its id, which the keys of its items begin with.

        Raises:
            StorageError: nothing was forgotten.
        """
        of_run = _ITEM.c.key.startswith(f"{run}:", autoescape=True)
        still_open = _ITEM.c.status == Status.OPEN.value
        with self._lock, self._complaints(), self._connection.begin():
            return self._connection.execute(sa.delete(_ITEM).where(of_run, still_open)).rowcount

    def missing(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Those of the keys that no item has, in their order.

        Raises:
            StorageError: the store cannot be read.
        """
        wanted = list(keys)
        found: set[str] = set()
        with self._lock, self._complaints(), self._connection.begin():
            for first in range(0, len(wanted), _KEYS_AT_ONCE):
                part = _ITEM.c.key.in_(wanted[first : first + _KEYS_AT_ONCE])
                found.update(self._connection.scalars(sa.select(_ITEM.c.key).where(part)))
        return tuple(key for key in wanted if key not in found)

    def purge(self, at: str | None = None) -> int:
        """Erase the texts whose days are over, and items that are done with as old; how many.

        An open item stays, without its text: its receipt still says what happened.

        Args:
            at: the moment to judge by, UTC, ISO 8601; None for now.

        Raises:
            StorageError: nothing was erased.
        """
        due = _ITEM.c.expires <= (at or now())
        with self._lock, self._complaints():
            with self._connection.begin():
                old = sa.delete(_ITEM).where(due, _ITEM.c.status == Status.DONE.value)
                texts = sa.update(_ITEM).where(due, _ITEM.c.text.is_not(None)).values(text=None)
                erased = self._connection.execute(old).rowcount
                erased += self._connection.execute(texts).rowcount
            if erased:
                # Until a checkpoint the write-ahead log still holds the texts.
                raw = self._connection.connection.driver_connection
                assert raw is not None  # noqa: S101 - open until `close`
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._connection.rollback()
        return erased

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _complaints(self) -> AbstractContextManager[None]:
        return complaints(self._url, way_out=_WAY_OUT)

    def _row(self, item: ReviewItem) -> dict[str, object]:
        row: dict[str, object] = msgspec.to_builtins(item)
        created = datetime.fromisoformat(item.created).astimezone(UTC)
        expires = created + timedelta(days=self._days)
        row["expires"] = expires.isoformat(timespec="milliseconds")
        if not self._keeps_text:
            row["text"] = None
        return row


def export(items: Iterable[ReviewItem]) -> Iterator[bytes]:
    """Items as lines of JSON, each ending in a newline."""
    for item in items:
        yield msgspec.json.encode({"format": 1, **msgspec.to_builtins(item)}) + b"\n"


def _item(row: sa.Row[Any]) -> ReviewItem:  # Any: the columns of a `Table` carry no types
    return ReviewItem(
        key=row.key,
        task=row.task,
        label=row.label,
        receipt=row.receipt,
        reason=row.reason,
        input_digest=row.input_digest,
        created=row.created,
        text=row.text,
        expires=row.expires,
        status=Status(row.status),
    )


def _make_private(path: Path) -> None:
    """Make the file for its owner alone before SQLite does for everybody; its companions inherit that."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise storage_error(path, error) from error
