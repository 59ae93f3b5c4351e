"""Histories in Redis (6.2 or newer).

Two keys per user, in one hash slot: a list of events, oldest first, and a sorted set
of event ids whose score is the order of arrival. One script appends to both.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Final, cast
from urllib.parse import quote

from specbeam.storage.history import IDS_PER_EVENT, AppendResult, Event, History
from specbeam.storage.redis_connection import RedisConnection

# KEYS: events, ids. ARGV: most events, most ids, then event id and value by turns.
# Redis checks its memory before a script starts, so an append is all or nothing.
_APPEND: Final = """
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local order = tonumber(last[2] or 0)
local stored, duplicates = 0, 0
for i = 3, #ARGV, 2 do
  order = order + 1
  if redis.call('ZADD', KEYS[2], 'NX', string.format('%.0f', order), ARGV[i]) == 1 then
    redis.call('RPUSH', KEYS[1], ARGV[i + 1])
    stored = stored + 1
  else
    duplicates = duplicates + 1
  end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[2]) - 1)
return {stored, duplicates, redis.call('LLEN', KEYS[1])}
"""

_log = logging.getLogger(__name__)


class RedisHistories:
    """Reading and appending; see `HistoryStore`."""

    def __init__(self, connection: RedisConnection, max_events: int) -> None:
        """Prepare.

        Args:
            connection: Where.
            max_events: Events kept per user.
        """
        self._connection = connection
        self._max_events = max_events
        self._append = connection.client.register_script(_APPEND)

    async def read(self, tenant: str, user_id: str, limit: int) -> History:
        """Return the `limit` most recent events, in one round trip."""
        events_key, _ = history_keys(tenant, user_id)
        client = self._connection.client
        async with self._connection.guard(), client.pipeline(transaction=True) as pipeline:
            # At least one: from -0 would mean from the start.
            pipeline.lrange(events_key, -max(1, limit), -1)
            pipeline.llen(events_key)
            values, total = await pipeline.execute()
        return history_of(values if limit > 0 else [], total, events_key)

    async def append(self, tenant: str, user_id: str, events: Sequence[Event]) -> AppendResult:
        """Append events in the order given, in one atomic script."""
        arguments: list[str | int] = [self._max_events, self._max_events * IDS_PER_EVENT]
        for event in events:
            arguments += [event.event_id, _encode(event)]
        async with self._connection.guard():
            reply = await self._append(keys=history_keys(tenant, user_id), args=arguments)
        stored, duplicates, total = cast("list[int]", reply)
        return AppendResult(stored, duplicates, total)


def history_keys(tenant: str, user_id: str) -> tuple[str, str]:
    """Return the keys of a user: events, ids."""
    # The tag decides the slot of a cluster. Quoted, so that no two owners share a key.
    owner = f"{quote(tenant, safe='').replace('.', '%2E')}.{quote(user_id, safe='')}"
    return f"specbeam:history:{{{owner}}}:events", f"specbeam:history:{{{owner}}}:ids"


def history_of(values: Iterable[bytes], total: int, key: str) -> History:
    """Return the history behind stored values; those that are no events are left out.

    Args:
        values: Members of the list, oldest first.
        total: Length of the list.
        key: Its key, for the log.
    """
    events = (_decode(value, key) for value in values)
    return History(tuple(event for event in events if event is not None), total)


def _encode(event: Event) -> str:
    fields = [event.item_id, event.event_id, event.time_ms, event.type]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _decode(value: bytes, key: str) -> Event | None:
    """Return the event, or None for a value that is none, which is logged."""
    try:
        item_id, event_id, time_ms, event_type = json.loads(value)
        return Event(str(item_id), str(event_id), int(time_ms), str(event_type))
    except (ValueError, TypeError):
        _log.error("corrupt_history_value", extra={"key": key})
        return None
