"""The queue before the tree pool: bounded, outliving failures, forgetting users."""

import asyncio
import time
from dataclasses import asdict

import pytest

from orchestrator.pool_writer import PoolWriter
from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import PoolScope
from specbeam.storage.embedded_state import EmbeddedStateStore
from tests.waiting import until

SCOPE = PoolScope("default", "f")
KEYS = ("i:a",)


class GatedStore(EmbeddedStateStore):
    """A store in memory that is held up by a closed gate and fails when told to."""

    def __init__(self):
        super().__init__(":memory:")
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure = None
        self.batches = []
        self.times = []

    async def add_many(self, writes):
        self.batches.append([write.data for write in writes])
        self.times.append(time.monotonic())
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return await super().add_many(writes)


class OneByOne:
    """A tree pool that takes no batches."""

    def __init__(self, store):
        self._store = store

    async def read_trees(self, *args):
        return await self._store.read_trees(*args)

    async def add(self, *args):
        return await self._store.add(*args)

    async def delete_user(self, *args):
        return await self._store.delete_user(*args)

    async def statistics(self, scope):
        return await self._store.statistics(scope)


@pytest.fixture
async def store():
    store = GatedStore()
    yield store
    store.gate.set()
    await store.close()


@pytest.fixture
async def make_writer(store):
    writers = []

    def make_writer(pool=store, **options):
        writers.append(PoolWriter(pool, **options))
        return writers[-1]

    yield make_writer
    store.gate.set()
    for writer in writers:
        await writer.close()
        counters = asdict(writer.counters)
        assert counters.pop("offered") == sum(counters.values())


@pytest.fixture
def writer(make_writer):
    return make_writer(first_pause_s=0.01)


def offer(writer, data, user="u"):
    writer.offer(SCOPE, user, KEYS, data, time.time_ns() // 1_000_000)


async def settled(writer, **wanted):
    async def now():
        return {name: getattr(writer.counters, name) for name in wanted}

    await until(now, wanted)


async def kept(store, user=""):
    return [tree.data for tree in await store.read_trees(SCOPE, user, KEYS, 99)]


async def test_what_is_offered_is_written_soon(store, writer):
    offer(writer, b"one", "u")
    offer(writer, b"two", "v")
    assert writer.waiting == 2
    await settled(writer, offered=2, written=2)
    assert await kept(store) == [b"two", b"one"]
    offer(writer, b"three", "w")
    await settled(writer, written=3)


async def test_refused_trees_are_counted(writer):
    offer(writer, bytes(9000))
    writer.offer(SCOPE, "u", KEYS, b"late", 0)
    offer(writer, b"good")
    await settled(writer, refused=2, written=1)


async def test_store_without_batches_is_written_one_by_one(make_writer, store):
    writer = make_writer(OneByOne(store))
    for name in "abc":
        offer(writer, name.encode(), name)
    await settled(writer, written=3)
    assert await kept(store) == [b"c", b"b", b"a"]


async def test_offer_never_waits_and_the_oldest_make_room(make_writer, store):
    writer = make_writer(max_waiting=4)
    store.gate.clear()
    offer(writer, b"first")
    await until(lambda: _value(store.batches), [[b"first"]])
    for number in range(10):
        offer(writer, b"%d" % number, f"v{number}")
    assert writer.waiting == 4
    assert writer.counters.dropped == 6
    store.gate.set()
    await settled(writer, written=5)
    assert store.batches == [[b"first"], [b"6", b"7", b"8", b"9"]]


async def test_batches_are_bounded(make_writer, store):
    writer = make_writer()
    for number in range(100):
        offer(writer, b"%d" % number, f"v{number}")
    await settled(writer, written=100)
    assert [len(batch) for batch in store.batches] == [32, 32, 32, 4]


async def test_outage_is_logged_once_and_outlived(writer, store, caplog):
    caplog.set_level("INFO", "orchestrator.pool_writer")
    store.failure = StoreUnavailable()
    for failed in (1, 2, 3):
        offer(writer, b"lost")
        await settled(writer, failed=failed)
    store.failure = None
    offer(writer, b"kept")
    await settled(writer, written=1)
    store.failure = StoreUnavailable()
    offer(writer, b"lost")
    await settled(writer, failed=4)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO", "WARNING"]
    assert await kept(store) == [b"kept"]


async def test_pauses_grow_and_end_with_the_outage(make_writer, store):
    writer = make_writer(first_pause_s=0.05, longest_pause_s=0.1)
    store.failure = StoreUnavailable()
    for failed in range(1, 5):
        offer(writer, b"lost")
        await settled(writer, failed=failed)
    gaps = [after - before for before, after in zip(store.times, store.times[1:], strict=False)]
    # Offers come at once after each failure: what lies between two attempts is the pause.
    assert gaps[0] >= 0.05 and min(gaps[1:]) >= 0.1
    assert max(gaps) < 1
    store.failure = None
    offer(writer, b"kept")
    await settled(writer, written=1)
    start = time.monotonic()
    offer(writer, b"again")
    await settled(writer, written=2)
    assert time.monotonic() - start < 0.1


async def test_a_bug_is_logged_in_full_and_outlived(writer, store, caplog):
    store.failure = OverflowError("a bug")
    offer(writer, b"lost")
    await settled(writer, failed=1)
    store.failure = None
    offer(writer, b"kept")
    await settled(writer, written=1)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info[1].args == ("a bug",)


async def test_forgotten_user_is_not_written(make_writer, store):
    writer = make_writer()
    store.gate.clear()
    offer(writer, b"other", "v")
    await until(lambda: _value(len(store.batches)), 1)
    for name in ["u", "w", "u"]:
        offer(writer, name.encode(), name)
    # Nothing of the user is under way: there is nothing to wait for.
    await asyncio.wait_for(writer.forget("u"), 1)
    assert (writer.waiting, writer.counters.forgotten) == (1, 2)
    store.gate.set()
    await settled(writer, written=2)
    assert await kept(store) == [b"w", b"other"]


async def test_forgetting_waits_for_a_write_under_way(writer, store):
    store.gate.clear()
    offer(writer, b"mine", "u")
    await until(lambda: _value(len(store.batches)), 1)
    forgetting = asyncio.create_task(writer.forget("u"))
    await asyncio.sleep(0.05)
    assert not forgetting.done()
    store.gate.set()
    await asyncio.wait_for(forgetting, 1)
    # It is in the store now, not after the deletion that follows.
    assert await kept(store, "u") == [b"mine"]
    await store.delete(SCOPE.tenant, "u")
    assert await kept(store, "u") == []


async def test_forgetting_ends_when_the_write_under_way_fails(writer, store):
    store.gate.clear()
    store.failure = StoreUnavailable()
    offer(writer, b"mine", "u")
    await until(lambda: _value(len(store.batches)), 1)
    forgetting = asyncio.create_task(writer.forget("u"))
    store.gate.set()
    await asyncio.wait_for(forgetting, 1)


async def test_offer_of_a_request_that_began_before_the_deletion_is_refused(writer, store):
    began = time.time_ns() // 1_000_000
    await writer.forget("u")
    await store.delete(SCOPE.tenant, "u")
    writer.offer(SCOPE, "u", KEYS, b"late", began)
    await settled(writer, refused=1)
    assert await kept(store, "u") == []


async def test_close_writes_what_waits(make_writer, store):
    writer = make_writer()
    for number in range(50):
        offer(writer, b"%d" % number, f"v{number}")
    await writer.close()
    assert writer.counters.written == 50
    offer(writer, b"too late")
    assert writer.counters.dropped == 1
    await writer.close()


async def test_close_waits_a_second_at_most(make_writer, store):
    writer = make_writer()
    store.gate.clear()
    offer(writer, b"stuck")
    await until(lambda: _value(len(store.batches)), 1)
    offer(writer, b"waiting")
    start = time.monotonic()
    await writer.close()
    assert 0.9 < time.monotonic() - start < 2
    assert writer.counters.dropped == 2


async def test_close_does_not_sit_out_a_pause(make_writer, store):
    writer = make_writer(first_pause_s=60)
    store.failure = StoreUnavailable()
    offer(writer, b"lost")
    await settled(writer, failed=1)
    store.failure = None
    offer(writer, b"last chance")
    start = time.monotonic()
    await writer.close()
    assert time.monotonic() - start < 0.5
    assert writer.counters.written == 1


async def test_close_gives_up_on_a_store_that_fails(make_writer, store):
    writer = make_writer()
    store.failure = StoreUnavailable()
    for number in range(40):
        offer(writer, b"%d" % number)
    await writer.close()
    assert (writer.counters.failed, writer.counters.dropped) == (32, 8)


async def test_closing_an_unused_writer_is_nothing(make_writer):
    await make_writer().close()


async def _value(value):
    return value
