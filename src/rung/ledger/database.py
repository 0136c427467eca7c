"""Opening the database behind an address, and saying in a sentence what a database complains about.

SQLite gets the settings that durability and erasure need; another database keeps its own. What is stored is
`schema`'s business.
"""

from __future__ import annotations

import enum
import functools
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from rung.errors import StorageError

BUSY_TIMEOUT_S = 5.0
"""Seconds to wait for another process's transaction to end."""

_SQLITE_SETTINGS = {
    "foreign_keys": "ON",
    "secure_delete": "ON",  # what is deleted is overwritten, not only unlinked
    "synchronous": "FULL",  # an acknowledged commit survives a power cut
    "fullfsync": "ON",  # the same on macOS, where fsync alone does not reach the disk
    "checkpoint_fullfsync": "ON",
}


class Fault(enum.Enum):
    """What a database may complain about, as far as it changes what to do."""

    FULL = enum.auto()
    LOCKED = enum.auto()
    READ_ONLY = enum.auto()
    UNREACHABLE = enum.auto()
    DAMAGED = enum.auto()
    OTHER = enum.auto()

    @property
    def shared(self) -> bool:
        """Whether it would meet any other transaction just now as well."""
        return self in (Fault.LOCKED, Fault.READ_ONLY, Fault.UNREACHABLE)


_FAULTS = {
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_PERM: Fault.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Fault.UNREACHABLE,
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
}

_SENTENCES = {
    Fault.FULL: ("the disk is full", "free some space; nothing recorded so far is lost"),
    Fault.LOCKED: (
        "another process has locked it",
        "wait for the other process, or give each its own ledger.url in rung.toml",
    ),
    Fault.READ_ONLY: (
        "it is read-only",
        "make the file and its folder writable, or set ledger.url in rung.toml to another place",
    ),
    Fault.UNREACHABLE: (
        "it cannot be opened",
        "check that its folder exists and can be written to, or set ledger.url in rung.toml",
    ),
}

_DAMAGED = "the file is damaged or is not a database"

LEDGER_WAY_OUT = "rung ledger verify shows what is wrong; restore a damaged file from a backup"
"""What to do about a ledger that is damaged or complains of something unforeseen."""


def locate(url: str, root: Path) -> sa.URL:
    """The address with a relative SQLite path made absolute.

    Args:
        url: `ledger.url` of `rung.toml`.
        root: the folder that relative paths start from.

    Raises:
        StorageError: not an address, or one that would keep nothing.
    """
    hint = 'for example: url = "sqlite:///rung.db"'
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        scheme = url.partition("://")[0]  # what follows may hold a password
        raise StorageError(
            f"ledger.url: {scheme!r}… is not a database address", hint=hint
        ) from error
    if parsed.get_backend_name() != "sqlite":
        return parsed
    if parsed.database in (None, "", ":memory:"):
        raise StorageError("ledger.url: a ledger in memory would keep nothing", hint=hint)
    return parsed.set(database=str(root / str(parsed.database)))


def store_path(url: sa.URL, root: Path) -> Path:
    """The SQLite file; for a database server the name that files kept beside it take in `root`."""
    if url.get_backend_name() == "sqlite":
        return Path(str(url.database))
    return root / f"{url.database or 'rung'}.db"


def make_engine(url: sa.URL, *, writes: bool, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sa.Engine:
    """An engine whose connections are ready for use: one connection a `connect`, none kept.

    Args:
        url: from `locate`.
        writes: take the write lock when a transaction begins; otherwise refuse every write.
        busy_timeout_s: seconds to wait for another process's transaction.

    Raises:
        StorageError: there is no driver for this kind of database.
    """
    sqlite = url.get_backend_name() == "sqlite"
    arguments = {"timeout": busy_timeout_s, "check_same_thread": False} if sqlite else {}
    try:
        engine = sa.create_engine(url, poolclass=NullPool, connect_args=arguments)
    except (ImportError, sa.exc.ArgumentError) as error:
        raise StorageError(
            f"ledger.url: no driver for {url.drivername!r} is installed ({error})",
            hint="install the driver, or use sqlite:///rung.db",
        ) from error
    if sqlite:
        event.listen(engine, "connect", functools.partial(_configure, writes, busy_timeout_s))
        event.listen(engine, "begin", _begin_writing if writes else _begin_reading)
    return engine


@contextmanager
def complaints(url: sa.URL, *, way_out: str = LEDGER_WAY_OUT) -> Iterator[None]:
    """Turn what the database raises inside into a `StorageError` that names it.

    Args:
        url: the database.
        way_out: what to do when it is damaged or complains of something unforeseen.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise storage_error(url, error, way_out=way_out) from error


def fault_of(error: sa.exc.DBAPIError) -> Fault:
    """What kind of complaint this is."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return Fault.OTHER if code is None else _FAULTS.get(code & 0xFF, Fault.OTHER)


def storage_error(
    url: sa.URL, error: sa.exc.DBAPIError, *, way_out: str = LEDGER_WAY_OUT
) -> StorageError:
    """The complaint as a sentence that names the database, with a way out (arguments as `complaints`)."""
    name = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
    fault = fault_of(error)
    if fault is Fault.OTHER and _disk_is_full(url):
        fault = Fault.FULL  # SQLite reports it as an I/O error when the file cannot be mapped
    unforeseen = (_DAMAGED if fault is Fault.DAMAGED else str(error.orig), way_out)
    what, hint = _SENTENCES.get(fault, unforeseen)
    return StorageError(f"{str(name)!r}: {what}", hint=hint)


def _disk_is_full(url: sa.URL) -> bool:
    if url.get_backend_name() != "sqlite":
        return False
    try:
        return shutil.disk_usage(Path(str(url.database)).parent).free < 1 << 16
    except OSError:
        return False


def _configure(
    writes: bool,
    busy_timeout_s: float,
    connection: DBAPIConnection,
    _entry: ConnectionPoolEntry,
) -> None:
    """Settings of one SQLite connection; transactions begin and end only where the code says so."""
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - narrows the driver's type
    connection.isolation_level = None
    for name, value in _SQLITE_SETTINGS.items():
        connection.execute(f"PRAGMA {name}={value}")
    if writes:
        _write_ahead(connection, busy_timeout_s)
    else:
        connection.execute("PRAGMA query_only=ON")
        connection.text_factory = _decode_anything


def _write_ahead(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Switch to WAL, which SQLite refuses at once instead of waiting while another process looks."""
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            code = error.sqlite_errorcode & 0xFF
            if code != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _decode_anything(raw: bytes) -> str:
    """A damaged text is still read, so that `verify` can say which record holds it."""
    return raw.decode("utf-8", "surrogateescape")


def _begin_writing(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
