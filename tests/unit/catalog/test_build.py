"""Variable lengths, tags, creation times; and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from specbeam.catalog import (
    FRESHNESS_BUCKET_MS,
    MAX_DEPTH,
    PAD,
    CatalogError,
    ItemTrie,
    columns,
    pad_paths,
)

END = 2


def titles(seed: int, items: int = 200, longest: int = 40) -> list[list[int]]:
    """Titles with shared beginnings, long unary tails and equal ones."""
    rng = np.random.default_rng(seed)
    stems = [rng.integers(3, 30, int(rng.integers(0, 12))).tolist() for _ in range(8)]
    found = []
    for _ in range(items):
        stem = stems[int(rng.integers(len(stems)))]
        tail = rng.integers(3, 30, int(rng.integers(1, longest - 12))).tolist()
        found.append(stem + (tail if rng.random() < 0.8 else tail[:1]))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sparse", [False, True])
def test_titles_of_any_length_are_kept(
    seed: int, sparse: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if sparse:
        monkeypatch.setattr(columns, "_DENSE_BELOW", 0)
    paths = pad_paths(titles(seed), [END])
    ids = [f"t{n}" for n in range(len(paths))]
    trie = ItemTrie.build(paths, ids)
    trie.save(tmp_path / "x")
    for one in (trie, ItemTrie.load(tmp_path / "x")):
        assert one.has_padding and one.depth == paths.shape[1]
        np.testing.assert_array_equal(one.paths(one.index_of(ids)), paths)
        for level in range(1, one.depth + 1):
            prefixes = sorted({tuple(p[:level]) for p in paths.tolist()})
            nodes = np.arange(one.levels[level].num_nodes)
            assert [tuple(p) for p in one.node_paths(level, nodes).tolist()] == prefixes
            np.testing.assert_array_equal(one.find(np.asarray(prefixes)), nodes)
            tokens = {p[-1] for p in prefixes} - {PAD}
            assert one.level_tokens(level).tolist() == sorted(tokens)


def test_one_item_of_one_token() -> None:
    trie = ItemTrie.build(np.array([[7]]), ["only"])
    assert trie.depth == trie.num_leaves == 1
    assert trie.paths(np.array([0])).tolist() == [[7]]
    assert trie.largest_token() == 7


def test_tags_and_times_are_in_trie_order(tmp_path: Path) -> None:
    paths = np.array([[9, 9], [3, 4], [5, 6], [3, 4]])
    times = np.array([5 * FRESHNESS_BUCKET_MS + 17, -1, 0, 8 * FRESHNESS_BUCKET_MS])
    tags = {"z": [0, 3], "a": np.array([1, 1, 2])}
    trie = ItemTrie.build(paths, ["n", "b", "c", "a"], tags=tags, created_at_ms=times)
    trie.save(tmp_path / "x")
    for one in (trie, ItemTrie.load(tmp_path / "x")):
        assert one.tag_names == ("a", "z")
        named = {tag: [one.item_id(i) for i in one.tagged_items(tag)] for tag in one.tag_names}
        assert named == {"a": ["b", "c"], "z": ["a", "n"]}
        found = one.created_ms(one.index_of(["n", "b", "c", "a"])) // FRESHNESS_BUCKET_MS
        assert found.tolist() == [5, -1, 0, 8]
    other = ItemTrie.build(paths, ["n", "b", "c", "a"], tags={"z": [0]}, created_at_ms=times)
    assert other.fingerprint != trie.fingerprint


@pytest.mark.parametrize(
    ("paths", "ids", "extra", "expected"),
    [
        ([[1, PAD, 3]], ["a"], {}, "padding before a token"),
        ([[PAD, PAD]], ["a"], {}, "no tokens"),
        ([[1, 2, PAD], [1, 2, 3]], ["short", "long"], {}, "'short' is the beginning"),
        ([[1, 2]], [""], {}, "empty id"),
        ([[1, 2], [3, 4]], ["a"], {}, "2 paths, 1 ids"),
        ([[2**31]], ["a"], {}, "above"),
        ([[1.5]], ["a"], {}, "integers"),
        ([[1] * (MAX_DEPTH + 1)], ["a"], {}, "64 are supported"),
        (np.zeros((0, 3), int), [], {}, "needs 1"),
        ([[1]], ["a"], {"tags": {"": [0]}}, "tag ''"),
        ([[1]], ["a"], {"tags": {"x": [1]}}, "outside 0 .. 0"),
        ([[1]], ["a"], {"tags": {"x": []}}, "on no item"),
        ([[1]], ["a"], {"tags": {"x": [0.5]}}, "row numbers"),
        ([[1]], ["a"], {"created_at_ms": np.zeros(2)}, "creation times"),
    ],
)
def test_what_is_wrong_is_named(paths: object, ids: list[str], extra: dict, expected: str) -> None:
    with pytest.raises(CatalogError, match=expected):
        ItemTrie.build(np.asarray(paths), ids, **extra)


def test_a_file_of_the_former_format_says_so(tmp_path: Path) -> None:
    from specbeam.catalog.array_file import save_arrays

    save_arrays(tmp_path / "old", {"x": np.zeros(1, np.int32)}, {"format": "specbeam-trie-1"})
    with pytest.raises(CatalogError, match="older release"):
        ItemTrie.load(tmp_path / "old")
