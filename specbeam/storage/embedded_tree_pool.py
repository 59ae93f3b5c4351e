"""The tree pool in a sqlite file, for one process without Redis."""

import logging
import sqlite3
from collections.abc import Iterator, Sequence

from specbeam.storage.embedded_database import EmbeddedDatabase, transaction
from specbeam.storage.tree_pool import (
    ClockMs,
    PooledTree,
    PoolLimits,
    PoolScope,
    PoolStatistics,
    PoolWrite,
    StoredTree,
    choose_trees,
    is_acceptable,
    keys_of_write,
    keys_to_read,
    owner_name,
    owner_of_write,
)

_log = logging.getLogger(__name__)


class EmbeddedTreePool:
    """A `TreePoolStore` and `BatchingTreePool` in a sqlite file.

    What has aged out, tombstones included, is removed at the next write.
    """

    def __init__(self, database: EmbeddedDatabase, limits: PoolLimits, clock_ms: ClockMs) -> None:
        """Prepare.

        Args:
            database: Where.
            limits: What is kept.
            clock_ms: Tells the time.
        """
        self._database = database
        self._limits = limits
        self._clock_ms = clock_ms

    async def read_trees(
        self, scope: PoolScope, user_id: str, keys: Sequence[str], limit: int
    ) -> tuple[PooledTree, ...]:
        """Return trees; a row that is no tree is left out and logged."""
        return await self._database.run(
            lambda db: self._read_trees(db, scope, user_id, keys, limit)
        )

    async def add(
        self, scope: PoolScope, user_id: str, keys: Sequence[str], data: bytes, started_ms: int
    ) -> bool:
        """Write a tree in one transaction, without waiting for the disk."""
        (stored,) = await self.add_many([PoolWrite(scope, user_id, tuple(keys), data, started_ms)])
        return stored

    async def add_many(self, writes: Sequence[PoolWrite]) -> tuple[bool, ...]:
        """Write trees in one transaction, without waiting for the disk."""
        given = tuple(writes)

        def work(db: sqlite3.Connection) -> tuple[bool, ...]:
            now_ms = self._clock_ms()
            with transaction(db, hasty=True):
                stored = tuple(_add(db, write, now_ms, self._limits) for write in given)
                for scope in {write.scope for write in given}:
                    _evict(db, scope, self._limits)
                self._sweep(db, now_ms)
            return stored

        return await self._database.run(work)

    async def delete_user(self, tenant: str, user_id: str) -> bool:
        """Remove every tree of the user in one transaction."""

        def work(db: sqlite3.Connection) -> bool:
            with transaction(db):
                return self._delete_trees(db, tenant, user_id)

        return await self._database.run(work)

    async def statistics(self, scope: PoolScope) -> PoolStatistics:
        """Count what can be read."""
        row = await self._database.run(
            lambda db: db.execute(
                "SELECT COUNT(DISTINCT key_id), COUNT(*), COALESCE(SUM(LENGTH(data)), 0)"
                " FROM pool_trees JOIN pool_keys ON pool_keys.id = key_id"
                " WHERE tenant = ? AND fingerprint = ? AND pool_trees.written_us >= ?",
                (scope.tenant, scope.fingerprint, self._oldest_us()),
            ).fetchone()
        )
        return PoolStatistics(*row)

    def _read_trees(
        self,
        db: sqlite3.Connection,
        scope: PoolScope,
        user_id: str,
        keys: Sequence[str],
        limit: int,
    ) -> tuple[PooledTree, ...]:
        owner = owner_name(scope.tenant, user_id) if user_id else ""
        found = [list(_stored_trees(db, scope, key)) for key in keys_to_read(owner, keys)]
        return choose_trees(found, owner, limit, self._oldest_us())

    def _delete_trees(self, db: sqlite3.Connection, tenant: str, user_id: str) -> bool:
        """Remove the user's trees and leave a tombstone, inside a transaction."""
        owner, now_ms = owner_name(tenant, user_id), self._clock_ms()
        keys = db.execute("SELECT key_id FROM pool_trees WHERE owner = ?", (owner,)).fetchall()
        db.execute("DELETE FROM pool_trees WHERE owner = ?", (owner,))
        db.executemany(
            "DELETE FROM pool_keys WHERE id = ?"
            " AND NOT EXISTS (SELECT 1 FROM pool_trees WHERE key_id = pool_keys.id)",
            keys,
        )
        self._sweep(db, now_ms)
        db.execute("INSERT OR REPLACE INTO pool_tombstones VALUES (?, ?)", (owner, now_ms))
        return bool(keys)

    def _sweep(self, db: sqlite3.Connection, now_ms: int) -> None:
        """Remove what has aged out in any scope, inside a transaction."""
        oldest_us = now_ms * 1000 - self._limits.max_age_us
        # A key is as young as its youngest tree.
        db.execute("DELETE FROM pool_keys WHERE written_us < ?", (oldest_us,))
        db.execute("DELETE FROM pool_trees WHERE written_us < ?", (oldest_us,))
        forgotten_ms = now_ms - self._limits.tombstone_ms
        db.execute("DELETE FROM pool_tombstones WHERE deleted_ms < ?", (forgotten_ms,))

    def _oldest_us(self) -> int:
        return self._clock_ms() * 1000 - self._limits.max_age_us


def _stored_trees(db: sqlite3.Connection, scope: PoolScope, key: str) -> Iterator[StoredTree]:
    rows = db.execute(
        "SELECT owner, pool_trees.written_us, data"
        " FROM pool_trees JOIN pool_keys ON pool_keys.id = key_id"
        " WHERE tenant = ? AND fingerprint = ? AND name = ?",
        (scope.tenant, scope.fingerprint, key),
    )
    for owner, written_us, data in rows:
        # sqlite keeps whatever it is given in a column of any type.
        if isinstance(owner, str) and isinstance(written_us, int) and isinstance(data, bytes):
            yield StoredTree(owner, written_us, data)
        else:
            _log.error("corrupt_pool_value", extra={"key": key})


def _add(db: sqlite3.Connection, write: PoolWrite, now_ms: int, limits: PoolLimits) -> bool:
    owner = owner_of_write(write)
    if not is_acceptable(write, limits, now_ms) or _is_deleted(db, owner, write.started_ms):
        return False
    written_us = _next_time(db, write.scope, now_ms)
    for later, key in enumerate(keys_of_write(write, owner)):
        key_id = _touch_key(db, write.scope, key, written_us + later)
        db.execute(
            "INSERT OR REPLACE INTO pool_trees (key_id, owner, written_us, data)"
            " VALUES (?, ?, ?, ?)",
            (key_id, owner, written_us + later, write.data),
        )
        db.execute(
            "DELETE FROM pool_trees WHERE key_id = ? AND owner IN ("
            " SELECT owner FROM pool_trees WHERE key_id = ?"
            " ORDER BY written_us DESC LIMIT -1 OFFSET ?)",
            (key_id, key_id, limits.trees_per_key),
        )
    return True


def _is_deleted(db: sqlite3.Connection, owner: str, started_ms: int) -> bool:
    row = db.execute(
        "SELECT 1 FROM pool_tombstones WHERE owner = ? AND deleted_ms >= ?", (owner, started_ms)
    ).fetchone()
    return row is not None


def _next_time(db: sqlite3.Connection, scope: PoolScope, now_ms: int) -> int:
    """Return a time, microseconds, after that of every write before it in the scope."""
    (last,) = db.execute(
        "SELECT COALESCE(MAX(written_us), 0) FROM pool_keys WHERE tenant = ? AND fingerprint = ?",
        (scope.tenant, scope.fingerprint),
    ).fetchone()
    return max(now_ms * 1000, int(last) + 1)


def _touch_key(db: sqlite3.Connection, scope: PoolScope, key: str, written_us: int) -> int:
    name = (scope.tenant, scope.fingerprint, key)
    db.execute(
        "INSERT INTO pool_keys (tenant, fingerprint, name, written_us) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (tenant, fingerprint, name) DO UPDATE SET written_us = excluded.written_us",
        (*name, written_us),
    )
    (key_id,) = db.execute(
        "SELECT id FROM pool_keys WHERE tenant = ? AND fingerprint = ? AND name = ?", name
    ).fetchone()
    return int(key_id)


def _evict(db: sqlite3.Connection, scope: PoolScope, limits: PoolLimits) -> None:
    """Remove the least recently written keys beyond the bound, with their trees."""
    db.execute(
        "DELETE FROM pool_keys WHERE id IN ("
        " SELECT id FROM pool_keys WHERE tenant = ? AND fingerprint = ?"
        " ORDER BY written_us DESC LIMIT -1 OFFSET ?)",
        (scope.tenant, scope.fingerprint, limits.max_keys),
    )
