"""Connections to Redis, and what becomes of their failures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from specbeam.runtime.errors import StoreUnavailable

DEFAULT_TIMEOUT_S: Final = 1.0
_CONNECT_TIMEOUT_S: Final = 0.5
_MAX_CONNECTIONS: Final = 32


class RedisConnection:
    """Pooled connections to one Redis.

    A broken connection is replaced once per call at no delay, so a restarted Redis is
    used again at once; a Redis that is gone fails each call within the timeout.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: Such as ``redis://localhost:6379/0``.
            timeout_s: Longest time a call may take, seconds.

        Raises:
            ValueError: The URL is not one of Redis.
        """
        self._timeout_s = timeout_s
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_connect_timeout=min(_CONNECT_TIMEOUT_S, timeout_s),
            socket_timeout=timeout_s,
            # Every write of ours is idempotent: a second attempt after a broken connection is safe.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        self.client: Redis = Redis.from_pool(pool)

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Bound the time of what is done inside.

        Raises:
            StoreUnavailable: It took too long, or Redis failed.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError) as error:
            # OSError covers TimeoutError.
            raise StoreUnavailable() from error

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""
        async with self.guard():
            await cast("Any", self.client.ping())

    async def close(self) -> None:
        """Close every connection."""
        await self.client.aclose(close_connection_pool=True)
