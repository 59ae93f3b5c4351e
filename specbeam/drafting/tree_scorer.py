"""A scored tree, such as a model drafter's proposal, as log-probabilities of children."""

from __future__ import annotations

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.drafting.verified import VerifiedTree


class TreeScorer:
    """Looks up listed nodes; a `ChildScorer` that is -inf everywhere else."""

    def __init__(self, trie: ItemTrie, tree: VerifiedTree) -> None:
        """Keep the tree; a proposal becomes one by `VerifiedTree.join`."""
        self._trie, self._tree = trie, tree

    def __call__(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """See `ChildScorer`."""
        above = self._trie.levels[level]
        found = np.full((len(nodes), above.max_children), -np.inf)
        known = self._tree.levels.get(level + 1)
        if known is not None:
            place_children(
                found,
                above.first_child_of(nodes),
                above.first_child_of(nodes + 1),
                known.nodes,
                known.logprobs,
            )
        return found


def place_children(
    found: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    listed: np.ndarray,
    values: np.ndarray,
) -> None:
    """Write the values of listed nodes to the places of their parents' children.

    Args:
        found: written in place.  Shape (n, C).
        first: first child of each of n nodes.  Shape (n,).
        last: one past its last child.  Shape (n,).
        listed: nodes of the children's level, ascending.  Shape (m,).
        values: one for each.  Shape (m,).
    """
    low, high = listed.searchsorted(first), listed.searchsorted(last)
    size = high - low
    row = np.repeat(np.arange(len(first)), size)
    entry = np.arange(int(size.sum())) + np.repeat(low - (np.cumsum(size) - size), size)
    found[row, listed[entry] - np.asarray(first)[row]] = values[entry]
