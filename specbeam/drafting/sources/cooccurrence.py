"""Co-occurrence: what stood near the user's latest items in other users' histories.

Source: item-to-item neighbourhoods as a drafter, with the posterior mean of a Dirichlet prior as
the mixture with popularity; both are standard, their use below exact beams is ours.
"""

from __future__ import annotations

import numpy as np

from specbeam.bundle import Bundle
from specbeam.bundle.neighbours import KIND, NeighbourTable, load_neighbours
from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.drafting.leaf_mass import (
    BackedOffMass,
    DenseLeafMass,
    SparseLeafMass,
    child_logprobs,
)
from specbeam.drafting.question import ChildScorer, DraftQuestion

RECENT_ITEMS = 10
RECENCY_DECAY = 0.8
# Votes of that many items of unlimited evidence weigh as much as popularity does.  Chosen on
# validation users of two targets: anything from 10 to 100 is within half a point of hit rate.
PRIOR_WEIGHT = 30.0


class CooccurrenceDrafter:
    """Scores a child by the neighbours of the latest items below it, and by popularity."""

    name = "cooccurrence"
    informed = True

    def __init__(self, trie: ItemTrie, table: NeighbourTable) -> None:
        """Join a table with its catalogue."""
        self._table = table
        self._popularity = DenseLeafMass.of_popularity(trie)

    @classmethod
    def load(cls, bundle: Bundle) -> CooccurrenceDrafter | None:
        """Return the drafter of a bundle, its table mapped; None if it has no such table.

        Raises:
            BundleError: the table is damaged or belongs to another catalogue.
        """
        names = bundle.drafters_of(KIND)
        if not names:
            return None
        return cls(bundle.trie, load_neighbours(bundle.drafter_dir(names[0]), bundle.trie))

    def scorer(self, question: DraftQuestion) -> ChildScorer | None:
        """Return how children are scored in a request; None where no neighbour is known."""
        votes = self._votes(question.trie, question.history, question.leaf_filter)
        if votes is None:
            return None
        mass = BackedOffMass(votes, self._popularity, PRIOR_WEIGHT)

        def score(level: int, nodes: np.ndarray) -> np.ndarray:
            return child_logprobs(question.trie, level, nodes, mass, question.leaf_filter)

        return score

    def _votes(
        self, trie: ItemTrie, history: np.ndarray, leaf_filter: LeafFilter | None
    ) -> SparseLeafMass | None:
        """Return the votes of the latest items for leaves that may be returned."""
        place, items, weights = self._table.of(latest_items(history, RECENT_ITEMS))
        leaves = trie.leaves_of(items)
        weights = weights * RECENCY_DECAY**place
        if leaf_filter is not None:
            alive = leaf_filter.alive(trie, trie.depth, leaves)
            leaves, weights = leaves[alive], weights[alive]
        return SparseLeafMass(leaves, weights) if len(leaves) else None


def latest_items(history: np.ndarray, count: int) -> np.ndarray:
    """Return the last distinct items of a history, latest first.  Shape (at most count,), int64."""
    latest: dict[int, None] = {}
    for item in reversed(history.tolist()):
        latest.setdefault(item)
        if len(latest) == count:
            break
    return np.fromiter(latest, np.int64, len(latest))
