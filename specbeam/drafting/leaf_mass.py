"""Mass over the leaves of a trie, and the log-probabilities of children that follow from it.

Counting drafters know weights of items.  A node covers a contiguous range of leaves, so with the
masses summed up from the first leaf on, the mass of any node is one subtraction, and so is that of
a mixture.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from specbeam.catalog import ItemTrie, LeafFilter


class LeafMass(Protocol):
    """Mass of each leaf, summed up in leaf order."""

    def before(self, leaves: np.ndarray) -> np.ndarray:
        """Return the mass of all leaves before each of `leaves`.

        Args:
            leaves: leaf numbers, the number of leaves included.  Any shape.

        Returns:
            Never falls from one leaf to a later one.  Same shape, float64.
        """


class DenseLeafMass:
    """Mass on every leaf; 1 in all."""

    def __init__(self, weights: np.ndarray) -> None:
        """Sum up.

        Args:
            weights: not negative, some above 0.  Shape (num_leaves,).
        """
        sums = np.concatenate([[0], np.cumsum(weights)])
        self._before = sums / sums[-1]

    @classmethod
    def of_items(cls, trie: ItemTrie, weights: np.ndarray) -> DenseLeafMass:
        """Give each leaf the weights of its items.

        Args:
            trie: the catalogue.
            weights: by item index, integers.  Shape (N,).
        """
        first = trie.first_item_of(np.arange(trie.num_leaves))
        return cls(np.add.reduceat(weights, first, dtype=np.int64))

    @classmethod
    def of_popularity(cls, trie: ItemTrie) -> DenseLeafMass:
        """Give each leaf its items' interactions, and one more per item."""
        return cls.of_items(trie, trie.popularity.astype(np.int64) + 1)

    def before(self, leaves: np.ndarray) -> np.ndarray:
        """See `LeafMass.before`."""
        found: np.ndarray = self._before[leaves]
        return found


class SparseLeafMass:
    """Mass on a few leaves, or on none."""

    def __init__(self, leaves: np.ndarray, weights: np.ndarray) -> None:
        """Sum up.

        Args:
            leaves: any order; the weights of equal ones are added.  Shape (n,).
            weights: not negative.  Shape (n,).
        """
        order = np.argsort(leaves)
        self._leaves = leaves[order]
        self._before = np.concatenate([[0.0], np.cumsum(weights[order], dtype=np.float64)])

    def before(self, leaves: np.ndarray) -> np.ndarray:
        """See `LeafMass.before`."""
        found: np.ndarray = self._before[np.searchsorted(self._leaves, leaves)]
        return found


class BackedOffMass:
    """What is known of a request, plus a prior that decides where nothing is."""

    def __init__(self, known: LeafMass, prior: LeafMass, prior_weight: float) -> None:
        """Mix.

        Args:
            known: from evidence; the more of it, the more mass.
            prior: known without a request.
            prior_weight: factor on the prior's mass.
        """
        self._known, self._prior, self._prior_weight = known, prior, prior_weight

    def before(self, leaves: np.ndarray) -> np.ndarray:
        """See `LeafMass.before`."""
        return self._known.before(leaves) + self._prior_weight * self._prior.before(leaves)


def child_logprobs(
    trie: ItemTrie,
    level: int,
    nodes: np.ndarray,
    mass: LeafMass,
    leaf_filter: LeafFilter | None = None,
) -> np.ndarray:
    """Return the log of each child's share of its parent's mass.

    The mass of children that a filter takes away is not given to the others.

    Args:
        trie: the catalogue.
        level: level of `nodes`, 0 .. L - 1.
        nodes: node numbers, any order.  Shape (n,).
        mass: over the leaves.
        leaf_filter: which leaves may be returned; None = every leaf.

    Returns:
        -inf where there is no child, no mass, or nothing that may be returned.  Shape (n, C_d),
        float64.
    """
    above, below = trie.levels[level], trie.levels[level + 1]
    logprobs = np.full((len(nodes), above.max_children), -np.inf)
    if not len(nodes):
        return logprobs
    first, last = above.first_child_of(nodes), above.first_child_of(nodes + 1)
    width = int((last - first).max())
    # Behind a node's last child all boundaries are equal: there is no mass between them.
    boundaries = np.minimum(first[:, None] + np.arange(width + 1), last[:, None])
    before = mass.before(below.first_leaf_of(boundaries))
    masses, total = np.diff(before), before[:, -1:] - before[:, :1]
    there = masses > 0
    if leaf_filter is not None:
        there &= leaf_filter.alive_children(trie, level, nodes, width)
    shares = np.divide(masses, total, where=there, out=np.ones_like(masses))
    np.log(shares, where=there, out=logprobs[:, :width])
    return logprobs
