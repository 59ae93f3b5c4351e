"""Redis gone at the start or killed on the way: served without, never acknowledged without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from specbeam.client import Interaction, UnavailableError
from tests.bundles import tiny_bundle
from tests.redis_server import RedisServer
from tests.stack import running

pytestmark = pytest.mark.redis

EVENTS = [Interaction("item-0001", "e1"), Interaction("item-0002", "e2")]


@pytest.fixture
def redis_server(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, binary=redis_binary)
    yield server
    server.kill()


async def test_redis_down_at_start(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = SecretStr(redis_server.url)
    async with running(tiny_bundle(), draft=False, store=store) as stack:
        assert "histories are out of reach" in caplog.text
        assert stack.orchestrator.health.is_ready
        with pytest.raises(UnavailableError) as caught:
            await stack.client.recommend("ann")
        assert caught.value.reason == "STORE_UNAVAILABLE"
        with pytest.raises(UnavailableError):
            await stack.client.record_interactions("ann", EVENTS)
        allowed = await stack.client.recommend("ann", allowed_degradations=["no_history"])
        assert allowed.degraded == ("no_history", "empty_history")
        assert len(allowed.items) == 10
        inline = await stack.client.recommend("ann", events=EVENTS)
        assert inline.degraded == ("no_history",)
        nobody = await stack.client.recommend("", events=EVENTS)
        assert nobody.degraded == ("no_pool",)
        redis_server.start()
        assert (await stack.client.record_interactions("ann", EVENTS)).stored == 2
        assert (await stack.client.recommend("ann")).degraded == ()


async def test_redis_killed_and_restarted(redis_server: RedisServer) -> None:
    redis_server.start()
    store = SecretStr(redis_server.url)
    async with running(tiny_bundle(), draft=False, store=store) as stack:
        await stack.client.record_interactions("ann", EVENTS)
        before = await stack.client.recommend("ann")
        # Past the one second that appendfsync everysec may lose.
        import asyncio

        await asyncio.sleep(1.2)
        redis_server.kill()
        with pytest.raises(UnavailableError) as caught:
            await stack.client.recommend("ann")
        assert caught.value.reason == "STORE_UNAVAILABLE"
        assert stack.orchestrator.health.is_ready
        redis_server.start()
        after = await stack.client.recommend("ann")
        assert [item.item_id for item in after.items] == [item.item_id for item in before.items]


async def test_items_of_another_catalogue_are_skipped(redis_server: RedisServer) -> None:
    redis_server.start()
    store = SecretStr(redis_server.url)
    larger = tiny_bundle(num_items=400)
    async with running(larger, draft=False, store=store) as stack:
        await stack.client.record_interactions("ann", [*EVENTS, Interaction("item-0399", "e3")])
        await stack.client.record_interactions("bob", [Interaction("item-0399", "e3")])
    async with running(tiny_bundle(), draft=False, store=store) as stack:
        found = await stack.client.recommend("ann")
        assert found.degraded == ("unknown_history_items_skipped",)
        assert found.work.prompt_tokens == 1 + 2 * 4
        found = await stack.client.recommend("bob")
        assert found.degraded == ("unknown_history_items_skipped", "empty_history")


async def test_hung_redis_hardly_delays_who_needs_no_history(redis_server: RedisServer) -> None:
    redis_server.start()
    store = SecretStr(redis_server.url)
    async with running(tiny_bundle(), draft=False, store=store) as stack:
        usual = await stack.client.recommend("", events=EVENTS, speculation="on")
        assert usual.degraded == ()
        redis_server.pause()
        try:
            for number in range(6):
                answer = await stack.client.recommend("", events=EVENTS, speculation="on")
                assert answer.degraded == ("no_pool",)
                assert [item.item_id for item in answer.items] == [i.item_id for i in usual.items]
                # The first ones wait 200 ms each, then the store is left alone for a second.
                assert answer.timings.history_ms < (600 if number < 3 else 100)
        finally:
            redis_server.resume()
