"""Which interactions of a log are kept.

Every function returns a mask or row numbers and leaves its arguments alone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Repeats = Literal["first", "last", "all"]
REPEATS: tuple[Repeats, ...] = ("first", "last", "all")

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What to keep, in the order in which it is applied.

    Attributes:
        min_rating: interactions rated lower are dropped; None keeps all.
        repeats: which of a user's interactions with one item is kept. A recommended item is one
            the user has not taken, so a repeat teaches nothing that can be served.
        min_user_interactions: users with fewer are dropped, again and again until all have them.
        min_item_interactions: the same for items.
    """

    min_rating: float | None = None
    repeats: Repeats = "first"
    min_user_interactions: int = 1
    min_item_interactions: int = 1


def first_of_equal_rows(user: IntArray, item: IntArray, time: IntArray) -> Mask:
    """Keep the first of the rows that agree in user, item and time.

    Args:
        user: user numbers. Shape (M,).
        item: item numbers. Shape (M,).
        time: times. Shape (M,).
    """
    return _first_of_runs(np.lexsort((time, item, user)), user, item, time)


def without_repeats(user: IntArray, item: IntArray, time: IntArray, which: Repeats) -> Mask:
    """Keep one interaction of each user with each item.

    Args:
        user: user numbers. Shape (M,).
        item: item numbers. Shape (M,).
        time: times; equal ones are in the order of the rows. Shape (M,).
        which: `first` or `last` in time, or `all` of them.
    """
    if which == "all":
        return np.ones(len(user), dtype=np.bool_)
    order = np.lexsort((time, item, user))
    if which == "last":
        order = order[::-1]
    return _first_of_runs(order, user, item)


def k_core(user: IntArray, item: IntArray, min_user: int, min_item: int) -> Mask:
    """Drop users and items with too few interactions until all that are left have enough.

    What is left is the largest such set, whatever the order in which one drops.

    Args:
        user: user numbers. Shape (M,).
        item: item numbers. Shape (M,).
        min_user: interactions that a user needs.
        min_item: interactions that an item needs.
    """
    kept = np.arange(len(user))
    while True:
        enough = (np.bincount(user[kept])[user[kept]] >= min_user) & (
            np.bincount(item[kept])[item[kept]] >= min_item
        )
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(len(user), dtype=np.bool_)
    mask[kept] = True
    return mask


def time_order(user: IntArray, time: IntArray) -> IntArray:
    """Return row numbers by user, then time, then the order of the rows.

    Args:
        user: user numbers. Shape (M,).
        time: times. Shape (M,).
    """
    return np.lexsort((time, user)).astype(np.int64)


def _first_of_runs(order: IntArray, *columns: IntArray) -> Mask:
    """Keep the first row of each run of rows that are equal in all columns.

    Args:
        order: row numbers that bring equal rows together. Shape (M,).
        columns: shape (M,) each.
    """
    new = np.zeros(len(order), dtype=np.bool_)
    new[:1] = True
    for column in columns:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    mask = np.zeros(len(order), dtype=np.bool_)
    mask[order[new]] = True
    return mask
