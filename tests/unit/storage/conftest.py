"""Both stores behind one fixture."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from specbeam.storage import HistoryStore
from specbeam.storage.embedded_store import EmbeddedHistoryStore
from specbeam.storage.redis_store import RedisHistoryStore
from tests.redis_server import RedisServer

MakeStore = Callable[..., HistoryStore]


@pytest.fixture(params=["sqlite", "memory", pytest.param("redis", marks=pytest.mark.redis)])
async def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeStore]:
    """Make stores of one kind that share their data, except in memory."""
    made: list[HistoryStore] = []

    def make(**options: int) -> HistoryStore:
        store: HistoryStore
        if request.param == "redis":
            store = RedisHistoryStore(request.getfixturevalue("redis_url"), **options)
        else:
            path = ":memory:" if request.param == "memory" else tmp_path / "data" / "h.sqlite"
            store = EmbeddedHistoryStore(path, **options)
        made.append(store)
        return store

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def store(make_store: MakeStore) -> HistoryStore:
    return make_store()


@pytest.fixture
def user() -> str:
    """A user nobody else has: the Redis server is shared by the tests."""
    return f"user {uuid4().hex}"


@pytest.fixture
def own_redis(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server of the test's own, to be killed."""
    server = RedisServer(tmp_path, binary=redis_binary)
    server.start()
    yield server
    server.kill()
