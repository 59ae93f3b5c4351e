import itertools

import numpy as np
import pytest

from specbeam.training.semantic_ids.collisions import (
    add_level,
    free_paths,
    reassign,
    squared_distances,
)
from specbeam.training.semantic_ids.paths import Int32Array
from specbeam.training.semantic_ids.vectors import FloatArray

Paths = list[list[int]]


def reassign_slowly(codes: Paths, residuals: FloatArray, centroids: FloatArray) -> Paths:
    def cost(item: int, code: int) -> float:
        difference = residuals[item].astype(np.float64) - centroids[code].astype(np.float64)
        return float((difference**2).sum())

    result = [list(path) for path in codes]
    movers = []
    for path in {tuple(path) for path in codes}:
        group = [item for item in range(len(codes)) if tuple(codes[item]) == path]
        group.sort(key=lambda item: (cost(item, path[-1]), item))
        movers += group[1:]
    for item in sorted(movers, key=lambda item: (cost(item, codes[item][-1]), item)):
        siblings = {tuple(path) for path in result}
        free = [c for c in range(len(centroids)) if (*codes[item][:-1], c) not in siblings]
        if free:
            result[item][-1] = min(free, key=lambda code: (cost(item, code), code))
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prefixes", [2, 8])
def test_reassignment_is_that_of_the_slow_loop(seed: int, prefixes: int) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers: distances are exact, and ties occur.
    residuals = rng.integers(-2, 3, (60, 2)).astype(np.float32)
    centroids = rng.integers(-2, 3, (12, 2)).astype(np.float32)
    first = rng.integers(0, prefixes, 60)
    last = ((residuals[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    codes = np.stack([first, first * 0, last], axis=1).astype(np.int32)
    expected = reassign_slowly(codes.tolist(), residuals, centroids)
    moved = reassign(codes, residuals, centroids)
    assert moved.tolist() == expected
    items = np.bincount(first)  # of a prefix; what finds no free code stays where it was
    assert len(np.unique(moved, axis=0)) == np.minimum(items, len(centroids)).sum()


def test_nothing_moves_without_collisions() -> None:
    codes = np.array([[0, 1], [0, 0], [1, 1]], np.int32)
    zeros = np.zeros((3, 2), np.float32)
    np.testing.assert_array_equal(reassign(codes, zeros, zeros), codes)
    assert add_level(codes, np.zeros(3)) is codes


def test_the_nearest_item_keeps_its_path() -> None:
    centroids = np.array([[0, 0], [1, 0], [3, 0]], np.float32)
    residuals = np.array([[0.4, 0], [0.1, 0], [-0.3, 0]], np.float32)
    codes = np.zeros((3, 2), np.int32)
    assert reassign(codes, residuals, centroids)[:, -1].tolist() == [2, 0, 1]


def test_an_added_level_counts_from_the_nearest_item() -> None:
    codes = np.array([[0, 1], [2, 2], [0, 1], [0, 1]], np.int32)
    levelled = add_level(codes, np.array([0.5, 9.0, 0.1, 0.5]))
    assert levelled.tolist() == [[0, 1, 1], [2, 2, 0], [0, 1, 0], [0, 1, 2]]


def test_free_paths_are_the_first_unused_ones(small: Int32Array) -> None:
    used = {tuple(path) for path in small.tolist()}
    unused = [(1, *rest) for rest in itertools.product(range(3), range(4))]
    unused = [path for path in unused if path not in used]
    paths = free_paths(small, 1, (2, 3, 4), len(unused))
    assert [tuple(path) for path in paths.tolist()] == unused
    assert free_paths(small, 1, (2, 3, 4), 0).shape == (0, 3)
    more = free_paths(small, 1, (2, 3, 4), 30)
    assert more[: len(unused)].tolist() == paths.tolist()
    assert (more < np.array([2, 3, 4])).all()


@pytest.fixture
def small() -> Int32Array:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, size, 9) for size in (2, 3, 4)], axis=1).astype(np.int32)


def test_squared_distances() -> None:
    vectors = np.array([[3, 4], [1, 1]], np.float32)
    centroids = np.array([[0, 0], [1, 0]], np.float32)
    assert squared_distances(vectors, centroids, np.array([0, 1], np.int32)).tolist() == [25, 1]
