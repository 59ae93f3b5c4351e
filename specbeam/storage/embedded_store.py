"""Histories in a sqlite file, for one process without Redis."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage.history import (
    DEFAULT_MAX_EVENTS,
    IDS_PER_EVENT,
    AppendResult,
    Event,
    History,
)

MEMORY: Final = ":memory:"

_SCHEMA_VERSION: Final = 1
_BUSY_TIMEOUT_S: Final = 2.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    tenant TEXT NOT NULL, user_id TEXT NOT NULL, arrival INTEGER NOT NULL,
    item_id TEXT NOT NULL, event_id TEXT NOT NULL, time_ms INTEGER NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (tenant, user_id, arrival)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event_ids (
    tenant TEXT NOT NULL, user_id TEXT NOT NULL, event_id TEXT NOT NULL, arrival INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id, event_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_ids_by_arrival ON event_ids (tenant, user_id, arrival);
"""

T = TypeVar("T")


class EmbeddedHistoryStore:
    """A `HistoryStore` in a sqlite file, or in memory for tests.

    All work is done on one thread, off the event loop. A write is on the disk before
    it is acknowledged (write-ahead log, synchronous = FULL).
    """

    def __init__(self, path: str | Path, *, max_events: int = DEFAULT_MAX_EVENTS) -> None:
        """Prepare the store; the file is opened, and made, at the first use.

        Args:
            path: The file, or ``:memory:``.
            max_events: Events kept per user.
        """
        self._path = str(path)
        self._max_events = max_events
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history-store")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def read(self, tenant: str, user_id: str, limit: int) -> History:
        """Return the `limit` most recent events."""
        return await self._run(lambda db: _read(db, tenant, user_id, max(0, limit)))

    async def append(self, tenant: str, user_id: str, events: Sequence[Event]) -> AppendResult:
        """Append events in the order given, in one transaction."""
        given = tuple(events)
        return await self._run(lambda db: _append(db, tenant, user_id, given, self._max_events))

    async def delete(self, tenant: str, user_id: str) -> bool:
        """Remove every row of the user."""
        return await self._run(lambda db: _delete(db, tenant, user_id))

    async def ping(self) -> None:
        """Open the file, if it is not open, and read from it."""
        await self._run(lambda db: db.execute("SELECT 1 FROM events LIMIT 1").fetchone())

    async def close(self) -> None:
        """Finish what is queued, close the file and end the thread."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def job() -> T:
            try:
                return work(self._connect())
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable() from error

        if self._closed:
            raise StoreUnavailable("the history store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path != MEMORY:
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(self._path)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _open(path: str) -> sqlite3.Connection:
    # Transactions are begun by hand: isolation_level None.
    db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA_VERSION):
            raise sqlite3.DatabaseError(f"schema version {version} is not {_SCHEMA_VERSION}")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def _read(db: sqlite3.Connection, tenant: str, user_id: str, limit: int) -> History:
    rows = db.execute(
        "SELECT item_id, event_id, time_ms, type FROM events"
        " WHERE tenant = ? AND user_id = ? ORDER BY arrival DESC LIMIT ?",
        (tenant, user_id, limit),
    ).fetchall()
    return History(tuple(Event(*row) for row in reversed(rows)), _count(db, tenant, user_id))


def _append(
    db: sqlite3.Connection, tenant: str, user_id: str, events: Sequence[Event], max_events: int
) -> AppendResult:
    owner = (tenant, user_id)
    with _transaction(db):
        (last,) = db.execute(
            "SELECT COALESCE(MAX(arrival), 0) FROM event_ids WHERE tenant = ? AND user_id = ?",
            owner,
        ).fetchone()
        stored = 0
        for arrival, event in enumerate(events, start=last + 1):
            stored += _insert(db, owner, arrival, event)
        _trim(db, "events", owner, max_events)
        _trim(db, "event_ids", owner, max_events * IDS_PER_EVENT)
        return AppendResult(stored, len(events) - stored, _count(db, tenant, user_id))


def _insert(db: sqlite3.Connection, owner: tuple[str, str], arrival: int, event: Event) -> int:
    new = db.execute(
        "INSERT OR IGNORE INTO event_ids (tenant, user_id, event_id, arrival) VALUES (?, ?, ?, ?)",
        (*owner, event.event_id, arrival),
    ).rowcount
    if new:
        db.execute(
            "INSERT INTO events (tenant, user_id, arrival, item_id, event_id, time_ms, type)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*owner, arrival, event.item_id, event.event_id, event.time_ms, event.type),
        )
    return new


def _trim(db: sqlite3.Connection, table: str, owner: tuple[str, str], keep: int) -> None:
    db.execute(
        f"DELETE FROM {table} WHERE tenant = ? AND user_id = ? AND arrival <= ("
        f" SELECT arrival FROM {table} WHERE tenant = ? AND user_id = ?"
        " ORDER BY arrival DESC LIMIT 1 OFFSET ?)",
        (*owner, *owner, keep),
    )


def _delete(db: sqlite3.Connection, tenant: str, user_id: str) -> bool:
    with _transaction(db):
        removed = sum(
            db.execute(f"DELETE FROM {table} WHERE tenant = ? AND user_id = ?", owner).rowcount
            for owner in [(tenant, user_id)]
            for table in ("events", "event_ids")
        )
    return removed > 0


def _count(db: sqlite3.Connection, tenant: str, user_id: str) -> int:
    (total,) = db.execute(
        "SELECT COUNT(*) FROM events WHERE tenant = ? AND user_id = ?", (tenant, user_id)
    ).fetchone()
    return int(total)


class _transaction:
    """A write transaction: committed at the end, undone after an exception."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, exc_type: type[BaseException] | None, *rest: object) -> None:
        if exc_type is not None:
            self._db.rollback()
            return
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._db.rollback()
            raise
