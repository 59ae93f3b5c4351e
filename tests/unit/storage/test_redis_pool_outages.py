"""The tree pool in a Redis that is gone, frozen or full."""

import time

import pytest

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import Event, PoolScope, PoolWrite
from specbeam.storage.redis_tree_pool import tombstone_key
from specbeam.storage.tree_pool import owner_name, wall_clock_ms

pytestmark = pytest.mark.redis
SCOPE = PoolScope("t", "f")
ONE = Event("a", "1")


@pytest.fixture
def store(open_redis_store):
    return open_redis_store()


async def add(store, user, keys, data, scope=SCOPE):
    return await store.add(scope, user, keys, data, wall_clock_ms())


async def blobs(store, user, keys):
    return [tree.data for tree in await store.read_trees(SCOPE, user, keys, 99)]


async def test_dead_redis_fails_fast_and_a_restarted_one_works_again(store, own_redis, redis):
    await redis.config_set("appendfsync", "always")
    await add(store, "u", ["i:a"], b"u")
    own_redis.kill()
    start = time.monotonic()
    for attempt in (
        store.read_trees(SCOPE, "u", [], 9),
        store.read_with_pool("t", "u", 9, SCOPE, None, 9),
        add(store, "u", ["i:a"], b"u"),
        store.delete_user("t", "u"),
        store.statistics(SCOPE),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt
        assert caught.value.__cause__ is not None
    assert time.monotonic() - start < 4
    own_redis.start()
    assert await blobs(store, "u", []) == [b"u"]
    assert await add(store, "v", ["i:a"], b"v")


async def test_frozen_redis_fails_within_the_timeout(store, own_redis):
    await store.ping()
    own_redis.pause()
    for attempt in (
        add(store, "u", ["i:a"], b"u"),
        store.read_with_pool("t", "u", 9, SCOPE, None, 9),
    ):
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await attempt
        assert time.monotonic() - start < 1.5
    own_redis.resume()
    assert await add(store, "u", ["i:a"], b"u")


async def test_write_given_up_and_carried_out_late_does_not_outlive_a_deletion(
    open_redis_store, own_redis, redis
):
    writer, deleter = open_redis_store(), open_redis_store()
    began = wall_clock_ms()
    for store in (writer, deleter):
        await store.add(SCOPE, "x", ["i:a"], b"x", began)
    own_redis.pause()
    with pytest.raises(StoreUnavailable):
        await writer.add(SCOPE, "u", ["i:a"], b"u", began)
    own_redis.resume()
    await deleter.delete_user("t", "u")
    # Whichever of the two Redis took first, it has taken both when it answers this.
    await redis.ping()
    assert await blobs(writer, "u", ["i:a"]) == [b"x"]


async def test_full_redis_takes_no_tree_and_still_reads_and_deletes(store, redis):
    await store.append("t", "u", [ONE])
    await add(store, "u", ["i:a"], b"u")
    await redis.config_set("maxmemory", 1)
    before = sorted(await redis.keys())
    with pytest.raises(StoreUnavailable):
        await add(store, "v", ["i:a", "i:b"], b"v")
    with pytest.raises(StoreUnavailable):
        await store.add_many([PoolWrite(SCOPE, "v", ("i:a",), b"v", wall_clock_ms())] * 3)
    assert sorted(await redis.keys()) == before
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, None, 9)
    assert (history.events, [tree.data for tree in trees]) == ((ONE,), [b"u"])
    assert await store.delete("t", "u")
    assert await redis.keys() == [tombstone_key("t", owner_name("t", "u")).encode()]
