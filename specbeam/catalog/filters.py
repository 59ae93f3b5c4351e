"""Request-time item filters on the static trie.

A filter never rebuilds the index.  An exclusion list is propagated once per request from leaves to
the root: a node is dead when every child of it is dead.  The result is a short sorted array of dead
nodes per level, empty on the upper levels in practice, so expansion tests membership only where
something can be dead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.catalog.trie import ItemTrie


@dataclass(frozen=True, slots=True)
class LeafFilter:
    """A compiled filter.

    Attributes:
        excluded_leaves: leaves that no answer may contain, ascending.  Shape (e,), int32.
        dead_nodes: per level 0 .. L the nodes without a live leaf, ascending, int64.
    """

    excluded_leaves: np.ndarray
    dead_nodes: tuple[np.ndarray, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is excluded."""
        return len(self.excluded_leaves) == 0


def excluded_leaves(trie: ItemTrie, excluded_items: np.ndarray) -> np.ndarray:
    """Return the leaves all of whose items are excluded, ascending.  Shape (e',), int64.

    Args:
        trie: the catalogue.
        excluded_items: item indices, any order, duplicates allowed.  Shape (e,).
    """
    items = np.unique(np.asarray(excluded_items, dtype=np.int64))
    leaves, counts = np.unique(trie.leaves_of(items), return_counts=True)
    sizes = np.asarray(trie.leaf_items)[leaves + 1] - np.asarray(trie.leaf_items)[leaves]
    gone: np.ndarray = leaves[counts == sizes]
    return gone


def compile_exclusions(trie: ItemTrie, excluded_items: np.ndarray) -> LeafFilter:
    """Compile excluded item indices; see `excluded_leaves` and `filter_from_leaves`."""
    return filter_from_leaves(trie, excluded_leaves(trie, excluded_items))


def filter_from_leaves(trie: ItemTrie, excluded_leaves: np.ndarray) -> LeafFilter:
    """Propagate excluded leaves upwards.

    Args:
        trie: the catalogue.
        excluded_leaves: ascending unique leaf numbers.  Shape (e,).
    """
    dead = np.asarray(excluded_leaves, dtype=np.int64)
    by_level = [dead]
    for level in range(trie.depth - 1, -1, -1):
        if not len(dead):
            by_level.append(dead)
            continue
        first_child = trie.levels[level].first_child
        parents, counts = np.unique(
            np.searchsorted(first_child, dead, side="right") - 1, return_counts=True
        )
        fan_out = np.asarray(first_child)[parents + 1] - np.asarray(first_child)[parents]
        dead = parents[counts == fan_out].astype(np.int64)
        by_level.append(dead)
    return LeafFilter(np.asarray(excluded_leaves, dtype=np.int32), tuple(reversed(by_level)))
