"""The sqlite file of an embedded store: its thread, its connection, its schema."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from specbeam.runtime.errors import StoreUnavailable

MEMORY: Final = ":memory:"

_SCHEMA_VERSION: Final = 2
_BUSY_TIMEOUT_S: Final = 2.0

# Version 2 added the tables of the pool and changed nothing else, so these statements also
# bring a file of version 1 up to date.
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
CREATE TABLE IF NOT EXISTS pool_keys (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, fingerprint TEXT NOT NULL, name TEXT NOT NULL,
    written_us INTEGER NOT NULL,
    UNIQUE (tenant, fingerprint, name)
);
CREATE INDEX IF NOT EXISTS pool_keys_by_time ON pool_keys (tenant, fingerprint, written_us);
CREATE INDEX IF NOT EXISTS pool_keys_by_age ON pool_keys (written_us);
CREATE TABLE IF NOT EXISTS pool_trees (
    key_id INTEGER NOT NULL REFERENCES pool_keys (id) ON DELETE CASCADE,
    owner TEXT NOT NULL, written_us INTEGER NOT NULL, data BLOB NOT NULL,
    UNIQUE (key_id, owner)
);
CREATE INDEX IF NOT EXISTS pool_trees_by_owner ON pool_trees (owner);
CREATE INDEX IF NOT EXISTS pool_trees_by_age ON pool_trees (written_us);
CREATE TABLE IF NOT EXISTS pool_tombstones (
    owner TEXT PRIMARY KEY, deleted_ms INTEGER NOT NULL
) WITHOUT ROWID;
"""

T = TypeVar("T")


class EmbeddedDatabase:
    """One connection, used on one thread of its own, off the event loop.

    A write is on the disk before it is acknowledged (write-ahead log, synchronous = FULL),
    except where it says otherwise. What is deleted is overwritten in the file.
    """

    def __init__(self, path: str | Path) -> None:
        """Prepare; the file is opened, and made, at the first use.

        Args:
            path: The file, or ``:memory:``.
        """
        self._path = str(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state-store")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns, done on the thread.

        Raises:
            StoreUnavailable: The file cannot be used, or the database was closed.
        """

        def job() -> T:
            try:
                return work(self._connect())
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable() from error

        if self._closed:
            raise StoreUnavailable("the history store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    async def close(self) -> None:
        """Finish what is queued, close the file and end the thread."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown()

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


class transaction:
    """A write transaction: committed at the end, undone after an exception.

    A hasty one is not on the disk when it is acknowledged: a crash of the machine may take it
    back, and nothing before it.
    """

    def __init__(self, db: sqlite3.Connection, *, hasty: bool = False) -> None:
        self._db = db
        self._hasty = hasty

    def __enter__(self) -> None:
        # With a write-ahead log, NORMAL leaves out the wait for the disk and nothing else.
        if self._hasty:
            self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            self._in_full_again()
            raise

    def __exit__(self, exc_type: type[BaseException] | None, *rest: object) -> None:
        try:
            if exc_type is not None:
                self._db.rollback()
            else:
                self._commit()
        finally:
            self._in_full_again()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._db.rollback()
            raise

    def _in_full_again(self) -> None:
        if self._hasty:
            self._db.execute("PRAGMA synchronous = FULL")


def _open(path: str) -> sqlite3.Connection:
    # Transactions are begun by hand: isolation_level None.
    db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA foreign_keys = ON")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version} is above {_SCHEMA_VERSION}")
        if version < _SCHEMA_VERSION:
            _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    with transaction(db):
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
