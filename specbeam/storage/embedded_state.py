"""Histories and the tree pool in one sqlite file."""

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from specbeam.storage.embedded_database import EmbeddedDatabase, transaction
from specbeam.storage.embedded_history import EmbeddedHistories, delete_history, read_history
from specbeam.storage.embedded_tree_pool import EmbeddedTreePool
from specbeam.storage.history import DEFAULT_MAX_EVENTS, History
from specbeam.storage.tree_pool import (
    ClockMs,
    PooledTree,
    PoolLimits,
    PoolScope,
    pool_keys,
    wall_clock_ms,
)

_log = logging.getLogger(__name__)


class EmbeddedStateStore(EmbeddedHistories, EmbeddedTreePool):
    """A `StateStore` in a sqlite file, or in memory for tests.

    Histories are on the disk before they are acknowledged; trees are not, and what is lost of
    them with the machine is no harm.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_events: int = DEFAULT_MAX_EVENTS,
        pool_limits: PoolLimits | None = None,
        clock_ms: ClockMs = wall_clock_ms,
    ) -> None:
        """Prepare the store; the file is opened, and made, at the first use.

        Args:
            path: The file, or ``:memory:``.
            max_events: Events kept per user.
            pool_limits: What the tree pool keeps; None for the defaults.
            clock_ms: Tells the time for the tree pool.
        """
        database = EmbeddedDatabase(path)
        EmbeddedHistories.__init__(self, database, max_events)
        EmbeddedTreePool.__init__(self, database, pool_limits or PoolLimits(), clock_ms)

    async def read_with_pool(
        self,
        tenant: str,
        user_id: str,
        limit: int,
        scope: PoolScope,
        keys: Sequence[str] | None,
        pool_limit: int,
    ) -> tuple[History, tuple[PooledTree, ...]]:
        """Return a history and its trees in one visit to the thread."""

        def work(db: sqlite3.Connection) -> tuple[History, tuple[PooledTree, ...]]:
            history, keys_here = History((), 0), keys or ()
            if user_id:
                # The keys come from the last two events, however few the caller wants.
                history = read_history(db, tenant, user_id, max(2, limit))
                if keys is None:
                    keys_here = pool_keys([event.item_id for event in history.events])
            events = history.events[-limit:] if limit > 0 else ()
            trees = self._trees_or_none(db, scope, user_id, keys_here, pool_limit)
            return History(events, history.total), trees

        return await self._database.run(work)

    async def delete(self, tenant: str, user_id: str) -> bool:
        """Remove the history and the trees of the user in one transaction."""

        def work(db: sqlite3.Connection) -> bool:
            with transaction(db):
                had_history = delete_history(db, tenant, user_id)
                return self._delete_trees(db, tenant, user_id) or had_history

        return await self._database.run(work)

    async def ping(self) -> None:
        """Open the file, if it is not open, and read from it."""
        await self._database.run(lambda db: db.execute("SELECT 1 FROM events LIMIT 1").fetchone())

    async def close(self) -> None:
        """Finish what is queued, close the file and end the thread."""
        await self._database.close()

    def _trees_or_none(
        self,
        db: sqlite3.Connection,
        scope: PoolScope,
        user_id: str,
        keys: Sequence[str],
        limit: int,
    ) -> tuple[PooledTree, ...]:
        """Return trees; none where the pool is broken, which must not cost the history."""
        try:
            return self._read_trees(db, scope, user_id, keys, limit)
        except sqlite3.Error:
            _log.exception("pool_unreadable")
            return ()
