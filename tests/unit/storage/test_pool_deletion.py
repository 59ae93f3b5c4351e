"""A deleted user leaves no trace, and no write that was under way brings one back."""

import asyncio
import random
import sqlite3
from contextlib import closing

import pytest
from redis.asyncio import Redis

from specbeam.storage import Event, PoolLimits, PoolScope
from specbeam.storage.embedded_state import EmbeddedStateStore
from specbeam.storage.redis_state import RedisStateStore
from specbeam.storage.tree_pool import owner_name, wall_clock_ms
from tests.waiting import until

KEYS = ("i:a\x1fb", "i:b")
SHORT = PoolLimits(tombstone_s=0.4)


@pytest.fixture
def pool(make_store, clock):
    return make_store(clock_ms=clock)


async def test_nothing_of_a_deleted_user_is_read_again(pool, clock, scope, user):
    other_scope = PoolScope(scope.tenant, scope.fingerprint + "2")
    for where in (scope, other_scope):
        await pool.add(where, user, KEYS, b"mine", clock.now_ms)
        await pool.add(where, "x", KEYS, b"theirs", clock.now_ms)
    assert await pool.delete_user(scope.tenant, user) is True
    for where in (scope, other_scope):
        assert [t.data for t in await pool.read_trees(where, user, KEYS, 9)] == [b"theirs"]
        assert (await pool.statistics(where)).trees == 3
    assert await pool.delete_user(scope.tenant, user) is False


async def test_same_user_of_another_tenant_stays(pool, clock, scope, user):
    other = PoolScope("other", scope.fingerprint)
    await pool.add(scope, user, KEYS, b"here", clock.now_ms)
    await pool.add(other, user, KEYS, b"there", clock.now_ms)
    await pool.delete_user(scope.tenant, user)
    assert [t.data for t in await pool.read_trees(other, user, KEYS, 9)] == [b"there"]


async def test_write_that_began_before_the_deletion_is_refused(pool, clock, scope, user):
    began = clock.now_ms
    clock.advance(2)
    await pool.delete_user(scope.tenant, user)
    assert not await pool.add(scope, user, KEYS, b"late", began)
    clock.advance(20)
    assert not await pool.add(scope, user, KEYS, b"late", began)
    assert await pool.read_trees(scope, "", KEYS, 9) == ()
    assert await pool.add(scope, user, KEYS, b"new", clock.now_ms)
    assert await pool.add(scope, "x", KEYS, b"x", began)


async def test_write_that_outlived_the_tombstone_is_refused(make_store, scope, user):
    # Real time: Redis ends the tombstone by its own clock.
    pool = make_store(pool_limits=SHORT)
    began = wall_clock_ms()
    await pool.delete_user(scope.tenant, user)
    await asyncio.sleep(0.5)
    assert not await pool.add(scope, user, KEYS, b"late", began)
    assert await pool.add(scope, user, KEYS, b"new", wall_clock_ms())


async def test_deletion_removes_history_and_trees_in_one_call(pool, clock, scope, user):
    assert await pool.delete(scope.tenant, user) is False
    clock.advance(1)
    await pool.append(scope.tenant, user, [Event("a", "1")])
    assert await pool.delete(scope.tenant, user) is True
    clock.advance(1)
    await pool.add(scope, user, KEYS, b"mine", clock.now_ms)
    assert await pool.delete(scope.tenant, user) is True
    await pool.append(scope.tenant, user, [Event("a", "1")])
    clock.advance(1)
    await pool.add(scope, user, KEYS, b"mine", clock.now_ms)
    assert await pool.delete(scope.tenant, user) is True
    assert await pool.delete(scope.tenant, user) is False
    history, trees = await pool.read_with_pool(scope.tenant, user, 9, scope, KEYS, 9)
    assert (history.total, trees) == (0, ())


async def test_deletion_between_writers_leaves_nothing(make_store, scope, user):
    pool = make_store()
    began = wall_clock_ms()

    async def write(number):
        await asyncio.sleep(random.Random(number).random() / 20)
        return await pool.add(scope, user, KEYS, b"%d" % number, began)

    writers = [asyncio.create_task(write(number)) for number in range(60)]
    await asyncio.sleep(0.02)
    await pool.delete_user(scope.tenant, user)
    stored = await asyncio.gather(*writers)
    assert not all(stored)
    assert await pool.read_trees(scope, user, KEYS, 9) == ()


@pytest.mark.redis
async def test_redis_holds_no_trace_of_a_deleted_user(own_redis, scope):
    store = RedisStateStore(own_redis.url, pool_limits=SHORT)
    traces = await _life_of_a_user(store, scope)
    async with Redis.from_url(own_redis.url) as redis:
        await until(lambda: redis.keys("specbeam:pool:gone:*"), [])
        dump = [await _everything(redis, key) for key in await redis.keys("*")]
    await store.close()
    assert any(b"theirs" in value for value in dump)
    assert [value for value in dump if any(trace in value for trace in traces)] == []


async def test_file_holds_no_trace_of_a_deleted_user(tmp_path, scope):
    path = tmp_path / "h.sqlite"
    store = EmbeddedStateStore(path, pool_limits=SHORT)
    traces = await _life_of_a_user(store, scope)
    await asyncio.sleep(0.5)
    await store.add(scope, "y", KEYS, b"theirs", wall_clock_ms())
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE sql <> ''")]
        rows = [row for table in tables for row in _rows(db, table)]
    dump = [_bytes(value) for row in rows for value in row]
    assert any(b"theirs" in value for value in dump)
    assert [value for value in dump if any(trace in value for trace in traces)] == []
    # Nor do the free pages of the file hold one, once its log is folded in.
    await store.close()
    content = path.read_bytes()
    assert b"theirs" in content
    assert not any(trace in content for trace in traces)


async def _life_of_a_user(store, scope):
    """Leave traces of all kinds among those of others, delete the user; return the traces."""
    name, blob = "user-4711", b"blob-of-a-user"
    scopes = [scope, PoolScope(scope.tenant, "older")]
    await store.append(scope.tenant, name, [Event("a", "1"), Event("b", "2")])
    for number in range(30):
        for where in scopes:
            keys = (f"i:{number}", "i:b")
            await store.add(where, name, keys, blob, wall_clock_ms())
            for other in range(3):
                await store.add(where, f"v{other}", keys, b"theirs", wall_clock_ms())
    assert await store.delete(scope.tenant, name)
    await store.add(scope, name, KEYS, blob, wall_clock_ms() - 100)
    return name.encode(), owner_name(scope.tenant, name).encode(), blob


async def _everything(redis, key):
    """Return a key and its value as one string of bytes."""
    kind = await redis.type(key)
    if kind == b"hash":
        parts = [part for pair in (await redis.hgetall(key)).items() for part in pair]
    elif kind == b"zset":
        parts = await redis.zrange(key, 0, -1)
    elif kind == b"list":
        parts = await redis.lrange(key, 0, -1)
    else:
        parts = [await redis.get(key)]
    return b"\n".join([key, *parts])


def _rows(db, table):
    is_table = db.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return db.execute(f"SELECT * FROM {table}").fetchall() if is_table == ("table",) else []


def _bytes(value):
    return value if isinstance(value, bytes) else str(value).encode()
