"""Fixtures shared by all tests: thread limits and a real Redis server."""

import os
from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, find_redis_server

# No test may ask the network for a model; one thread per pytest worker.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def redis_binary() -> str:
    """Path of a redis-server; skips without one unless SPECBEAM_REQUIRE_REDIS is set."""
    binary = find_redis_server()
    if binary is None:
        if os.environ.get("SPECBEAM_REQUIRE_REDIS"):
            pytest.fail("SPECBEAM_REQUIRE_REDIS is set and no redis-server was found")
        pytest.skip("no redis-server binary")
    return binary


@pytest.fixture(scope="session")
def redis_url(redis_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a private redis-server shared by the tests of one worker."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), binary=redis_binary)
    try:
        server.start()
        yield server.url
    finally:
        server.kill()
