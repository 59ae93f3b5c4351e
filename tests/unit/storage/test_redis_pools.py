"""What only the tree pool in Redis has: one round trip, broken values, an index, a price."""

import hashlib
import random

import pytest

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import Event, PoolLimits, PoolScope, PoolStatistics, PoolWrite
from specbeam.storage.redis_tree_pool import index_key, keys_key, tombstone_key, trees_key
from specbeam.storage.tree_pool import own_key, owner_name, wall_clock_ms
from tests.waiting import until

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


@pytest.mark.parametrize("keys", [None, ["i:a", "i:b"]])
async def test_history_and_trees_are_one_round_trip(store, redis, keys):
    await store.append("t", "u", [ONE])
    for user in ("u", "v"):
        await add(store, user, ["i:a"], user.encode())
    await store.read_with_pool("t", "u", 9, SCOPE, keys, 9)
    before = await redis.info("all")
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, keys, 9)
    after = await redis.info("all")
    assert (history.total, [tree.data for tree in trees]) == (1, [b"u", b"v"])
    # One packet for the read and one for the second question itself.
    assert after["total_reads_processed"] - before["total_reads_processed"] == 2
    scripts = [info["cmdstat_evalsha"]["calls"] for info in (before, after)]
    assert scripts[1] - scripts[0] == 1


async def test_forgotten_scripts_are_sent_again(store, redis):
    await add(store, "u", ["i:a"], b"u")
    await redis.script_flush()
    assert await add(store, "v", ["i:a"], b"v")
    await redis.script_flush()
    assert await blobs(store, "", ["i:a"]) == [b"v", b"u"]


async def test_keys_carry_the_tenant_and_hide_the_user(store, redis):
    await add(store, "user 1", ["i:a"], b"x", PoolScope("ac.me", "f/1"))
    owner = owner_name("ac.me", "user 1")
    fingerprint = hashlib.blake2b(b"f/1", digest_size=8).hexdigest()
    assert sorted(key.decode() for key in await redis.keys()) == [
        f"specbeam:pool:keys:{{ac%2Eme.{fingerprint}}}",
        f"specbeam:pool:owner:{{ac%2Eme}}:{owner}",
        f"specbeam:pool:trees:{{ac%2Eme.{fingerprint}}}:i:a",
        f"specbeam:pool:trees:{{ac%2Eme.{fingerprint}}}:own:{owner}",
    ]


async def test_broken_value_costs_neither_the_history_nor_other_trees(store, redis, caplog):
    await store.append("t", "u", [ONE])
    await add(store, "u", ["i:a", "i:b"], b"own")
    await add(store, "v", ["i:b"], b"v")
    await redis.set(trees_key(SCOPE, "i:a"), "no hash")
    await redis.hset(trees_key(SCOPE, "i:b"), "someone", b"short")
    await redis.hset(trees_key(SCOPE, "i:b"), b"\xff\xfe", b"\xff" * 20)
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, ["i:a", "i:b"], 9)
    assert history.events == (ONE,)
    assert [tree.data for tree in trees] == [b"own", b"\xff" * 12, b"v"]
    assert [record.getMessage() for record in caplog.records] == ["corrupt_pool_value"] * 2
    assert [record.key for record in caplog.records] == [
        trees_key(SCOPE, "i:a"),
        trees_key(SCOPE, "i:b"),
    ]
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, None, 9)
    assert (history.events, [tree.data for tree in trees]) == ((ONE,), [b"own"])


async def test_broken_own_value_costs_neither(store, redis):
    await store.append("t", "u", [ONE])
    await add(store, "v", ["i:a"], b"v")
    await redis.rpush(trees_key(SCOPE, own_key(owner_name("t", "u"))), "a list")
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, None, 9)
    assert (history.events, [tree.data for tree in trees]) == ((ONE,), [b"v"])


@pytest.mark.parametrize("value", [b"\x80{", b"[1]", b"7", b"null", b"[]", b'{"1": "a"}'])
async def test_broken_event_is_no_key(store, redis, value):
    await store.append("t", "u", [ONE])
    await redis.rpush("specbeam:history:{t.u}:events", value)
    await add(store, "v", ["i:a"], b"v")
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, None, 9)
    assert (history.events, [tree.data for tree in trees]) == ((ONE,), [b"v"])


async def test_history_of_another_type_is_unavailable(store, redis):
    await redis.set("specbeam:history:{t.u}:events", "no list")
    with pytest.raises(StoreUnavailable):
        await store.read_with_pool("t", "u", 9, SCOPE, None, 9)


async def test_next_write_mends_a_broken_value(store, redis):
    await redis.set(trees_key(SCOPE, "i:a"), "no hash")
    await redis.hset(trees_key(SCOPE, "i:b"), "someone", b"short")
    assert await add(store, "u", ["i:a", "i:b"], b"u")
    assert await blobs(store, "", ["i:a"]) == await blobs(store, "", ["i:b"]) == [b"u"]
    assert await redis.hlen(trees_key(SCOPE, "i:b")) == 1


async def test_deletion_goes_past_a_broken_value(store, redis):
    await add(store, "u", ["i:a", "i:b"], b"u")
    await redis.set(trees_key(SCOPE, "i:a"), "no hash")
    assert await store.delete_user("t", "u")
    assert await redis.keys() == [tombstone_key("t", owner_name("t", "u")).encode()]


async def test_broken_index_stops_writes_and_deletions_and_loses_nothing(store, redis):
    await store.append("t", "u", [ONE])
    await redis.set(index_key("t", owner_name("t", "u")), "no zset")
    with pytest.raises(StoreUnavailable):
        await add(store, "u", ["i:a"], b"u")
    # A tree that is in no index could not be deleted.
    assert await blobs(store, "u", ["i:a"]) == []
    with pytest.raises(StoreUnavailable):
        await store.delete("t", "u")
    assert (await store.read("t", "u", 9)).events == (ONE,)


async def test_aged_trees_are_gone_from_redis(open_redis_store, redis):
    store = open_redis_store(pool_limits=PoolLimits(max_age_s=0.2))
    await add(store, "u", ["i:a"], b"u")
    await add(store, "", ["i:b"], b"nobody's")
    assert await redis.keys() != []
    await until(redis.keys, [])


async def test_aged_trees_go_from_keys_in_use(open_redis_store, redis, clock):
    store = open_redis_store(pool_limits=PoolLimits(max_age_s=100), clock_ms=clock)
    await store.add(SCOPE, "u", ["i:a", "i:b"], b"u", clock.now_ms)
    clock.advance(101)
    await store.add(SCOPE, "v", ["i:a"], b"v", clock.now_ms)
    assert await redis.hlen(trees_key(SCOPE, "i:a")) == 1
    assert await redis.exists(trees_key(SCOPE, "i:b")) == 0
    assert await redis.exists(index_key("t", owner_name("t", "u"))) == 0


async def test_old_index_entries_take_their_trees_with_them(open_redis_store, redis, clock):
    store = open_redis_store(pool_limits=PoolLimits(max_age_s=100), clock_ms=clock)
    old, new = PoolScope("t", "old"), PoolScope("t", "new")
    await store.add(old, "u", ["i:a"], b"u", clock.now_ms)
    clock.advance(201)
    await store.add(new, "u", ["i:a"], b"u", clock.now_ms)
    # Nobody writes to the old scope any more; its own clean-up would never come.
    assert await redis.exists(trees_key(old, "i:a"), keys_key(old)) == 0
    assert await redis.zcard(index_key("t", owner_name("t", "u"))) == 2


@pytest.mark.parametrize("seed", range(3))
async def test_index_and_trees_always_say_the_same(open_redis_store, redis, clock, seed):
    limits = PoolLimits(trees_per_key=2, max_keys=7, max_age_s=60)
    store = open_redis_store(pool_limits=limits, clock_ms=clock)
    rng = random.Random(seed)
    for _ in range(150):
        where = rng.choice([SCOPE, PoolScope("t", "g")])
        user, keys = rng.choice(["u", "v", "w", ""]), rng.sample(["i:a", "i:b", "i:c", "i:d"], 2)
        if rng.random() < 0.1:
            await store.delete_user("t", user or "u")
            clock.advance(0.001)
        await store.add(where, user, keys, b"x", clock.now_ms)
        clock.advance(rng.choice([0, 1, 10]))
        await _check_index(redis, limits)


async def _check_index(redis, limits):
    trees, entries, listed, hashes = set(), set(), set(), set()
    named = {owner_name("t", user) for user in "uvw"}
    for key in [key.decode() for key in await redis.keys()]:
        if ":trees:{" in key:
            scope, name = key.split("{")[1].split("}:", 1)
            owners = {owner.decode() for owner in await redis.hkeys(key)}
            trees |= {(scope, name, owner) for owner in owners & named}
            hashes.add((scope, name))
            assert len(owners) <= limits.trees_per_key
        elif ":owner:{" in key:
            pairs = [entry.decode().split(" ", 1) for entry in await redis.zrange(key, 0, -1)]
            owner = key.rsplit(":", 1)[1]
            entries |= {(f"t.{fingerprint}", name, owner) for fingerprint, name in pairs}
        elif ":keys:{" in key:
            names = await redis.zrange(key, 0, -1)
            listed |= {(key.split("{")[1][:-1], name.decode()) for name in names}
            assert len(names) <= limits.max_keys
    assert trees == entries
    assert hashes == listed


async def test_memory_of_a_tree(open_redis_store, redis):
    overhead = await _overhead_per_copy(open_redis_store(), redis)
    print(f"a stored copy of a tree costs {overhead:.0f} bytes beside its own")
    assert 100 < overhead < 900


async def _overhead_per_copy(store, redis, users=2000, size=1000):
    """Return bytes of Redis beside the blobs, per copy: own, under two items, under the last."""
    rng = random.Random(1)
    scope = PoolScope("default", "0123456789abcdef" * 2)
    await add(store, "first", ["i:first"], b"scripts are loaded now", scope)
    before = (await redis.info("memory"))["used_memory"]
    counted = await store.statistics(scope)
    writes = []
    for number in range(users):
        one, two = (f"B00{rng.randrange(500):07d}" for _ in range(2))
        keys = (f"i:{one}\x1f{two}", f"i:{two}")
        writes.append(PoolWrite(scope, f"u{number}", keys, rng.randbytes(size), wall_clock_ms()))
    for start in range(0, users, 100):
        await store.add_many(writes[start : start + 100])
    after = (await redis.info("memory"))["used_memory"]
    now = await store.statistics(scope)
    grown = PoolStatistics(
        now.keys - counted.keys, now.trees - counted.trees, now.bytes - counted.bytes
    )
    assert grown.bytes == grown.trees * size
    return (after - before - grown.bytes) / grown.trees
