"""What only a file can do: be closed, shared, broken, locked."""

import sqlite3

import pytest

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import AppendResult, Event
from specbeam.storage.embedded_state import EmbeddedStateStore

ONE, TWO = Event("a", "1"), Event("b", "2")


@pytest.fixture
async def open_store(tmp_path):
    stores = []

    def open_store(name="h.sqlite"):
        stores.append(EmbeddedStateStore(tmp_path / name))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


async def test_closed_file_keeps_its_histories(open_store):
    first = open_store()
    await first.append("t", "u", [ONE])
    await first.close()
    assert (await open_store().read("t", "u", 9)).events == (ONE,)


async def test_two_stores_on_one_file_see_each_other(open_store):
    one, two = open_store(), open_store()
    await one.append("t", "u", [ONE])
    assert await two.append("t", "u", [ONE, TWO]) == AppendResult(1, 1, 2)
    assert (await one.read("t", "u", 9)).total == 2


async def test_writes_wait_for_the_disk(open_store, tmp_path):
    store = open_store()
    await store.ping()
    settings = await store._database.run(
        lambda db: [
            db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")
        ]
    )
    assert settings == ["wal", 2]


async def test_file_that_is_no_database_is_unavailable(open_store, tmp_path):
    (tmp_path / "h.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailable):
        await open_store().ping()


async def test_file_of_a_newer_version_is_unavailable(open_store, tmp_path):
    with sqlite3.connect(tmp_path / "h.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnavailable) as caught:
        await open_store().ping()
    assert "99" in str(caught.value.__cause__)


async def test_path_that_cannot_be_made_is_unavailable(open_store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        await open_store("file/h.sqlite").ping()


async def test_failed_append_stores_nothing_and_the_next_one_works(open_store):
    store = open_store()
    broken = Event("c", "3", time_ms=2**70)
    with pytest.raises(OverflowError):
        await store.append("t", "u", [ONE, broken])
    assert await store.append("t", "u", [ONE, TWO]) == AppendResult(2, 0, 2)


async def test_closed_store_is_unavailable(open_store):
    store = open_store()
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.ping()
