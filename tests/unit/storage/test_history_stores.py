"""What every history store does, whichever it is."""

import asyncio

import pytest

from specbeam.storage import AppendResult, Event, History, open_state_store
from specbeam.storage.embedded_state import EmbeddedStateStore
from specbeam.storage.redis_state import RedisStateStore

T = "default"


def events(start, stop):
    return [Event(f"item-{i}", f"event-{i}", 1000 + i, "view") for i in range(start, stop)]


async def test_unknown_user_has_an_empty_history(store, user):
    assert await store.read(T, user, 10) == History((), 0)


async def test_events_come_back_in_order_of_arrival(store, user):
    late_first = [Event("b", "2", 2000, "buy"), Event("a", "1", 1000, "")]
    assert await store.append(T, user, late_first) == AppendResult(2, 0, 2)
    assert await store.append(T, user, [Event("c", "3")]) == AppendResult(1, 0, 3)
    assert await store.read(T, user, 10) == History((*late_first, Event("c", "3")), 3)


@pytest.mark.parametrize("limit", [0, 1, 3, 5, 99])
async def test_limit_returns_the_most_recent(store, user, limit):
    await store.append(T, user, events(0, 5))
    history = await store.read(T, user, limit)
    assert history.events == tuple(events(max(0, 5 - limit), 5))
    assert history.total == 5


async def test_duplicates_change_nothing_and_are_counted(store, user):
    await store.append(T, user, events(0, 3))
    changed = Event("other", "event-1", 1, "buy")
    assert await store.append(T, user, [changed, *events(2, 4)]) == AppendResult(1, 2, 4)
    assert (await store.read(T, user, 9)).events == tuple(events(0, 4))


async def test_duplicates_inside_one_append_are_counted(store, user):
    assert await store.append(T, user, events(0, 2) * 2) == AppendResult(2, 2, 2)


async def test_history_is_bounded_and_drops_the_oldest(make_store, user):
    store = make_store(max_events=4)
    assert (await store.append(T, user, events(0, 3))).total == 3
    assert await store.append(T, user, events(3, 6)) == AppendResult(3, 0, 4)
    assert await store.read(T, user, 9) == History(tuple(events(2, 6)), 4)
    assert await store.append(T, user, events(6, 30)) == AppendResult(24, 0, 4)
    assert (await store.read(T, user, 9)).events == tuple(events(26, 30))


async def test_ids_outlive_their_events_but_are_bounded(make_store, user):
    store = make_store(max_events=2)
    await store.append(T, user, events(0, 8))
    assert await store.append(T, user, events(0, 1)) == AppendResult(0, 1, 2)
    await store.append(T, user, events(8, 9))
    # Eight ids are kept: that of event 0 is forgotten now.
    assert (await store.append(T, user, events(0, 1))).stored == 1


async def test_concurrent_appends_lose_and_repeat_nothing(store, user):
    batches = [events(i, i + 5) for i in range(50)]
    results = await asyncio.gather(*(store.append(T, user, batch) for batch in batches))
    assert sum(result.stored for result in results) == 54
    assert sum(result.duplicates for result in results) == 250 - 54
    history = await store.read(T, user, 99)
    assert sorted(history.events, key=lambda e: e.time_ms) == events(0, 54)


async def test_users_and_tenants_are_apart(store, user):
    owners = [("a", f"b.{user}"), ("a.b", user), ("a", user), ("a", f"}}{user}"), ("A", user)]
    for number, (tenant, name) in enumerate(owners):
        await store.append(tenant, name, events(number, number + 1))
    for number, (tenant, name) in enumerate(owners):
        assert (await store.read(tenant, name, 9)).events == tuple(events(number, number + 1))


async def test_any_text_survives(store, user):
    odd = Event('日本"\\{}\x00\n', "id '; DROP TABLE events; --", -(2**62), "t\u0085")
    await store.append(T, user + "\x00{é}", [odd])
    assert (await store.read(T, user + "\x00{é}", 1)).events == (odd,)


async def test_delete_removes_everything_also_the_ids(store, user):
    await store.append(T, user, events(0, 3))
    assert await store.delete(T, user) is True
    assert await store.read(T, user, 9) == History((), 0)
    assert await store.delete(T, user) is False
    assert await store.append(T, user, events(0, 3)) == AppendResult(3, 0, 3)


async def test_ping(store):
    await store.ping()


@pytest.mark.parametrize("url", ["", "sqlite:", "http://x", "redis:x", "memory"])
def test_other_urls_are_refused(url):
    with pytest.raises(ValueError, match="a history store is"):
        open_state_store(url)


async def test_refused_url_is_not_repeated():
    with pytest.raises(ValueError) as caught:
        open_state_store("http://user:secret@host")
    assert "secret" not in str(caught.value)


async def test_urls_choose_the_store(tmp_path):
    stores = [
        open_state_store(url) for url in ("redis://localhost:1", f"sqlite:{tmp_path}/h", "memory:")
    ]
    kinds = [RedisStateStore, EmbeddedStateStore, EmbeddedStateStore]
    assert [type(store) for store in stores] == kinds
    for store in stores:
        await store.close()
