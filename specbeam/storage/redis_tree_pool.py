"""The tree pool in a single Redis (6.2 or newer); see `redis_pool_scripts` for its keys.

A Redis Cluster is not supported: the scripts reach across slots.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, cast
from urllib.parse import quote

from redis.asyncio import Redis

from specbeam.storage import redis_pool_scripts as scripts
from specbeam.storage.redis_connection import RedisConnection
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
    own_key,
    owner_name,
    owner_of_write,
)

_TIME_BYTES: Final = 8
_COUNTED_AT_ONCE: Final = 256

_log = logging.getLogger(__name__)


class RedisTreePool:
    """A `TreePoolStore` and `BatchingTreePool` in Redis."""

    def __init__(self, connection: RedisConnection, limits: PoolLimits, clock_ms: ClockMs) -> None:
        """Prepare.

        Args:
            connection: Where.
            limits: What is kept.
            clock_ms: Tells the time. Several writers need clocks that agree to within the time
                a request takes.
        """
        self._connection = connection
        self._limits = limits
        self._clock_ms = clock_ms
        client = connection.client
        self._add = client.register_script(scripts.ADD)
        self._read_script = client.register_script(scripts.READ)
        self._delete = client.register_script(scripts.DELETE)
        self._count = client.register_script(scripts.COUNT)

    async def read_trees(
        self, scope: PoolScope, user_id: str, keys: Sequence[str], limit: int
    ) -> tuple[PooledTree, ...]:
        """Return trees in one round trip; a value that is no tree is left out and logged."""
        _, _, trees = await self._read_all(None, 0, scope, user_id, keys, limit)
        return trees

    async def add(
        self, scope: PoolScope, user_id: str, keys: Sequence[str], data: bytes, started_ms: int
    ) -> bool:
        """Write a tree in one atomic script."""
        (stored,) = await self.add_many([PoolWrite(scope, user_id, tuple(keys), data, started_ms)])
        return stored

    async def add_many(self, writes: Sequence[PoolWrite]) -> tuple[bool, ...]:
        """Write trees in one pipeline, one atomic script each."""
        now_ms = self._clock_ms()
        accepted = [is_acceptable(write, self._limits, now_ms) for write in writes]
        if not any(accepted):
            return tuple(accepted)
        client = self._connection.client
        async with self._connection.guard(), client.pipeline(transaction=False) as pipeline:
            for write, may in zip(writes, accepted, strict=True):
                if may:
                    await self._send(write, now_ms, pipeline)
            replies = iter(await pipeline.execute())
        return tuple(may and next(replies) == 1 for may in accepted)

    async def delete_user(self, tenant: str, user_id: str) -> bool:
        """Remove every tree of the user in one atomic script."""
        return await self._delete_with(tenant, user_id, ())

    async def statistics(self, scope: PoolScope) -> PoolStatistics:
        """Count, a few hundred keys at a time, so that nobody waits long for Redis."""
        oldest_us = self._oldest_us()
        total = [0, 0, 0]
        client = self._connection.client
        async with self._connection.guard():
            names = iter(cast("list[bytes]", await client.zrange(keys_key(scope), 0, -1)))
            while chunk := list(islice(names, _COUNTED_AT_ONCE)):
                reply = await self._count(keys=[], args=[scope_name(scope), oldest_us, *chunk])
                total = [a + b for a, b in zip(total, cast("list[int]", reply), strict=True)]
        return PoolStatistics(*total)

    async def _read_all(
        self,
        events_key: str | None,
        limit: int,
        scope: PoolScope,
        user_id: str,
        keys: Sequence[str] | None,
        pool_limit: int,
    ) -> tuple[list[bytes], int, tuple[PooledTree, ...]]:
        """Return stored events, their total and trees; no keys mean those of the last events."""
        owner = owner_name(scope.tenant, user_id) if user_id else ""
        own = own_key(owner) if owner else ""
        given = [key for key in keys_to_read("", keys or ()) if key != own]
        how = "derive" if keys is None else "given"
        # At least one event: from -0 would mean from the start.
        arguments: list[str | int] = [scope_name(scope), max(1, limit), own, how, *given]
        async with self._connection.guard():
            reply = await self._read_script(keys=[events_key] if events_key else [], args=arguments)
        values, total, hashes = cast("tuple[list[bytes], int, list[Any]]", reply)
        found = [list(_stored_trees(scope, name, stored)) for name, stored in hashes]
        trees = choose_trees(found, owner, pool_limit, self._oldest_us())
        return values if limit > 0 else [], total, trees

    async def _delete_with(self, tenant: str, user_id: str, more_keys: Sequence[str]) -> bool:
        """Remove the trees of the user and other keys; return whether there was anything."""
        owner = owner_name(tenant, user_id)
        keys = [index_key(tenant, owner), tombstone_key(tenant, owner), *more_keys]
        arguments: list[str | int] = [_tenant_name(tenant), owner]
        arguments += [self._clock_ms(), self._limits.tombstone_ms]
        async with self._connection.guard():
            removed = await self._delete(keys=keys, args=arguments)
        return cast("int", removed) > 0

    async def _send(self, write: PoolWrite, now_ms: int, pipeline: Redis) -> None:
        owner = owner_of_write(write)
        tenant = write.scope.tenant
        named = [index_key(tenant, owner), tombstone_key(tenant, owner)] if write.user_id else []
        limits = self._limits
        arguments: list[str | bytes | int] = [scope_name(write.scope), owner, write.data]
        arguments += [write.started_ms, now_ms * 1000, limits.trees_per_key, limits.max_keys]
        arguments += [scripts.MOST_EVICTIONS, limits.max_age_us // 1000]
        arguments += keys_of_write(write, owner)
        await self._add(keys=[keys_key(write.scope), *named], args=arguments, client=pipeline)

    def _oldest_us(self) -> int:
        return self._clock_ms() * 1000 - self._limits.max_age_us


def scope_name(scope: PoolScope) -> str:
    """Return the name of a scope inside keys."""
    # One dot, between the two: the scripts rely on it.
    fingerprint = hashlib.blake2b(scope.fingerprint.encode(), digest_size=8).hexdigest()
    return f"{_tenant_name(scope.tenant)}.{fingerprint}"


def trees_key(scope: PoolScope, key: str) -> str:
    """Return where the trees under one key are."""
    return f"specbeam:pool:trees:{{{scope_name(scope)}}}:{key}"


def keys_key(scope: PoolScope) -> str:
    """Return where the keys of a scope are."""
    return f"specbeam:pool:keys:{{{scope_name(scope)}}}"


def index_key(tenant: str, owner: str) -> str:
    """Return where it is written what an owner wrote."""
    return f"specbeam:pool:owner:{{{_tenant_name(tenant)}}}:{owner}"


def tombstone_key(tenant: str, owner: str) -> str:
    """Return where the deletion of an owner is remembered."""
    return f"specbeam:pool:gone:{{{_tenant_name(tenant)}}}:{owner}"


def _tenant_name(tenant: str) -> str:
    return quote(tenant, safe="").replace(".", "%2E")


def _stored_trees(
    scope: PoolScope, name: bytes, stored: list[bytes] | None
) -> Iterator[StoredTree]:
    """Yield what a hash holds, given as field and value by turns; None where it is no hash."""
    fields = iter(stored or ())
    sound = stored is not None
    for owner, value in zip(fields, fields, strict=True):
        if len(value) < _TIME_BYTES:
            sound = False
            continue
        written_us = int.from_bytes(value[:_TIME_BYTES], "big")
        yield StoredTree(owner.decode(errors="replace"), written_us, value[_TIME_BYTES:])
    if not sound:
        key = trees_key(scope, name.decode(errors="replace"))
        _log.error("corrupt_pool_value", extra={"key": key})
