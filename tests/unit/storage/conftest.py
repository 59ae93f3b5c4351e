"""Both stores behind one fixture."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from specbeam.storage import PoolScope, StateStore
from specbeam.storage.embedded_state import EmbeddedStateStore
from specbeam.storage.redis_state import RedisStateStore
from tests.redis_server import RedisServer
from tests.tree_pools import Clock

MakeStore = Callable[..., StateStore]


@pytest.fixture(params=["sqlite", "memory", pytest.param("redis", marks=pytest.mark.redis)])
async def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeStore]:
    """Make stores of one kind that share their data, except in memory."""
    made: list[StateStore] = []

    def make(**options: Any) -> StateStore:
        store: StateStore
        if request.param == "redis":
            store = RedisStateStore(request.getfixturevalue("redis_url"), **options)
        else:
            path = ":memory:" if request.param == "memory" else tmp_path / "data" / "h.sqlite"
            store = EmbeddedStateStore(path, **options)
        made.append(store)
        return store

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def store(make_store: MakeStore) -> StateStore:
    return make_store()


@pytest.fixture
def user() -> str:
    """A user nobody else has: the Redis server is shared by the tests."""
    return f"user {uuid4().hex}"


@pytest.fixture
def scope() -> PoolScope:
    """A scope nobody else has."""
    return PoolScope("default", uuid4().hex)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own_redis(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server of the test's own, to be killed."""
    server = RedisServer(tmp_path, binary=redis_binary)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def redis(own_redis: RedisServer) -> AsyncIterator[Redis]:
    """A client of the test's own server."""
    async with Redis.from_url(own_redis.url) as client:
        yield client


@pytest.fixture
async def open_redis_store(own_redis: RedisServer) -> AsyncIterator[MakeStore]:
    """Make stores on the test's own server."""
    made: list[StateStore] = []

    def make(**options: Any) -> StateStore:
        made.append(RedisStateStore(own_redis.url, timeout_s=0.5, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()
