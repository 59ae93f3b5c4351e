"""Filters and ranking against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from specbeam.catalog import FilterCompiler, ItemFilter, ItemTrie, rank_items
from tests.unit.catalog.test_trie import random_catalog


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.8, 0.99, 1.0])
def test_dead_nodes_are_those_without_an_allowed_item(seed: int, share: float) -> None:
    paths, ids, counts = random_catalog(seed)
    trie = ItemTrie.build(paths, ids, counts)
    rng = np.random.default_rng(seed)
    excluded = np.flatnonzero(rng.random(trie.num_items) < share)
    compiler = FilterCompiler(trie)
    compiled = compiler.compile(compiler.resolve(ItemFilter(excluded_items=excluded)))
    allowed = np.delete(trie.paths(np.arange(trie.num_items)), excluded, axis=0).tolist()
    for level in range(trie.depth + 1):
        alive = {tuple(path[:level]) for path in allowed}
        nodes = np.arange(trie.levels[level].num_nodes)
        all_paths = [tuple(p) for p in trie.node_paths(level, nodes).tolist()]
        dead = [node for node, path in enumerate(all_paths) if path not in alive]
        assert (compiled.dead[level].tolist() if compiled else []) == dead


def test_items_of_a_leaf_come_by_popularity_then_id() -> None:
    paths = np.array([[3, 4], [3, 4], [3, 4], [5, 6]])
    trie = ItemTrie.build(paths, ["c", "a", "b", "z"], np.array([1, 1, 9, 0]))
    ranked = rank_items(trie, np.array([1, 0]), np.array([-1.0, -1.0]), 3)
    assert [trie.item_id(i) for i in ranked.items] == ["b", "a", "c"]
    assert not ranked.exhausted
    without = rank_items(
        trie,
        np.array([0, 1]),
        np.array([-2.0, -1.0]),
        4,
        lambda items: ~np.isin(items, trie.index_of(["b"])),
    )
    assert [trie.item_id(i) for i in without.items] == ["z", "a", "c"]
    assert without.exhausted
    assert without.scores.tolist() == [-1.0, -2.0, -2.0]


def test_no_leaves_give_no_items() -> None:
    trie = ItemTrie.build(np.array([[3]]), ["a"])
    ranked = rank_items(trie, np.zeros(0, np.int64), np.zeros(0), 2)
    assert len(ranked.items) == 0 and ranked.exhausted
