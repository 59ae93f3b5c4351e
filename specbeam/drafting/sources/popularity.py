"""Popularity by prefix: what most users took below a node, the same for every user.

It needs no file and no request, and it is stronger than it looks: below exact beams a target that
was trained on few interactions per item follows the popularity of the items closely.
"""

from __future__ import annotations

import numpy as np

from specbeam.bundle import Bundle
from specbeam.catalog import ItemTrie
from specbeam.drafting.leaf_mass import DenseLeafMass, child_logprobs
from specbeam.drafting.question import ChildScorer, DraftQuestion


class PopularityDrafter:
    """Scores a child by the interactions with the items below it, counted once more per item."""

    name = "popularity"
    informed = False

    def __init__(self, trie: ItemTrie) -> None:
        """Sum up the popularity of all items."""
        self._mass = DenseLeafMass.of_popularity(trie)

    @classmethod
    def load(cls, bundle: Bundle) -> PopularityDrafter | None:
        """Return the drafter of a bundle; every bundle has one."""
        return cls(bundle.trie)

    def scorer(self, question: DraftQuestion) -> ChildScorer | None:
        """Return how children are scored in a request."""

        def score(level: int, nodes: np.ndarray) -> np.ndarray:
            return child_logprobs(question.trie, level, nodes, self._mass, question.leaf_filter)

        return score
