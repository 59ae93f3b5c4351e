"""Simple recommenders that a trained model has to beat."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]

COOCCURRENCE_WINDOW = 5
RECENT_ITEMS = 10
RECENCY_DECAY = 0.8


class Ranker(Protocol):
    """Anything that ranks items for a history."""

    def rank(self, history: Int32Array, limit: int) -> list[int]:
        """Return at most `limit` item numbers, best first, none of them in `history`.

        Args:
            history: item numbers, oldest first.
            limit: most items returned.
        """


class PopularityRanker:
    """The most frequent training items, the same for everybody."""

    def __init__(self, popularity: Int32Array) -> None:
        """Sort once.

        Args:
            popularity: training interactions per item. Shape (N,).
        """
        self._order: list[int] = np.argsort(-popularity, kind="stable").tolist()

    def rank(self, history: Int32Array, limit: int) -> list[int]:
        """Return the most popular items that are not in the history."""
        known = set(history.tolist())
        ranked: list[int] = []
        for item in self._order:
            if item not in known:
                ranked.append(item)
            if len(ranked) == limit:
                break
        return ranked


class CooccurrenceRanker:
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
        self._fallback = PopularityRanker(popularity)
        self._neighbours: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        norm = 1.0 / np.sqrt(np.maximum(popularity, 1))
        for history in histories:
            items = history.tolist()
            for place, item in enumerate(items):
                near = items[place + 1 : place + 1 + COOCCURRENCE_WINDOW]
                for distance, other in enumerate(near, start=1):
                    weight = float(norm[item] * norm[other]) / distance
                    self._neighbours[item][other] += weight
                    self._neighbours[other][item] += weight

    def rank(self, history: Int32Array, limit: int) -> list[int]:
        """Return the best neighbours of the latest items."""
        known = set(history.tolist())
        votes: dict[int, float] = defaultdict(float)
        for age, item in enumerate(reversed(history[-RECENT_ITEMS:].tolist())):
            for other, weight in self._neighbours.get(item, {}).items():
                if other not in known:
                    votes[other] += weight * RECENCY_DECAY**age
        ranked = sorted(votes, key=lambda item: (-votes[item], item))[:limit]
        if len(ranked) < limit:
            taken = set(ranked)
            filler = self._fallback.rank(history, limit + len(ranked))
            ranked.extend([item for item in filler if item not in taken][: limit - len(ranked)])
        return ranked
