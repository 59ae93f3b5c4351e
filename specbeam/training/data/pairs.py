"""Interactions of one user that stand near one another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pairs of rows of one user, each once.

    Attributes:
        first: earlier row. Shape (P,).
        second: later row. Shape (P,).
        distance: rows between them, plus one. Shape (P,).
    """

    first: Int64Array
    second: Int64Array
    distance: Int64Array


def near_pairs(user: npt.NDArray[np.integer], window: int) -> NearPairs:
    """Return all pairs at most `window` apart.

    Args:
        user: user of each row, rows of one user together and oldest first. Shape (M,).
        window: largest distance.
    """
    first, distance = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in range(1, window + 1):
        begin = np.flatnonzero(user[step:] == user[:-step])
        first.append(begin)
        distance.append(np.full(len(begin), step))
    start, gap = np.concatenate(first), np.concatenate(distance)
    return NearPairs(start, start + gap, gap)


def joined(
    histories: Sequence[npt.NDArray[np.int32]],
) -> tuple[npt.NDArray[np.int32], Int64Array]:
    """Return the items of all histories one after another, and the user of each."""
    items = np.concatenate([np.zeros(0, np.int32), *histories])
    return items, np.repeat(np.arange(len(histories)), [len(history) for history in histories])
