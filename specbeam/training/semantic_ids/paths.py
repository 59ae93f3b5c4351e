"""Prefixes of code paths, numbered: what collisions and quality both count."""

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


def prefix_numbers(codes: Int32Array) -> list[Int64Array]:
    """Number the distinct prefixes of each length, in lexicographic order.

    Args:
        codes: non-negative codes. Shape (N, L).

    Returns:
        L arrays of shape (N,): entry l - 1 holds each item's prefix of length l as a number in
        0 .. distinct prefixes - 1. Items with equal whole paths share the last number.
    """
    numbers: list[Int64Array] = []
    prefix = np.zeros(len(codes), np.int64)
    for column in codes.T:
        # Renumbered at each level, the key stays below N times the number of codes.
        key = prefix * (int(column.max(initial=0)) + 1) + column
        prefix = np.unique(key, return_inverse=True)[1].reshape(-1).astype(np.int64)
        numbers.append(prefix)
    return numbers


def ranks_in_groups(groups: Int64Array, order: Int64Array) -> Int64Array:
    """Return each item's place within its group.

    Args:
        groups: group number per item. Shape (N,).
        order: all items, sorted by group first. Shape (N,).

    Returns:
        0 for the first item of a group in `order`, 1 for the second, and so on. Shape (N,).
    """
    in_order = groups[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    lengths = np.diff(np.r_[starts, len(order)])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, lengths)
    return ranks
