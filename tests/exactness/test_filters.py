"""Compiled filters equal brute force over the items, at every node of random catalogues."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from specbeam.catalog import (
    FilterBatch,
    FilterCompiler,
    ItemFilter,
    ItemTrie,
    LeafFilter,
    LeafSpec,
    UnknownTagError,
    rank_items,
)
from specbeam.decoding.reference import PAD, Path, PlainFilter
from tests.exactness.catalogues import MAKERS, Catalogue
from tests.exactness.requests import (
    FILTER_COMBINATIONS,
    Request,
    random_prompt,
    random_request,
)

SEEDS = range(4)


@dataclass
class Indexed:
    """A catalogue, its trie, and the plain view of both that the brute force needs."""

    catalogue: Catalogue
    trie: ItemTrie
    compiler: FilterCompiler

    @classmethod
    def make(cls, maker: int, seed: int) -> Indexed:
        catalogue = MAKERS[maker](np.random.default_rng([maker, seed]))
        trie = catalogue.build_trie()
        return cls(catalogue, trie, FilterCompiler(trie))

    @cached_property
    def padded(self) -> dict[str, Path]:
        depth = self.catalogue.depth
        return {
            item_id: item.path + (PAD,) * (depth - len(item.path))
            for item_id, item in self.catalogue.items.items()
        }

    @cached_property
    def nodes(self) -> list[list[Path]]:
        """The prefix of every node by level, numbered as in the trie."""
        found = []
        for level in range(self.trie.depth + 1):
            numbers = np.arange(self.trie.levels[level].num_nodes)
            found.append([tuple(p) for p in self.trie.node_paths(level, numbers).tolist()])
        return found

    def alive_prefixes(self, admitted: frozenset[str]) -> set[Path]:
        return {
            self.padded[item_id][:level]
            for item_id in admitted
            for level in range(self.trie.depth + 1)
        }

    def indices(self, item_ids: frozenset[str]) -> np.ndarray:
        return self.trie.index_of(sorted(item_ids))

    def as_item_filter(self, plain: PlainFilter) -> ItemFilter:
        allowed = None if plain.allowed is None else self.indices(frozenset(plain.allowed))
        return ItemFilter(
            self.indices(frozenset(plain.excluded)),
            allowed,
            plain.required_tags,
            plain.created_after_ms,
        )


def requests_on(indexed: Indexed, seed: int) -> list[Request]:
    """One request for each combination of filter kinds."""
    rng = np.random.default_rng([seed, 5])
    prompt = random_prompt(rng, indexed.catalogue)
    return [random_request(rng, indexed.catalogue, prompt, k) for k in FILTER_COMBINATIONS]


def children_alive(indexed: Indexed, level: int, node: int, alive: set[Path]) -> list[bool]:
    """Brute force: which children of a node lead to an admitted item, in path order."""
    above = indexed.nodes[level][node]
    below = sorted({path[: level + 1] for path in indexed.padded.values()})
    return [child in alive for child in below if child[:level] == above]


def assert_children(got: np.ndarray, want: list[bool]) -> None:
    assert got[: len(want)].tolist() == want
    assert not got[len(want) :].any()


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_are_the_prefixes_of_the_items(maker: int, seed: int) -> None:
    indexed = Indexed.make(maker, seed)
    for level, nodes in enumerate(indexed.nodes):
        assert nodes == sorted({path[:level] for path in indexed.padded.values()})


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", SEEDS)
def test_alive_nodes_equal_brute_force(maker: int, seed: int) -> None:
    indexed = Indexed.make(maker, seed)
    trie, rng = indexed.trie, np.random.default_rng([maker, seed, 1])
    filters: list[LeafFilter | None] = []
    alive_sets: list[set[Path]] = []
    for request in requests_on(indexed, seed):
        alive = indexed.alive_prefixes(request.admitted)
        spec = indexed.compiler.resolve(indexed.as_item_filter(request.item_filter))
        compiled = indexed.compiler.compile(spec)
        filters.append(compiled)
        alive_sets.append(alive)
        if compiled is None:
            assert len(alive) == sum(map(len, indexed.nodes))
            continue
        for level, nodes in enumerate(indexed.nodes):
            # In any order, with repetitions: callers ask for beams and for drafted nodes.
            numbers = rng.integers(0, len(nodes), 2 * len(nodes))
            want = [nodes[number] in alive for number in numbers]
            assert compiled.alive(trie, level, numbers).tolist() == want
        for level in range(trie.depth):
            numbers = rng.permutation(len(indexed.nodes[level]))[:20]
            got = compiled.alive_children(trie, level, numbers)
            for row, number in zip(got, numbers, strict=True):
                assert_children(row, children_alive(indexed, level, int(number), alive))
    _compare_batch(indexed, rng, filters, alive_sets)


def _compare_batch(
    indexed: Indexed,
    rng: np.random.Generator,
    filters: list[LeafFilter | None],
    alive_sets: list[set[Path]],
) -> None:
    """Rows of many requests at once, each judged by its own filter."""
    batch = FilterBatch(indexed.trie, filters)
    for level in range(indexed.trie.depth):
        requests = rng.integers(0, len(filters), 40)
        numbers = rng.integers(0, len(indexed.nodes[level]), 40)
        got = batch.alive_children(level, requests, numbers)
        for row, request, number in zip(got, requests, numbers, strict=True):
            want = children_alive(indexed, level, int(number), alive_sets[request])
            assert_children(row, want)


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", SEEDS)
def test_items_equal_brute_force(maker: int, seed: int) -> None:
    """The mask over items, and what a ranking of all leaves returns."""
    indexed = Indexed.make(maker, seed)
    trie, items = indexed.trie, indexed.catalogue.items
    everything = np.arange(trie.num_items)
    ids = [trie.item_id(int(number)) for number in everything]
    assert sorted(ids) == sorted(items)
    leaves = np.arange(trie.num_leaves)
    for request in requests_on(indexed, seed):
        wanted = indexed.as_item_filter(request.item_filter)
        mask = indexed.compiler.allowed(wanted, everything)
        assert {i for i, passes in zip(ids, mask, strict=True) if passes} == request.admitted
        ranked = rank_items(
            trie,
            leaves,
            np.zeros(len(leaves)),
            request.num_items,
            lambda some, wanted=wanted: indexed.compiler.allowed(wanted, some),
        )
        best = sorted(request.admitted, key=lambda i: (indexed.padded[i], -items[i].popularity, i))
        assert [trie.item_id(int(i)) for i in ranked.items] == best[: request.num_items]
        assert ranked.exhausted == (len(best) < request.num_items)


@pytest.mark.parametrize("maker", range(len(MAKERS)))
def test_leaf_specs_of_any_making_equal_brute_force(maker: int) -> None:
    """A specification from elsewhere may set every field at once, which `resolve` never does."""
    indexed = Indexed.make(maker, 0)
    trie, rng = indexed.trie, np.random.default_rng(maker)
    leaves = np.arange(trie.num_leaves)
    for _ in range(40):
        requests = requests_on(indexed, int(rng.integers(100)))
        plain = requests[int(rng.integers(len(requests)))].item_filter
        named = PlainFilter(
            required_tags=plain.required_tags, created_after_ms=plain.created_after_ms
        )
        excluded = leaves[rng.random(len(leaves)) < rng.choice([0.0, 0.3, 1.0])]
        allowed = leaves[rng.random(len(leaves)) < rng.choice([0.0, 0.3, 1.0])]
        spec = LeafSpec(
            excluded,
            allowed if rng.random() < 0.6 else None,
            plain.required_tags,
            plain.created_after_ms,
        )
        admitted = {
            indexed.padded[item_id]
            for item_id, item in indexed.catalogue.items.items()
            if named.admits(item_id, item)
        }
        alive = {
            path
            for leaf, path in enumerate(indexed.nodes[-1])
            if path in admitted
            and leaf not in excluded
            and (spec.allowed_leaves is None or leaf in allowed)
        }
        compiled = indexed.compiler.compile(spec)
        for level, nodes in enumerate(indexed.nodes):
            prefixes = {path[:level] for path in alive}
            want = [node in prefixes for node in nodes]
            if compiled is None:
                assert all(want)
            else:
                assert compiled.alive(trie, level, np.arange(len(nodes))).tolist() == want


def test_a_small_cache_changes_nothing() -> None:
    """Named filters are recomputed when they were dropped."""
    indexed = Indexed.make(4, 0)
    small = FilterCompiler(indexed.trie, cache_bytes=1)
    for _ in range(2):
        for request in requests_on(indexed, 0):
            wanted = indexed.as_item_filter(request.item_filter)
            items = np.arange(indexed.trie.num_items)
            np.testing.assert_array_equal(
                small.allowed(wanted, items), indexed.compiler.allowed(wanted, items)
            )


def test_unknown_tags_are_named() -> None:
    indexed = Indexed.make(4, 0)
    wanted = ItemFilter(required_tags=(("all", "who"), ("what",)))
    with pytest.raises(UnknownTagError) as caught:
        indexed.compiler.resolve(wanted)
    assert sorted(caught.value.names) == ["what", "who"]
