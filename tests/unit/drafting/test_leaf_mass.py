"""Masses of nodes against dictionaries, on random catalogues of every shape."""

from __future__ import annotations

import numpy as np
import pytest

from specbeam.catalog import ItemTrie
from specbeam.drafting.leaf_mass import (
    BackedOffMass,
    DenseLeafMass,
    LeafMass,
    SparseLeafMass,
    child_logprobs,
)
from tests.exactness.catalogues import MAKERS
from tests.exactness.requests import FILTER_COMBINATIONS
from tests.unit.drafting.slow_mass import SlowMass, some_nodes

SEEDS = range(6)


def item_weights(slow: SlowMass, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """Random counts by item index, some of them 0, and the same by id."""
    counts = rng.integers(0, 50, slow.trie.num_items)
    counts[int(rng.integers(len(counts)))] = 7
    names = [slow.trie.item_id(item) for item in range(len(counts))]
    return counts, dict(zip(names, map(float, counts), strict=True))


def few_leaves(slow: SlowMass, rng: np.random.Generator) -> tuple[SparseLeafMass, dict[str, float]]:
    """A sparse mass of some items, several of them on one leaf or named twice."""
    items = rng.integers(0, slow.trie.num_items, int(rng.integers(0, 30)))
    weights = rng.random(len(items)) + 0.01
    by_id: dict[str, float] = {}
    for item, weight in zip(items.tolist(), weights.tolist(), strict=True):
        name = slow.trie.item_id(item)
        by_id[name] = by_id.get(name, 0.0) + weight
    return SparseLeafMass(slow.trie.leaves_of(items), weights), by_id


def assert_agrees(
    slow: SlowMass, mass: LeafMass, weights: dict[str, float], rng: np.random.Generator, seed: int
) -> None:
    """Compare every level, without a filter and with one of any kind."""
    request = slow.request(seed, FILTER_COMBINATIONS[int(rng.integers(len(FILTER_COMBINATIONS)))])
    leaf_filter = slow.compiled(request)
    for level in range(slow.depth):
        nodes = some_nodes(slow.trie, level, rng)
        plain = child_logprobs(slow.trie, level, nodes, mass)
        np.testing.assert_allclose(plain, slow.child_logprobs(level, nodes, weights), atol=1e-9)
        filtered = child_logprobs(slow.trie, level, nodes, mass, leaf_filter)
        want = slow.child_logprobs(level, nodes, weights, request.admitted)
        np.testing.assert_allclose(filtered, want, atol=1e-9)
        assert (np.exp(plain).sum(axis=1) <= 1 + 1e-9).all()


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", SEEDS)
def test_dense_mass_agrees_with_dictionaries(maker: int, seed: int) -> None:
    slow, rng = SlowMass.make(maker, seed), np.random.default_rng([seed, 31])
    counts, weights = item_weights(slow, rng)
    assert_agrees(slow, DenseLeafMass.of_items(slow.trie, counts), weights, rng, seed)


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", SEEDS)
def test_sparse_mass_agrees_with_dictionaries(maker: int, seed: int) -> None:
    slow, rng = SlowMass.make(maker, seed), np.random.default_rng([seed, 37])
    mass, weights = few_leaves(slow, rng)
    assert_agrees(slow, mass, weights, rng, seed)


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", SEEDS)
def test_a_mixture_is_the_sum_of_both_masses(maker: int, seed: int) -> None:
    slow, rng = SlowMass.make(maker, seed), np.random.default_rng([seed, 41])
    counts, popular = item_weights(slow, rng)
    sparse, weights = few_leaves(slow, rng)
    mass = BackedOffMass(sparse, DenseLeafMass.of_items(slow.trie, counts), 0.7)
    total = sum(popular.values())
    mixed = {name: weights.get(name, 0.0) + 0.7 * popular[name] / total for name in popular}
    assert_agrees(slow, mass, mixed, rng, seed)


def test_masses_by_hand() -> None:
    """Items 3 4 (twice), 3 5 and 6 7 of weights 1, 2, 3 and 4."""
    paths = np.array([[3, 4], [3, 4], [3, 5], [6, 7]])
    trie = ItemTrie.build(paths, ["a", "b", "c", "d"])
    mass = DenseLeafMass.of_items(trie, np.array([1, 2, 3, 4]))
    root = np.exp(child_logprobs(trie, 0, np.array([0]), mass))
    np.testing.assert_allclose(root, [[0.6, 0.4]])
    below = np.exp(child_logprobs(trie, 1, np.array([1, 0]), mass))
    np.testing.assert_allclose(below, [[1.0, 0.0], [0.5, 0.5]])
    known = SparseLeafMass(np.array([1]), np.array([3.0]))
    mixed = np.exp(child_logprobs(trie, 1, np.array([0]), BackedOffMass(known, mass, 5.0)))
    np.testing.assert_allclose(mixed, [[1.5 / 6, 4.5 / 6]])


def test_nothing_known_is_no_candidate() -> None:
    trie = ItemTrie.build(np.array([[3, 4], [6, 7]]), ["a", "b"])
    nothing = SparseLeafMass(np.zeros(0, np.int64), np.zeros(0))
    assert (child_logprobs(trie, 1, np.array([0, 1]), nothing) == -np.inf).all()
    assert child_logprobs(trie, 1, np.zeros(0, np.int64), nothing).shape == (0, 1)
