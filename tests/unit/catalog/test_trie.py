"""The trie against a dict, its file, and its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from specbeam.catalog import CatalogError, ItemTrie
from specbeam.catalog import trie as trie_module


def random_catalog(seed: int, items: int = 300) -> tuple[np.ndarray, list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    depth = 1 + seed % 5
    paths = rng.integers(3, 3 + int(rng.integers(2, 20)), (items, depth))
    return paths, [f"id-{n:03d}" for n in rng.permutation(items)], rng.integers(0, 5, items)


@pytest.mark.parametrize("seed", range(8))
def test_items_are_in_the_total_order(seed: int) -> None:
    paths, ids, counts = random_catalog(seed)
    trie = ItemTrie.build(paths, ids, counts)
    want = sorted(zip(paths.tolist(), -counts, ids, strict=True))
    assert [trie.item_id(i) for i in range(trie.num_items)] == [row[2] for row in want]
    np.testing.assert_array_equal(trie.paths(trie.index_of(ids)), paths)
    assert trie.index_of(["nobody"]).tolist() == [-1]


@pytest.mark.parametrize("seed", range(8))
def test_nodes_are_the_distinct_prefixes_in_order(seed: int) -> None:
    paths, ids, counts = random_catalog(seed)
    trie = ItemTrie.build(paths, ids, counts)
    for level in range(1, trie.depth + 1):
        prefixes = sorted({tuple(p[:level]) for p in paths.tolist()})
        nodes = np.arange(trie.levels[level].num_nodes)
        assert [tuple(p) for p in trie.node_paths(level, nodes).tolist()] == prefixes
        np.testing.assert_array_equal(trie.find(np.asarray(prefixes)), nodes)
        leaves = np.diff(trie.levels[level].first_leaf_of(np.append(nodes, len(nodes))))
        distinct = {tuple(p) for p in paths.tolist()}
        assert leaves.tolist() == [sum(p[:level] == q for p in distinct) for q in prefixes]


def test_unknown_paths_are_not_found() -> None:
    trie = ItemTrie.build(np.array([[3, 5], [3, 7], [4, 5]]), ["a", "b", "c"])
    paths = np.array([[3, 6], [4, 7], [9, 5], [0, 0], [3, 7]])
    assert trie.find(paths).tolist() == [-1, -1, -1, -1, 1]
    assert trie.child(1, np.array([-1, 0]), np.array([5, 5])).tolist() == [-1, 0]


@pytest.mark.parametrize("seed", range(4))
def test_large_catalogues_look_up_without_tables(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the size limits bisection and gathers answer what scans and tables do."""
    paths, ids, counts = random_catalog(seed)
    small = ItemTrie.build(paths, ids, counts)
    rng = np.random.default_rng(seed)
    wanted = np.concatenate([paths, rng.integers(0, 30, (200, paths.shape[1]))])
    leaves = np.arange(small.num_leaves)
    answers = [small.find(wanted[:, : d + 1]) for d in range(small.depth)]
    table = small.leaf_paths(leaves)
    monkeypatch.setattr(trie_module, "SCANNED_CHILDREN", 0)
    monkeypatch.setattr(trie_module, "MAX_TABLE_ENTRIES", 0)
    large = ItemTrie.build(paths, ids, counts)
    large._tables["largest"] = np.array([2**62])  # too wide to pack a path into one integer
    for depth, answer in enumerate(answers):
        np.testing.assert_array_equal(large.find(wanted[:, : depth + 1]), answer)
    np.testing.assert_array_equal(large.leaf_paths(leaves), table)
    nodes = np.arange(small.levels[1].num_nodes)
    np.testing.assert_array_equal(large.node_paths(1, nodes), small.node_paths(1, nodes))
    assert "paths" not in large._tables


def test_saved_trie_is_the_same(tmp_path: Path) -> None:
    trie = ItemTrie.build(*random_catalog(3))
    trie.save(tmp_path / "catalog.idx")
    loaded = ItemTrie.load(tmp_path / "catalog.idx")
    assert loaded.fingerprint == trie.fingerprint
    assert [loaded.item_id(i) for i in range(5)] == [trie.item_id(i) for i in range(5)]
    for ours, theirs in zip(trie.levels, loaded.levels, strict=True):
        assert (ours.num_nodes, ours.max_children) == (theirs.num_nodes, theirs.max_children)
    leaves = np.arange(trie.num_leaves)
    np.testing.assert_array_equal(loaded.leaf_paths(leaves), trie.leaf_paths(leaves))


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "catalog.idx"
    ItemTrie.build(*random_catalog(2, items=40)).save(file)
    good = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(good), 60).tolist():
        bad = bytearray(good)
        bad[place] ^= 0x41
        file.write_bytes(bytes(bad))
        with pytest.raises(CatalogError):
            ItemTrie.load(file)
    for length in (0, 5, 100, len(good) - 1):
        file.write_bytes(good[:length])
        with pytest.raises(CatalogError):
            ItemTrie.load(file)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(CatalogError) as caught:
        ItemTrie.build(np.array([[1, 2], [-2, 2], [-1, 4]]), ["a", "a", "b"])
    text = str(caught.value)
    assert "negative" in text and "no tokens" in text and "'a' appears more than once" in text
