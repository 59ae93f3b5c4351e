"""A history and its trees at once."""

import random

import pytest

from specbeam.storage import Event, History, PoolScope, pool_keys

T = "default"


@pytest.fixture
def pool(make_store, clock):
    return make_store(clock_ms=clock)


async def test_nothing_is_known_of_an_unknown_user(pool, scope, user):
    nothing = (History((), 0), ())
    assert await pool.read_with_pool(T, user, 9, scope, None, 9) == nothing
    assert await pool.read_with_pool(T, "", 9, scope, None, 9) == nothing


async def test_given_keys_are_looked_up(pool, scope, user, clock):
    await pool.append(T, user, [Event("a", "1"), Event("b", "2")])
    await pool.add(scope, "x", ["i:b"], b"under b", clock.now_ms)
    await pool.add(scope, "y", ["i:c"], b"under c", clock.now_ms)
    await pool.add(scope, user, [], b"own", clock.now_ms)
    history, trees = await pool.read_with_pool(T, user, 9, scope, ["i:c"], 9)
    assert [event.item_id for event in history.events] == ["a", "b"]
    assert [(tree.data, tree.own) for tree in trees] == [(b"own", True), (b"under c", False)]
    _, trees = await pool.read_with_pool(T, user, 9, scope, [], 9)
    assert [tree.data for tree in trees] == [b"own"]
    history, trees = await pool.read_with_pool(T, "", 9, scope, ["i:c"], 9)
    assert (history, [tree.data for tree in trees]) == (History((), 0), [b"under c"])


@pytest.mark.parametrize("limit", [0, 1, 2, 99])
async def test_keys_come_from_the_last_two_events_whatever_the_limit(
    pool, scope, user, clock, limit
):
    events = [Event(item_id, item_id) for item_id in "xab"]
    await pool.append(T, user, events)
    for number, key in enumerate(["i:b", "i:a\x1fb", "i:a", "i:x\x1fa"]):
        await pool.add(scope, f"v{number}", [key], key.encode(), clock.now_ms)
    history, trees = await pool.read_with_pool(T, user, limit, scope, None, 9)
    assert history == History(tuple(events[max(0, 3 - limit) :]), 3)
    assert [tree.data for tree in trees] == [b"i:a\x1fb", b"i:b"]


@pytest.mark.parametrize("seed", range(5))
async def test_derived_keys_are_those_of_pool_keys(pool, scope, user, clock, seed):
    rng = random.Random(seed)
    odd = [
        "a",
        "b" * 64,
        "b" * 65,
        "é" * 32,
        "é" * 33,
        "#x",
        "a\x1fb",
        "\x00",
        "",
        '"\\/\n',
        "日本",
        "😀" * 17,
        "1",
    ]
    for number in range(20):
        items = rng.choices(odd, k=rng.randrange(1, 4))
        name = f"{user} {number}"
        await pool.append(T, name, [Event(item, str(at)) for at, item in enumerate(items)])
        where = PoolScope(T, f"{scope.fingerprint} {number}")
        for at, key in enumerate(pool_keys(items)):
            await pool.add(where, f"v{at}", [key], b"%d" % at, clock.now_ms)
        _, trees = await pool.read_with_pool(T, name, 9, where, None, 9)
        assert [tree.data for tree in trees] == [b"0", b"1"][: len(items)]


async def test_limits_hold_for_both_parts(pool, scope, user, clock):
    await pool.append(T, user, [Event(item, item) for item in "abc"])
    for number in range(5):
        await pool.add(scope, f"v{number}", ["i:c"], b"%d" % number, clock.now_ms)
    history, trees = await pool.read_with_pool(T, user, 2, scope, None, 3)
    assert [event.item_id for event in history.events] == ["b", "c"]
    assert [tree.data for tree in trees] == [b"4", b"3", b"2"]


async def test_both_parts_alone_return_the_same(pool, scope, user, clock):
    await pool.append(T, user, [Event(item, item) for item in "abc"])
    for name in (user, "x", "y"):
        await pool.add(scope, name, pool_keys("abc"), name.encode(), clock.now_ms)
    history, trees = await pool.read_with_pool(T, user, 2, scope, None, 2)
    assert history == await pool.read(T, user, 2)
    assert trees == await pool.read_trees(scope, user, pool_keys("abc"), 2)
