"""Items with equal code paths: moved apart, told apart by one more level, or left as they are."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from specbeam.training.semantic_ids.paths import (
    Int32Array,
    Int64Array,
    prefix_numbers,
    ranks_in_groups,
)
from specbeam.training.semantic_ids.vectors import FloatArray

CollisionPolicy = Literal["reassign", "level", "keep"]
COLLISION_POLICIES: tuple[CollisionPolicy, ...] = ("reassign", "level", "keep")


def reassign(codes: Int32Array, residuals: FloatArray, centroids: FloatArray) -> Int32Array:
    """Move colliding items to free codes of the last level under their prefix.

    Of the items that share a path, the one nearest to its centroid stays. The others move in order
    of that distance, each to the nearest code that no item under the prefix has. Equal distances go
    by item number, then by code. Items for which no code is left stay where they are.

    Args:
        codes: shape (N, L).
        residuals: what the last level was chosen by. Shape (N, d).
        centroids: of the last level. Shape (C, d).

    Returns:
        New codes; only the last column differs. Shape (N, L).
    """
    result = codes.copy()
    movers = _movers(codes, residuals, centroids)
    if not len(movers):
        return result
    last = result[:, -1]
    parent = prefix_numbers(codes)[-2] if codes.shape[1] > 1 else np.zeros(len(codes), np.int64)
    by_parent = np.argsort(parent, kind="stable")
    starts = np.searchsorted(parent[by_parent], np.arange(parent.max() + 2))
    groups = np.flatnonzero(np.bincount(parent[movers]))
    # The movers keep their order inside each prefix.
    ordered = movers[np.argsort(parent[movers], kind="stable")]
    for group, items in zip(groups, _split(ordered, parent), strict=True):
        members = by_parent[starts[group] : starts[group + 1]]
        taken = np.zeros(len(centroids), bool)
        taken[last[members]] = True
        _place(items, residuals[items], centroids, taken, last)
    return result


def add_level(codes: Int32Array, distances: npt.NDArray[np.float64]) -> Int32Array:
    """Append a level that counts the items of each path: TIGER's way to tell them apart.

    Args:
        codes: shape (N, L).
        distances: the nearest item of a path gets 0; equal ones go by item number. Shape (N,).

    Returns:
        Shape (N, L + 1), or `codes` if no two items collide.
    """
    path = prefix_numbers(codes)[-1]
    order = np.lexsort((np.arange(len(codes)), distances, path))
    ranks = ranks_in_groups(path, order)
    if not ranks.any():
        return codes
    return np.concatenate([codes, ranks[:, None].astype(np.int32)], axis=1)


def free_paths(
    codes: Int32Array, first_code: int, sizes: tuple[int, ...], count: int
) -> Int32Array:
    """Return paths below one first code that no item has, in lexicographic order.

    Args:
        codes: paths in use. Shape (N, L).
        first_code: code of level 1.
        sizes: codes per level. L entries.
        count: paths wanted, K. Where fewer are free the last ones repeat paths in use.

    Returns:
        Shape (K, L).
    """
    below = sizes[1:]
    capacity = int(np.prod(below, dtype=object)) if below else 1
    rows = codes[codes[:, 0] == first_code, 1:]
    used = np.zeros(len(rows), np.int64)
    for column, size in zip(rows.T, below, strict=True):
        used = used * size + column
    candidates = np.arange(min(count + len(used), capacity), dtype=np.int64)
    free = candidates[~np.isin(candidates, used)][:count]
    keys = np.concatenate([free, np.arange(count - len(free)) % capacity])
    columns: list[npt.NDArray[np.int64]] = []
    for size in reversed(below):
        keys, code = np.divmod(keys, size)
        columns.append(code)
    columns.append(np.full(count, first_code, np.int64))
    return np.stack(columns[::-1], axis=1).astype(np.int32)


def squared_distances(
    vectors: FloatArray, centroids: FloatArray, codes: Int32Array
) -> npt.NDArray[np.float64]:
    """Return the squared distance of each vector to the centroid of its code. Shape (N,)."""
    difference = vectors - centroids[codes]
    squares: npt.NDArray[np.float64] = np.square(difference, dtype=np.float64).sum(axis=1)
    return squares


def _movers(codes: Int32Array, residuals: FloatArray, centroids: FloatArray) -> Int64Array:
    """Return all but the nearest item of each path, nearest first."""
    path = prefix_numbers(codes)[-1]
    distances = squared_distances(residuals, centroids, codes[:, -1])
    number = np.arange(len(codes))
    ranks = ranks_in_groups(path, np.lexsort((number, distances, path)))
    movers = np.flatnonzero(ranks > 0)
    return movers[np.lexsort((movers, distances[movers]))]


def _split(ordered: Int64Array, parent: Int64Array) -> list[Int64Array]:
    edges = np.flatnonzero(np.diff(parent[ordered])) + 1
    return np.split(ordered, edges)


def _place(
    items: Int64Array,
    residuals: FloatArray,
    centroids: FloatArray,
    taken: npt.NDArray[np.bool_],
    last: Int32Array,
) -> None:
    """Give each item the nearest code that is not taken; write it to `last`."""
    places = int((~taken).sum())
    wide = centroids.astype(np.float64)
    squares = np.einsum("cd,cd->c", wide, wide)
    for item, residual in zip(items[:places], residuals[:places], strict=True):
        costs = squares - 2 * (wide @ residual.astype(np.float64))
        costs[taken] = np.inf
        code = int(costs.argmin())
        taken[code] = True
        last[item] = code
