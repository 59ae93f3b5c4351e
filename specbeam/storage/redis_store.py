"""Histories in Redis (6.2 or newer).

Two keys per user, in one hash slot: a list of events, oldest first, and a sorted set
of event ids whose score is the order of arrival. One script appends to both.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from urllib.parse import quote

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage.history import (
    DEFAULT_MAX_EVENTS,
    IDS_PER_EVENT,
    AppendResult,
    Event,
    History,
)

DEFAULT_TIMEOUT_S: Final = 1.0
_CONNECT_TIMEOUT_S: Final = 0.5
_MAX_CONNECTIONS: Final = 32

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


class RedisHistoryStore:
    """A `HistoryStore` in Redis.

    A broken connection is replaced once per call at no delay, so a restarted Redis is
    used again at once; a Redis that is gone fails each call within the timeout.
    """

    def __init__(
        self,
        url: str,
        *,
        max_events: int = DEFAULT_MAX_EVENTS,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Prepare the store; nothing is connected yet.

        Args:
            url: Such as ``redis://localhost:6379/0``.
            max_events: Events kept per user.
            timeout_s: Longest time a call may take, seconds.

        Raises:
            ValueError: The URL is not one of Redis.
        """
        self._max_events = max_events
        self._timeout_s = timeout_s
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_connect_timeout=min(_CONNECT_TIMEOUT_S, timeout_s),
            socket_timeout=timeout_s,
            # Appends are idempotent, so a second attempt after a broken connection is safe.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._append = self._redis.register_script(_APPEND)

    async def read(self, tenant: str, user_id: str, limit: int) -> History:
        """Return the `limit` most recent events, in one round trip."""
        events_key, _ = _keys(tenant, user_id)
        async with self._guard():
            pipeline = self._redis.pipeline(transaction=True)
            # At least one: from -0 would mean from the start.
            pipeline.lrange(events_key, -max(1, limit), -1)
            pipeline.llen(events_key)
            values, total = await pipeline.execute()
        events = (_decode(value, events_key) for value in values if limit > 0)
        return History(tuple(event for event in events if event is not None), total)

    async def append(self, tenant: str, user_id: str, events: Sequence[Event]) -> AppendResult:
        """Append events in the order given, in one atomic script."""
        arguments: list[str | int] = [self._max_events, self._max_events * IDS_PER_EVENT]
        for event in events:
            arguments += [event.event_id, _encode(event)]
        async with self._guard():
            reply = await self._append(keys=_keys(tenant, user_id), args=arguments)
        stored, duplicates, total = cast("list[int]", reply)
        return AppendResult(stored, duplicates, total)

    async def delete(self, tenant: str, user_id: str) -> bool:
        """Remove every key of the user."""
        async with self._guard():
            removed = await self._redis.unlink(*_keys(tenant, user_id))
        return int(removed) > 0

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""
        async with self._guard():
            await cast("Any", self._redis.ping())

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose(close_connection_pool=True)

    @asynccontextmanager
    async def _guard(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError) as error:
            # OSError covers TimeoutError.
            raise StoreUnavailable() from error


def _keys(tenant: str, user_id: str) -> tuple[str, str]:
    # The tag decides the slot of a cluster. Quoted, so that no two owners share a key.
    owner = f"{quote(tenant, safe='').replace('.', '%2E')}.{quote(user_id, safe='')}"
    return f"specbeam:history:{{{owner}}}:events", f"specbeam:history:{{{owner}}}:ids"


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
