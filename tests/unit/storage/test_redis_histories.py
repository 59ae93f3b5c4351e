"""What only Redis can do: lie in keys, die, freeze, fill up and come back."""

import time

import pytest
from redis.asyncio import Redis

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import AppendResult, Event
from specbeam.storage.redis_state import RedisStateStore

pytestmark = pytest.mark.redis
ONE, TWO = Event("a", "1"), Event("b", "2")


@pytest.fixture
async def store(own_redis):
    store = RedisStateStore(own_redis.url, timeout_s=0.5)
    yield store
    await store.close()


async def test_keys_carry_the_tenant_and_share_a_slot(store, redis):
    await store.append("acme", "u 1", [ONE])
    keys = sorted(await redis.keys())
    assert keys == [b"specbeam:history:{acme.u%201}:events", b"specbeam:history:{acme.u%201}:ids"]


async def test_delete_leaves_a_tombstone_and_no_other_key(store, redis):
    await store.append("acme", "u", [ONE, TWO])
    await store.delete("acme", "u")
    (key,) = await redis.keys()
    assert key.startswith(b"specbeam:pool:gone:{acme}:")
    assert 0 < await redis.pttl(key) <= 60_000


async def test_corrupt_value_is_skipped_and_logged(store, redis, caplog):
    await store.append("t", "u", [ONE])
    for value in (b"\x80{", b"[1]", b"7"):
        await redis.rpush("specbeam:history:{t.u}:events", value)
    await store.append("t", "u", [TWO])
    assert (await store.read("t", "u", 9)).events == (ONE, TWO)
    assert [record.getMessage() for record in caplog.records] == ["corrupt_history_value"] * 3


async def test_read_is_one_round_trip(store, redis):
    await store.append("t", "u", [ONE])
    await store.read("t", "u", 9)
    before = (await redis.info("stats"))["total_reads_processed"]
    await store.read("t", "u", 9)
    after = (await redis.info("stats"))["total_reads_processed"]
    # One packet for the read and one for the second question itself.
    assert after - before == 2


async def test_dead_redis_fails_fast_and_a_restarted_one_works_again(store, own_redis):
    await store.append("t", "u", [ONE])
    # The append-only file is flushed once a second, by the clock of the server.
    await _flushed(own_redis)
    own_redis.kill()
    start = time.monotonic()
    for attempt in (store.read("t", "u", 9), store.append("t", "u", [TWO]), store.ping()):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt
        assert caught.value.__cause__ is not None
    assert time.monotonic() - start < 3
    own_redis.start()
    assert (await store.read("t", "u", 9)).events == (ONE,)
    assert await store.append("t", "u", [ONE, TWO]) == AppendResult(1, 1, 2)


async def test_frozen_redis_fails_within_the_timeout(store, own_redis):
    await store.ping()
    own_redis.pause()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.append("t", "u", [ONE])
    assert time.monotonic() - start < 2
    with pytest.raises(StoreUnavailable):
        await store.read("t", "u", 9)
    own_redis.resume()
    # The append that timed out may have been carried out: that is what ids are for.
    assert (await store.append("t", "u", [ONE])).total == 1


async def test_full_redis_stores_nothing_of_an_append(store, redis):
    await store.append("t", "u", [ONE])
    await redis.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable):
        await store.append("t", "u", [TWO])
    await redis.config_set("maxmemory", 0)
    assert (await store.read("t", "u", 9)).events == (ONE,)


async def test_key_of_another_type_is_unavailable(store, redis):
    await redis.set("specbeam:history:{t.u}:events", "no list")
    with pytest.raises(StoreUnavailable):
        await store.read("t", "u", 9)


async def _flushed(server):
    async with Redis.from_url(server.url) as client:
        await client.config_set("appendfsync", "always")
        await client.set("flush", 1)
