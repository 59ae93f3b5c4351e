"""Keys, owners and the choice of trees, without any store."""

import random

import pytest

from specbeam.storage import PooledTree, PoolLimits, PoolScope, PoolWrite, pool_keys
from specbeam.storage.tree_pool import (
    StoredTree,
    choose_trees,
    is_acceptable,
    keys_of_write,
    keys_to_read,
    owner_name,
    owner_of_write,
)

SCOPE = PoolScope("t", "f")


def test_keys_are_the_last_two_items_and_the_last_one():
    assert pool_keys([]) == ()
    assert pool_keys(["a"]) == ("i:a",)
    assert pool_keys(["a", "b"]) == ("i:a\x1fb", "i:b")
    assert pool_keys(["x", "a", "b"]) == ("i:a\x1fb", "i:b")


def test_no_two_histories_share_a_key():
    long_one, long_two = "é" * 33, "é" * 32 + "ee"
    digest = pool_keys([long_one])[0][2:]
    ids = ["a", "b", "a\x1fb", "b\x1f", "", "#a", long_one, long_two, digest, "i:a", "é" * 32]
    histories = [(one,) for one in ids] + [(one, two) for one in ids for two in ids]
    assert len({pool_keys(history)[0] for history in histories}) == len(histories)


def test_keys_are_short():
    assert all(len(key.encode()) <= 3 + 2 * 64 for key in pool_keys(["ü" * 5000, "b" * 64]))


def test_owner_depends_on_tenant_and_user():
    owners = [("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"), ("a", "B")]
    assert len({owner_name(*owner) for owner in owners}) == len(owners)
    assert owner_name("a", "b") == owner_name("a", "b")
    assert "user-77" not in owner_name("tenant", "user-77")


def test_nobody_has_a_new_name_each_time():
    write = PoolWrite(SCOPE, "", ("i:a",), b"x", 0)
    assert owner_of_write(write) != owner_of_write(write)
    assert keys_of_write(write, "whoever") == ("i:a",)
    assert keys_to_read("", ["i:a", "i:b", "i:a"]) == ("i:a", "i:b")


def test_own_key_is_read_first_and_evicted_last():
    write = PoolWrite(SCOPE, "u", ("i:a", "i:b", "i:a"), b"x", 0)
    owner = owner_of_write(write)
    assert keys_of_write(write, owner) == ("i:a", "i:b", f"own:{owner}")
    assert keys_to_read(owner, ["i:a"]) == (f"own:{owner}", "i:a")


def test_own_tree_comes_first_wherever_it_was_found():
    found = [[StoredTree("x", 5000, b"x5")], [StoredTree("u", 1000, b"u1")]]
    own, other = PooledTree(b"u1", 1, True), PooledTree(b"x5", 5, False)
    assert choose_trees(found, "u", 9, 0) == (own, other)
    assert choose_trees(found, "u", 1, 0) == (own,)
    assert choose_trees(found, "u", 0, 0) == choose_trees(found, "u", -1, 0) == ()
    assert [tree.own for tree in choose_trees(found, "", 9, 0)] == [False, False]


def test_aged_tree_does_not_hide_a_fresh_one_of_its_owner():
    found = [[StoredTree("x", 10, b"old")], [StoredTree("x", 20, b"new")]]
    assert [tree.data for tree in choose_trees(found, "", 9, 11)] == [b"new"]


@pytest.mark.parametrize("seed", range(200))
def test_choice_agrees_with_a_slow_one(seed):
    rng = random.Random(seed)
    times = rng.sample(range(40), 30)
    found = [
        [StoredTree(rng.choice("uvwxyz"), times.pop(), rng.randbytes(2)) for _ in range(7)]
        for _ in range(rng.randrange(4))
    ]
    limit, oldest = rng.randrange(8), rng.randrange(30)
    taken: list[StoredTree] = []
    for trees in found:
        while fresh := [t for t in trees if t.written_us >= oldest and t not in taken]:
            newest = max(fresh, key=lambda tree: tree.written_us)
            if newest.owner in [tree.owner for tree in taken]:
                trees = [tree for tree in trees if tree != newest]
            else:
                taken.append(newest)
    taken.sort(key=lambda tree: tree.owner != "u")
    chosen = choose_trees(found, "u", limit, oldest)
    assert [tree.data for tree in chosen] == [tree.data for tree in taken[:limit]]
    assert [tree.own for tree in chosen] == [tree.owner == "u" for tree in taken[:limit]]


@pytest.mark.parametrize(
    ("write", "acceptable"),
    [
        (PoolWrite(SCOPE, "u", (), b"12345678", 70_000), True),
        (PoolWrite(SCOPE, "", ("i:a",), b"", 100_000), True),
        (PoolWrite(SCOPE, "", (), b"1", 100_000), False),
        (PoolWrite(SCOPE, "u", (), b"123456789", 100_000), False),
        (PoolWrite(SCOPE, "u", (), b"1", 69_999), False),
    ],
)
def test_what_is_refused_without_asking_the_store(write, acceptable):
    limits = PoolLimits(max_tree_bytes=8, tombstone_s=60)
    assert is_acceptable(write, limits, now_ms=100_000) is acceptable


@pytest.mark.parametrize(
    "limit", ["trees_per_key", "max_keys", "max_age_s", "max_tree_bytes", "tombstone_s"]
)
def test_limits_are_positive(limit):
    with pytest.raises(ValueError, match=limit):
        PoolLimits(**{limit: 0})
