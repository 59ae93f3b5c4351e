"""The tree pool as a drafter: what the target has scored in requests like this one."""

from __future__ import annotations

import numpy as np

from specbeam.bundle import Bundle
from specbeam.catalog import ItemTrie
from specbeam.drafting.question import ChildScorer, DraftQuestion
from specbeam.drafting.tree_scorer import place_children
from specbeam.drafting.verified import VerifiedLevel, VerifiedTree

# A tree says little about one that is less alike: each counts this much of the one before it.
DECAY = 0.85


class PoolDrafter:
    """Averages the conditional probabilities that the target gave in earlier requests.

    Source: the retrieval drafts of DARE, here on prefixes of items: what is kept are scored nodes
    of the trie, not texts.
    """

    name = "pool"
    informed = True

    @classmethod
    def load(cls, bundle: Bundle) -> PoolDrafter:
        """Return the drafter; it needs nothing from the bundle."""
        return cls()

    def scorer(self, question: DraftQuestion) -> ChildScorer | None:
        """Return a scorer over the question's pool; None where the pool has nothing."""
        if not any(len(tree) for tree in question.pool):
            return None
        return _PoolScorer(question)


class _PoolScorer:
    """Mean of the trees that know a node; nodes that no tree knows are -inf all over."""

    def __init__(self, question: DraftQuestion) -> None:
        self._trie = question.trie
        self._pool = question.pool
        self._levels: dict[int, VerifiedLevel | None] = {}

    def __call__(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """See `ChildScorer`."""
        above = self._trie.levels[level]
        found = np.full((len(nodes), above.max_children), -np.inf)
        if level + 1 not in self._levels:
            self._levels[level + 1] = _average(self._trie, level + 1, self._pool)
        known = self._levels[level + 1]
        if known is not None:
            place_children(
                found,
                above.first_child_of(nodes),
                above.first_child_of(nodes + 1),
                known.nodes,
                known.logprobs,
            )
        return found


def _average(trie: ItemTrie, level: int, pool: tuple[VerifiedTree, ...]) -> VerifiedLevel | None:
    """Average the trees; one that lists some child of a node is asked about all of them."""
    parts = [(rank, tree.levels[level]) for rank, tree in enumerate(pool) if level in tree.levels]
    if not parts:
        return None
    rank = np.repeat([rank for rank, _ in parts], [len(part.nodes) for _, part in parts])
    weight = DECAY**rank
    nodes = np.concatenate([part.nodes for _, part in parts])
    mass = weight * np.exp(np.concatenate([part.logprobs for _, part in parts]))
    unique, place = np.unique(nodes, return_inverse=True)
    parents, parent_of = np.unique(trie.levels[level - 1].parent_of(unique), return_inverse=True)
    # Every tree counts once for each parent of which it lists a child.
    asked = np.zeros((len(parents), len(pool)))
    asked[parent_of[place], rank] = weight
    share = np.bincount(place, mass) / asked.sum(axis=1)[parent_of]
    with np.errstate(divide="ignore"):
        return VerifiedLevel(unique, np.log(share).astype(np.float32))
