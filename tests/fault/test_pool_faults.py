"""Redis killed, frozen or full under the tree pool's writer: trees are lost, nothing else is."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from orchestrator.pool_writer import PoolWriter
from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import Event, PoolScope
from specbeam.storage.redis_state import RedisStateStore
from specbeam.storage.tree_pool import wall_clock_ms
from tests.redis_server import RedisServer
from tests.waiting import until

pytestmark = pytest.mark.redis
SCOPE = PoolScope("default", "f")


@pytest.fixture
def server(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, binary=redis_binary)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStateStore]:
    store = RedisStateStore(server.url, timeout_s=0.5)
    yield store
    await store.close()


@pytest.fixture
async def writer(store: RedisStateStore) -> AsyncIterator[PoolWriter]:
    writer = PoolWriter(store, first_pause_s=0.02, longest_pause_s=0.1)
    yield writer
    await writer.close()


async def written_again(store: RedisStateStore, writer: PoolWriter) -> None:
    """Offer a tree until it is there."""

    async def is_there() -> bool:
        writer.offer(SCOPE, "late", ["i:b"], b"late", wall_clock_ms())
        trees = await store.read_trees(SCOPE, "late", [], 9)
        return [tree.data for tree in trees] == [b"late"]

    await until(is_there, True)


async def test_writer_outlives_a_killed_redis(
    server: RedisServer, store: RedisStateStore, writer: PoolWriter
) -> None:
    writer.offer(SCOPE, "ann", ["i:a"], b"ann", wall_clock_ms())
    await until(lambda: _written(writer), 1)
    server.kill()
    start = time.monotonic()
    for number in range(500):
        writer.offer(SCOPE, f"user {number}", ["i:a"], b"lost", wall_clock_ms())
    assert time.monotonic() - start < 0.5
    with pytest.raises(StoreUnavailable):
        await store.read_with_pool("default", "ann", 9, SCOPE, None, 9)
    server.start()
    await written_again(store, writer)
    counters = writer.counters
    assert counters.failed and counters.dropped


async def test_frozen_redis_holds_up_no_deletion_for_long(
    server: RedisServer, store: RedisStateStore, writer: PoolWriter
) -> None:
    await store.ping()
    began = wall_clock_ms()
    server.pause()
    writer.offer(SCOPE, "ann", ["i:a"], b"ann", began)
    await asyncio.sleep(0.05)
    start = time.monotonic()
    await writer.forget("ann")
    with pytest.raises(StoreUnavailable):
        await store.delete("default", "ann")
    assert time.monotonic() - start < 2
    server.resume()
    await store.delete("default", "ann")
    writer.offer(SCOPE, "ann", ["i:a"], b"ann", began)
    await until(lambda: _refused(writer), 1)
    assert await store.read_trees(SCOPE, "ann", ["i:a"], 9) == ()


async def test_full_redis_costs_trees_only(
    server: RedisServer, store: RedisStateStore, writer: PoolWriter
) -> None:
    await store.append("default", "ann", [Event("a", "1")])
    async with Redis.from_url(server.url) as redis:
        await redis.config_set("maxmemory", 1)
        writer.offer(SCOPE, "ann", ["i:a"], b"ann", wall_clock_ms())
        await until(lambda: _failed(writer), 1)
        history, trees = await store.read_with_pool("default", "ann", 9, SCOPE, None, 9)
        assert (history.total, trees) == (1, ())
        await redis.config_set("maxmemory", 0)
    await written_again(store, writer)


async def _written(writer: PoolWriter) -> int:
    return writer.counters.written


async def _refused(writer: PoolWriter) -> int:
    return writer.counters.refused


async def _failed(writer: PoolWriter) -> int:
    return writer.counters.failed
