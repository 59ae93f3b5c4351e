"""Counting recommenders that a trained model has to beat: popularity and co-occurrence."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from specbeam.training.data.pairs import joined, near_pairs
from specbeam.training.evaluation.sparse import CsrMatrix, add_up, recency_matrix
from specbeam.training.evaluation.values import NO_ITEM

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

COOCCURRENCE_WINDOW = 5
RECENT_ITEMS = 10
RECENCY_DECAY = 0.8


class PopularityRanker:
    """The most frequent training items, the same for everybody."""

    batch_size = 1024

    def __init__(self, popularity: Int32Array) -> None:
        """Sort once.

        Args:
            popularity: training interactions per item. Shape (N,).
        """
        self._order = np.argsort(-popularity, kind="stable").astype(np.int32)

    def rank(self, histories: Sequence[Int32Array], limit: int) -> Int32Array:
        """Return the most popular items that are not in the histories."""
        ranked = np.full((len(histories), limit), NO_ITEM, np.int32)
        for row, history in zip(ranked, histories, strict=True):
            leading = self._order[: limit + len(history)]
            best = leading[~np.isin(leading, history)][:limit]
            row[: len(best)] = best
        return ranked


class VoteRanker:
    """Ranks by votes that a history's items give to others; popularity fills the rest.

    Of equal votes the smaller item number comes first.
    """

    batch_size = 256

    def __init__(self, similarity: CsrMatrix, popularity: Int32Array, decay: float) -> None:
        """Keep the votes.

        Args:
            similarity: votes of item i in row i, not negative. Shape (N, N).
            popularity: training interactions per item. Shape (N,).
            decay: weight of an item relative to the next newer one of the same history.
        """
        self._similarity, self._decay = similarity, decay
        self._fallback = PopularityRanker(popularity)

    def rank(self, histories: Sequence[Int32Array], limit: int) -> Int32Array:
        """Return the items with most votes that are not in the histories."""
        weights = recency_matrix(self._voters(histories), self._similarity.shape[0], self._decay)
        votes = (weights @ self._similarity).tocsr()
        ranked = np.full((len(histories), limit), NO_ITEM, np.int32)
        for number, history in enumerate(histories):
            row = slice(votes.indptr[number], votes.indptr[number + 1])
            # In float32 sums that differ only in the order of their terms are equal.
            given = votes.data[row].astype(np.float32)
            best = _best_of(votes.indices[row], given, history, limit)
            ranked[number, : len(best)] = best
            if len(best) < limit:
                taken = np.concatenate([history, best])
                ranked[number, len(best) :] = self._fallback.rank([taken], limit - len(best))[0]
        return ranked

    def _voters(self, histories: Sequence[Int32Array]) -> Sequence[Int32Array]:
        return histories


def _best_of(items: Int32Array, votes: Float32Array, history: Int32Array, limit: int) -> Int32Array:
    """Return the items with most votes, best first."""
    chosen = (votes > 0) & ~np.isin(items, history)
    items, votes = items[chosen], votes[chosen]
    return items[np.lexsort((items, -votes))[:limit]]


class CooccurrenceRanker(VoteRanker):
    """Items that stood near the latest items in other users' histories.

    A pair at distance d within a user counts 1 / d; sums are divided by the square root of both
    items' popularity.  A history's latest items vote with decaying weight; popularity fills the
    rest.
    """

    def __init__(self, histories: Sequence[Int32Array], popularity: Int32Array) -> None:
        """Count the pairs.

        Args:
            histories: training item numbers per user, oldest first.
            popularity: training interactions per item. Shape (N,).
        """
        super().__init__(_near_pairs(histories, popularity), popularity, RECENCY_DECAY)

    def _voters(self, histories: Sequence[Int32Array]) -> Sequence[Int32Array]:
        return [history[-RECENT_ITEMS:] for history in histories]


def _near_pairs(histories: Sequence[Int32Array], popularity: Int32Array) -> CsrMatrix:
    """Return the normalised weight of each pair of neighbours, symmetric. Shape (N, N)."""
    items, user = joined(histories)
    norm = 1.0 / np.sqrt(np.maximum(popularity, 1))
    near = near_pairs(user, COOCCURRENCE_WINDOW)
    one, two = items[near.first], items[near.second]
    weight = norm[one] * norm[two] / near.distance
    return add_up(
        np.concatenate([one, two]),
        np.concatenate([two, one]),
        np.concatenate([weight, weight]),
        (len(popularity), len(popularity)),
    )
