"""Rankings of many users at once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from specbeam.training.evaluation.values import NO_ITEM

Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.floating]
Progress = Callable[[float], None]


class Ranker(Protocol):
    """Anything that ranks items for histories.

    Attributes:
        batch_size: histories that are best ranked together.
    """

    batch_size: int

    def rank(self, histories: Sequence[Int32Array], limit: int) -> Int32Array:
        """Return the best items of each history, none of them in the history.

        Args:
            histories: item numbers, oldest first. B arrays.
            limit: items wanted per history, K.

        Returns:
            Item numbers, best first, NO_ITEM at the end of shorter rankings. Shape (B, K).
        """


def rank_all(
    ranker: Ranker,
    histories: Sequence[Int32Array],
    limit: int,
    on_progress: Progress = lambda share: None,
) -> Int32Array:
    """Rank batch after batch.

    Args:
        ranker: who ranks.
        histories: of all users. U arrays.
        limit: K.
        on_progress: told the share of users done, 0 .. 1.

    Returns:
        Shape (U, K).
    """
    parts = [np.empty((0, limit), np.int32)]
    for begin in range(0, len(histories), ranker.batch_size):
        batch = histories[begin : begin + ranker.batch_size]
        parts.append(ranker.rank(batch, limit))
        on_progress((begin + len(batch)) / len(histories))
    return np.concatenate(parts)


def top_items(scores: FloatArray, histories: Iterable[Int32Array], limit: int) -> Int32Array:
    """Return the best items of each row; of equal scores the smaller item number comes first.

    Args:
        scores: -inf where an item must not be recommended; overwritten. Shape (B, N).
        histories: items not recommended. B arrays.
        limit: K.

    Returns:
        Item numbers, NO_ITEM at the end of rows with fewer than K items. Shape (B, K).
    """
    for row, history in zip(scores, histories, strict=True):
        row[history] = -np.inf
    kept = min(limit, scores.shape[1])
    lowest = np.partition(scores, -kept, axis=1)[:, -kept]
    ranked = np.full((len(scores), limit), NO_ITEM, np.int32)
    for place, (row, least) in enumerate(zip(scores, lowest, strict=True)):
        # More than K where the last place is shared.
        found = np.flatnonzero((row >= least) & (row > -np.inf))
        best = found[np.argsort(-row[found], kind="stable")][:limit]
        ranked[place, : len(best)] = best
    return ranked
