"""What every tree pool does, whichever it is."""

import asyncio
import random
from uuid import uuid4

import pytest

from specbeam.storage import PoolLimits, PoolScope, PoolStatistics, PoolWrite
from tests.tree_pools import SlowPool

KEYS = ("i:a\x1fb", "i:b")


@pytest.fixture
def pool(make_store, clock):
    return make_store(clock_ms=clock)


@pytest.fixture
def add(pool, scope, clock):
    async def add(user, keys, data, *, scope=scope, pool=pool):
        return await pool.add(scope, user, keys, data, clock.now_ms)

    return add


@pytest.fixture
def blobs(pool, scope):
    async def blobs(user, keys, limit=99, *, scope=scope, pool=pool):
        return [tree.data for tree in await pool.read_trees(scope, user, keys, limit)]

    return blobs


async def test_unknown_keys_have_no_trees(pool, scope, user):
    assert await pool.read_trees(scope, user, KEYS, 9) == ()
    assert await pool.read_trees(scope, "", (), 9) == ()
    assert await pool.statistics(scope) == PoolStatistics(0, 0, 0)


async def test_own_tree_comes_first_then_keys_in_order_newest_first(add, blobs, user):
    await add("v1", ["i:pair"], b"pair old")
    await add("v2", ["i:last"], b"last old")
    await add(user, ["i:elsewhere"], b"own")
    await add("v3", ["i:last"], b"last new")
    await add("v4", ["i:pair"], b"pair new")
    others = [b"pair new", b"pair old", b"last new", b"last old"]
    assert await blobs(user, ["i:pair", "i:last"]) == [b"own", *others]
    assert await blobs("", ["i:pair", "i:last"]) == others
    assert await blobs(user, ["i:last", "i:pair"], 2) == [b"own", b"last new"]
    assert await blobs(user, []) == [b"own"]


@pytest.mark.parametrize("limit", [0, 1, 3, 4, 99])
async def test_limit_counts_the_own_tree(add, blobs, user, limit):
    for name in [user, "x", "y", "z"]:
        await add(name, KEYS, name.encode())
    wanted = [user.encode(), b"z", b"y", b"x"]
    assert await blobs(user, KEYS, limit) == wanted[:limit]


async def test_trees_say_when_they_were_written_and_by_whom(pool, add, clock, scope, user):
    await add("x", KEYS, b"x")
    clock.advance(5)
    await add(user, KEYS, b"u")
    own, other = await pool.read_trees(scope, user, KEYS, 9)
    assert (own.own, own.written_ms) == (True, clock.now_ms)
    assert (other.own, other.written_ms) == (False, clock.now_ms - 5000)


async def test_newer_tree_of_an_owner_replaces_the_older(add, blobs, user):
    await add(user, ["i:b"], b"one")
    await add("x", ["i:b"], b"x")
    await add(user, ["i:b"], b"two")
    assert await blobs("", ["i:b"]) == [b"two", b"x"]
    await add(user, ["i:c"], b"three")
    assert await blobs(user, ["i:b"]) == [b"three", b"x"]
    assert await blobs("", ["i:b", "i:c"]) == [b"two", b"x"]


async def test_only_the_newest_trees_stay_under_a_key(make_store, add, blobs, clock):
    pool = make_store(clock_ms=clock, pool_limits=PoolLimits(trees_per_key=3))
    for number in range(6):
        await add(f"v{number}", KEYS, b"%d" % number, pool=pool)
    assert await blobs("", ["i:b"], pool=pool) == [b"5", b"4", b"3"]
    await add("v3", ["i:b"], b"3 again", pool=pool)
    assert await blobs("", ["i:b"], pool=pool) == [b"3 again", b"5", b"4"]
    # His own place is not that of a crowd.
    assert await blobs("v0", ["i:b"], pool=pool) == [b"0", b"3 again", b"5", b"4"]


async def test_least_recently_written_keys_go_first(make_store, add, blobs, clock, scope):
    pool = make_store(clock_ms=clock, pool_limits=PoolLimits(max_keys=3))
    for key in ["i:1", "i:2", "i:3", "i:1", "i:4"]:
        await add("", [key], key.encode(), pool=pool)
    left = {key: await blobs("", [key], pool=pool) for key in ["i:1", "i:2", "i:3", "i:4"]}
    assert left == {"i:1": [b"i:1"] * 2, "i:2": [], "i:3": [b"i:3"], "i:4": [b"i:4"]}
    # A user's own place counts, too.
    await add("u", ["i:5"], b"u", pool=pool)
    assert (await pool.statistics(scope)).keys == 3
    assert await blobs("", ["i:1", "i:3"], pool=pool) == []
    assert await blobs("u", [], pool=pool) == [b"u"]


async def test_smaller_bound_takes_hold_at_the_next_write(make_store, add, clock, scope):
    large, small = (
        make_store(clock_ms=clock),
        make_store(clock_ms=clock, pool_limits=PoolLimits(max_keys=2)),
    )
    for number in range(9):
        await add("", [f"i:{number}"], b"x", pool=large)
    await add("", ["i:9"], b"x", pool=small)
    assert (await small.statistics(scope)).keys <= 2


async def test_aged_trees_are_left_out(make_store, add, blobs, clock, scope):
    pool = make_store(clock_ms=clock, pool_limits=PoolLimits(max_age_s=100))
    await add("x", ["i:b"], b"old", pool=pool)
    clock.advance(60)
    await add("y", ["i:b"], b"new", pool=pool)
    clock.advance(40)
    assert await blobs("x", ["i:b"], pool=pool) == [b"old", b"new"]
    clock.advance(0.001)
    assert await blobs("x", ["i:b"], pool=pool) == [b"new"]
    assert await pool.statistics(scope) == PoolStatistics(2, 2, 6)
    clock.advance(60)
    assert await blobs("y", ["i:b"], pool=pool) == []
    assert await pool.statistics(scope) == PoolStatistics(0, 0, 0)
    assert await add("x", ["i:b"], b"again", pool=pool)
    assert await blobs("y", ["i:b"], pool=pool) == [b"again"]


async def test_order_is_that_of_writing_even_if_the_clock_goes_back(add, blobs, clock):
    for number in range(5):
        await add(f"v{number}", ["i:b"], b"%d" % number)
        clock.advance(-1)
    assert await blobs("", ["i:b"]) == [b"4", b"3", b"2", b"1", b"0"]


async def test_too_large_or_late_or_lost_a_tree_is_refused(pool, add, blobs, clock, scope, user):
    assert not await add(user, KEYS, bytes(8193))
    assert not await add("", [], b"nobody would find it")
    assert not await pool.add(scope, user, KEYS, b"late", clock.now_ms - 30_001)
    assert await blobs(user, KEYS) == []
    assert await add(user, KEYS, bytes(8192))


async def test_anonymous_trees_do_not_replace_each_other(pool, add, scope):
    for number in range(3):
        assert await add("", KEYS, b"%d" % number)
    trees = await pool.read_trees(scope, "", KEYS, 9)
    assert [tree.data for tree in trees] == [b"2", b"1", b"0"]
    assert not any(tree.own for tree in trees)
    assert await pool.statistics(scope) == PoolStatistics(2, 6, 6)


async def test_scopes_tenants_and_users_are_apart(add, blobs, scope, user):
    scopes = [
        scope,
        PoolScope(scope.tenant, scope.fingerprint + "."),
        PoolScope(scope.tenant + "." + scope.fingerprint, ""),
        PoolScope(scope.tenant, scope.fingerprint + "}:i"),
        PoolScope(scope.tenant.upper(), scope.fingerprint),
    ]
    for number, other in enumerate(scopes):
        await add(user, KEYS, b"%d" % number, scope=other)
    for number, other in enumerate(scopes):
        assert await blobs(user, KEYS, scope=other) == [b"%d" % number]
    assert await blobs(user + ".", []) == []


async def test_any_bytes_under_any_key_survive(add, blobs):
    data, key = bytes(range(256)) * 2, "i:日本\"\\{}\x00\n \x1f'; DROP"
    await add("u\x00{é}", [key], data)
    assert await blobs("", [key]) == [data]
    assert await blobs("u\x00{é}", []) == [data]


async def test_fifty_writers_lose_nothing_but_what_the_bound_says(make_store, scope, clock):
    pool = make_store(clock_ms=clock, pool_limits=PoolLimits(trees_per_key=20))
    writers = [f"w{number}" for number in range(50)]

    async def write(name):
        for number in range(4):
            await pool.add(scope, name, KEYS, f"{name} {number}".encode(), clock.now_ms)

    await asyncio.gather(*map(write, writers))
    assert await pool.statistics(scope) == PoolStatistics(
        52, 90, (await pool.statistics(scope)).bytes
    )
    trees = await pool.read_trees(scope, "", KEYS, 99)
    assert len({tree.data for tree in trees}) == 20
    for name in writers:
        (own, *_) = await pool.read_trees(scope, name, (), 9)
        assert own.data == f"{name} 3".encode()


async def test_many_at_once_do_as_one_by_one(make_store, clock, user):
    pool = make_store(clock_ms=clock, pool_limits=PoolLimits(max_tree_bytes=9, max_keys=7))
    rng = random.Random(7)
    one, many = PoolScope("default", uuid4().hex), PoolScope("default", uuid4().hex)
    await pool.delete_user("default", user)
    clock.advance(1)
    writes = [
        PoolWrite(
            many,
            rng.choice([user, "x", "y", ""]),
            tuple(rng.sample(["i:1", "i:2", "i:3"], rng.randrange(3))),
            rng.randbytes(rng.randrange(12)),
            clock.now_ms - rng.choice([0, 5000]),
        )
        for _ in range(60)
    ]
    singly = [await pool.add(one, w.user_id, w.keys, w.data, w.started_ms) for w in writes]
    assert await pool.add_many(writes) == tuple(singly)
    assert 0 < sum(singly) < len(writes)
    for name in (user, "x", "y"):
        keys = ["i:1", "i:2", "i:3"]
        assert [t.data for t in await pool.read_trees(one, name, keys, 99)] == [
            t.data for t in await pool.read_trees(many, name, keys, 99)
        ]
    assert await pool.add_many([]) == ()


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories_agree_with_a_slow_pool(make_store, clock, user, seed):
    rng = random.Random(seed)
    # Ageing and eviction apart: what is counted while it ages is the store's own business.
    limits = (
        PoolLimits(trees_per_key=3, max_keys=6)
        if seed % 2
        else PoolLimits(trees_per_key=3, max_age_s=50)
    )
    pool, slow = make_store(clock_ms=clock, pool_limits=limits), SlowPool(limits, clock)
    tenant = f"tenant {uuid4().hex}"
    scopes = [PoolScope(tenant, "f"), PoolScope(tenant, "g")]
    users, keys = [f"{user} {number}" for number in range(4)], [f"i:{n}" for n in range(5)]
    for number in range(150):
        scope, name = rng.choice(scopes), rng.choice(users)
        some = rng.sample(keys, rng.randrange(3))
        if rng.random() < 0.6:
            write = (scope, rng.choice([name, ""]), some, b"%d" % number)
            started_ms = clock.now_ms - rng.choice([0, 0, 0, 3000])
            assert await pool.add(*write, started_ms) == slow.add(*write, started_ms)
        elif rng.random() < 0.15:
            await pool.delete_user(tenant, name)
            slow.delete_user(tenant, name)
        wanted = (scope, rng.choice([*users, ""]), keys[: rng.randrange(6)], rng.randrange(9))
        assert await pool.read_trees(*wanted) == slow.read(*wanted), number
        clock.advance(rng.choice([0, 0.002, 5]))
    for scope in scopes:
        assert await pool.statistics(scope) == slow.statistics(scope)
