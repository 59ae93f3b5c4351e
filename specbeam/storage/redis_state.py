"""Histories and the tree pool in one Redis."""

from collections.abc import Sequence

from specbeam.storage.history import DEFAULT_MAX_EVENTS, History
from specbeam.storage.redis_connection import DEFAULT_TIMEOUT_S, RedisConnection
from specbeam.storage.redis_history import RedisHistories, history_keys, history_of
from specbeam.storage.redis_tree_pool import RedisTreePool
from specbeam.storage.tree_pool import (
    ClockMs,
    PooledTree,
    PoolLimits,
    PoolScope,
    wall_clock_ms,
)


class RedisStateStore(RedisHistories, RedisTreePool):
    """A `StateStore` in a single Redis; a Redis Cluster is not supported."""

    def __init__(
        self,
        url: str,
        *,
        max_events: int = DEFAULT_MAX_EVENTS,
        pool_limits: PoolLimits | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        clock_ms: ClockMs = wall_clock_ms,
    ) -> None:
        """Prepare the store; nothing is connected yet.

        Args:
            url: Such as ``redis://localhost:6379/0``.
            max_events: Events kept per user.
            pool_limits: What the tree pool keeps; None for the defaults.
            timeout_s: Longest time a call may take, seconds.
            clock_ms: Tells the time for the tree pool.

        Raises:
            ValueError: The URL is not one of Redis.
        """
        connection = RedisConnection(url, timeout_s=timeout_s)
        RedisHistories.__init__(self, connection, max_events)
        RedisTreePool.__init__(self, connection, pool_limits or PoolLimits(), clock_ms)

    async def read_with_pool(
        self,
        tenant: str,
        user_id: str,
        limit: int,
        scope: PoolScope,
        keys: Sequence[str] | None,
        pool_limit: int,
    ) -> tuple[History, tuple[PooledTree, ...]]:
        """Return a history and its trees by one script: a request costs one round trip."""
        events_key = history_keys(tenant, user_id)[0] if user_id else None
        values, total, trees = await self._read_all(
            events_key, limit, scope, user_id, keys, pool_limit
        )
        return history_of(values, total, events_key or ""), trees

    async def delete(self, tenant: str, user_id: str) -> bool:
        """Remove the history and the trees of the user in one atomic script."""
        return await self._delete_with(tenant, user_id, history_keys(tenant, user_id))

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""
        await self._connection.ping()

    async def close(self) -> None:
        """Close every connection."""
        await self._connection.close()
