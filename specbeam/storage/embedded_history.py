"""Histories in a sqlite file, for one process without Redis."""

import sqlite3
from collections.abc import Sequence

from specbeam.storage.embedded_database import EmbeddedDatabase, transaction
from specbeam.storage.history import IDS_PER_EVENT, AppendResult, Event, History


class EmbeddedHistories:
    """Reading and appending; see `HistoryStore`."""

    def __init__(self, database: EmbeddedDatabase, max_events: int) -> None:
        """Prepare.

        Args:
            database: Where.
            max_events: Events kept per user.
        """
        self._database = database
        self._max_events = max_events

    async def read(self, tenant: str, user_id: str, limit: int) -> History:
        """Return the `limit` most recent events."""
        return await self._database.run(lambda db: read_history(db, tenant, user_id, limit))

    async def append(self, tenant: str, user_id: str, events: Sequence[Event]) -> AppendResult:
        """Append events in the order given, in one transaction."""
        given = tuple(events)
        return await self._database.run(
            lambda db: _append(db, tenant, user_id, given, self._max_events)
        )


def read_history(db: sqlite3.Connection, tenant: str, user_id: str, limit: int) -> History:
    """Return the `limit` most recent events."""
    rows = db.execute(
        "SELECT item_id, event_id, time_ms, type FROM events"
        " WHERE tenant = ? AND user_id = ? ORDER BY arrival DESC LIMIT ?",
        (tenant, user_id, max(0, limit)),
    ).fetchall()
    return History(tuple(Event(*row) for row in reversed(rows)), _count(db, tenant, user_id))


def delete_history(db: sqlite3.Connection, tenant: str, user_id: str) -> bool:
    """Remove every row of the user, inside a transaction; return whether there was one."""
    removed = sum(
        db.execute(f"DELETE FROM {table} WHERE tenant = ? AND user_id = ?", owner).rowcount
        for owner in [(tenant, user_id)]
        for table in ("events", "event_ids")
    )
    return removed > 0


def _append(
    db: sqlite3.Connection, tenant: str, user_id: str, events: Sequence[Event], max_events: int
) -> AppendResult:
    owner = (tenant, user_id)
    with transaction(db):
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


def _count(db: sqlite3.Connection, tenant: str, user_id: str) -> int:
    (total,) = db.execute(
        "SELECT COUNT(*) FROM events WHERE tenant = ? AND user_id = ?", (tenant, user_id)
    ).fetchone()
    return int(total)
