"""The tree pool where only a file can fail, and files of the version without one."""

import sqlite3
from contextlib import closing

import pytest

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import AppendResult, Event, PoolLimits, PoolScope
from specbeam.storage.embedded_state import EmbeddedStateStore

SCOPE = PoolScope("t", "f")
ONE = Event("a", "1")

# The schema of version 1, as it was released.
VERSION_1 = """
CREATE TABLE IF NOT EXISTS events (
    tenant TEXT NOT NULL, user_id TEXT NOT NULL, arrival INTEGER NOT NULL,
    item_id TEXT NOT NULL, event_id TEXT NOT NULL, time_ms INTEGER NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (tenant, user_id, arrival)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event_ids (
    tenant TEXT NOT NULL, user_id TEXT NOT NULL, event_id TEXT NOT NULL, arrival INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id, event_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_ids_by_arrival ON event_ids (tenant, user_id, arrival);
INSERT INTO events VALUES ('t', 'u', 1, 'a', '1', 0, '');
INSERT INTO event_ids VALUES ('t', 'u', '1', 1);
PRAGMA user_version = 1;
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "h.sqlite"


@pytest.fixture
async def open_store(path, clock):
    stores = []

    def open_store(**options):
        stores.append(EmbeddedStateStore(path, clock_ms=clock, **options))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


async def blobs(store, user, keys):
    return [tree.data for tree in await store.read_trees(SCOPE, user, keys, 99)]


async def synchronous(store):
    """Return how commits wait for the disk: 2 = in full."""
    (level,) = await store._database.run(lambda db: db.execute("PRAGMA synchronous").fetchone())
    return level


def query(path, sql, *values):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(sql, values).fetchall()


async def test_file_of_version_1_keeps_its_histories_and_gets_a_pool(open_store, path, clock):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_1)
    store = open_store()
    assert await store.read_with_pool("t", "u", 9, SCOPE, None, 9) == (
        await store.read("t", "u", 9),
        (),
    )
    assert (await store.read("t", "u", 9)).events == (ONE,)
    assert await store.add(SCOPE, "u", ["i:a"], b"u", clock.now_ms)
    assert await store.append("t", "u", [ONE, Event("b", "2")]) == AppendResult(1, 1, 2)
    assert query(path, "PRAGMA user_version") == [(2,)]
    assert await blobs(open_store(), "u", []) == [b"u"]


async def test_migrated_and_new_files_have_one_schema(tmp_path):
    schemas = []
    for name, script in (("old", VERSION_1), ("new", "")):
        with closing(sqlite3.connect(tmp_path / name)) as db:
            db.executescript(script)
        store = EmbeddedStateStore(tmp_path / name)
        await store.ping()
        await store.close()
        schemas.append(query(tmp_path / name, "SELECT name, sql FROM sqlite_master ORDER BY name"))
    assert schemas[0] == [
        (name, sql and sql.replace(" IF NOT EXISTS", "")) for name, sql in schemas[1]
    ]


async def test_interrupted_migration_is_done_again(open_store, path):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_1)
        # In the way of an index of the new version.
        db.executescript("CREATE TABLE pool_keys_by_time (x)")
    store = open_store()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert query(path, "SELECT name FROM sqlite_master WHERE name = 'pool_keys'") == []
    query(path, "DROP TABLE pool_keys_by_time")
    assert (await store.read("t", "u", 9)).events == (ONE,)
    assert query(path, "PRAGMA user_version") == [(2,)]


async def test_closed_file_keeps_its_trees(open_store, clock):
    first = open_store()
    await first.add(SCOPE, "u", ["i:a"], b"u", clock.now_ms)
    await first.close()
    assert await blobs(open_store(), "", ["i:a"]) == [b"u"]


async def test_trees_do_not_wait_for_the_disk_and_the_rest_does(open_store, clock):
    store = open_store()
    assert await synchronous(store) == 2
    settings = []

    def note(sql):
        if sql.startswith("PRAGMA synchronous ="):
            settings.append(sql.rsplit(" ", 1)[1])

    await store._database.run(lambda db: db.set_trace_callback(note))
    await store.add(SCOPE, "u", ["i:a"], b"u", clock.now_ms)
    assert settings == ["NORMAL", "FULL"]
    await store.append("t", "u", [ONE])
    await store.delete("t", "u")
    assert settings == ["NORMAL", "FULL"]
    assert await synchronous(store) == 2


async def test_failed_write_stores_nothing_and_the_next_one_works(open_store, clock):
    store = open_store()
    with pytest.raises(OverflowError):
        await store.add(SCOPE, "u", ["i:a"], b"u", 2**70)
    assert await blobs(store, "u", ["i:a"]) == []
    assert await store.add(SCOPE, "u", ["i:a"], b"u", clock.now_ms)
    assert await synchronous(store) == 2


async def test_locked_file_is_unavailable_and_waits_for_the_disk_afterwards(open_store, path):
    store = open_store()
    await store.ping()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await store.add(SCOPE, "u", ["i:a"], b"u", 1_700_000_000_000)
        assert await blobs(store, "u", []) == []
    assert await synchronous(store) == 2
    assert await store.add(SCOPE, "u", ["i:a"], b"u", 1_700_000_000_000)


async def test_broken_row_costs_neither_the_history_nor_other_trees(
    open_store, path, clock, caplog
):
    store = open_store()
    await store.append("t", "u", [ONE])
    for name in ("u", "v"):
        await store.add(SCOPE, name, ["i:a"], name.encode(), clock.now_ms)
    query(path, "UPDATE pool_trees SET data = 'text' WHERE data = ?", b"v")
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, None, 9)
    assert (history.events, [tree.data for tree in trees]) == ((ONE,), [b"u"])
    assert [record.getMessage() for record in caplog.records] == ["corrupt_pool_value"]


async def test_broken_pool_does_not_cost_the_history(open_store, path, caplog):
    store = open_store()
    await store.append("t", "u", [ONE])
    query(path, "DROP TABLE pool_trees")
    history, trees = await store.read_with_pool("t", "u", 9, SCOPE, None, 9)
    assert (history.events, trees) == ((ONE,), ())
    assert [record.getMessage() for record in caplog.records] == ["pool_unreadable"]
    with pytest.raises(StoreUnavailable):
        await store.read_trees(SCOPE, "u", [], 9)


async def test_next_write_removes_what_aged_out_everywhere(open_store, path, clock):
    store = open_store(pool_limits=PoolLimits(max_age_s=100, tombstone_s=50))
    await store.add(PoolScope("t", "old"), "u", ["i:a"], b"u", clock.now_ms)
    await store.add(SCOPE, "v", ["i:a"], b"v", clock.now_ms)
    await store.delete_user("t", "w")
    clock.advance(60)
    await store.add(SCOPE, "x", ["i:a"], b"x", clock.now_ms)
    assert query(path, "SELECT COUNT(*) FROM pool_tombstones") == [(0,)]
    clock.advance(60)
    await store.add(SCOPE, "", ["i:b"], b"y", clock.now_ms)
    assert query(path, "SELECT data FROM pool_trees ORDER BY data") == [(b"x",), (b"x",), (b"y",)]
    assert query(path, "SELECT COUNT(*) FROM pool_keys") == [(3,)]


async def test_evicted_keys_take_their_trees_with_them(open_store, path, clock):
    store = open_store(pool_limits=PoolLimits(max_keys=3))
    for number in range(9):
        await store.add(SCOPE, f"v{number}", [f"i:{number}", "i:same"], b"x", clock.now_ms)
    held = "SELECT COUNT(*) FROM pool_trees WHERE key_id"
    assert query(path, f"{held} NOT IN (SELECT id FROM pool_keys)") == [(0,)]
    assert query(path, "SELECT COUNT(*) FROM pool_keys") == [(3,)]


async def test_two_stores_on_one_file_share_pool_and_tombstones(open_store, clock):
    one, two = open_store(), open_store()
    await one.add(SCOPE, "u", ["i:a"], b"u", clock.now_ms)
    assert await blobs(two, "u", []) == [b"u"]
    await two.delete_user("t", "u")
    assert not await one.add(SCOPE, "u", ["i:a"], b"u", clock.now_ms)
