"""Looking for a value in many ascending ranges of a column at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Values at given positions of a column.
Column = Callable[[np.ndarray], np.ndarray]


def scan_ranges(
    column: Column, size: int, low: np.ndarray, width: int, wanted: np.ndarray
) -> np.ndarray:
    """Return where `wanted` is in column[low : low + width], low + width where it is not.

    Args:
        column: the values.
        size: length of the column.
        low: first position of each range.  Shape (n,).
        width: positions compared in each range.
        wanted: one value per range.  Shape (n,).
    """
    index = low[:, None] + np.arange(width + 1)
    equal = column(np.minimum(index[:, :-1], size - 1)) == wanted[:, None]
    slot = np.where(equal.any(axis=1), equal.argmax(axis=1), width)
    found: np.ndarray = index[np.arange(len(low)), slot]
    return found


def search_ranges(
    column: Column, size: int, low: np.ndarray, high: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Return the first position in column[low:high] (ascending there) not below `wanted`.

    Args:
        column: the values.
        size: length of the column.
        low: first position of each range.  Shape (n,).
        high: end of each range.  Shape (n,).
        wanted: one value per range.  Shape (n,).
    """
    low, high = low.astype(np.int64), high.astype(np.int64)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        smaller = open_ & (column(np.minimum(middle, size - 1)) < wanted)
        low = np.where(smaller, middle + 1, low)
        high = np.where(open_ & ~smaller, middle, high)
    return low
