"""What a drafter drew a tree from, as far as the tree tells.  numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.rules.choice import Drafted
from specbeam.decoding.tree import CandidateTree, node_of_each


@dataclass(frozen=True, slots=True)
class LevelLaw:
    """The law that one level of a tree was drawn from.

    Attributes:
        parents: all nodes of the level above that it could grow from, ascending.  Shape (p,).
        logprobs: of each parent's children in node order, normalised over all of them together;
            -inf where there is no child or it is left out.  Shape (p, C_d), float64.
        drawn: nodes of the level that were drawn, ascending.  Shape (n,).
    """

    parents: np.ndarray
    logprobs: np.ndarray
    drawn: np.ndarray

    def of(self, nodes: np.ndarray, first_child: np.ndarray) -> Drafted:
        """Return what was drafted below some nodes; nothing below those that are no parents.

        Args:
            nodes: nodes of the level above, any order.  Shape (n,).
            first_child: their first children.  Shape (n,).
        """
        place = np.minimum(np.searchsorted(self.parents, nodes), len(self.parents) - 1)
        known = self.parents[place] == nodes
        logprobs = np.where(known[:, None], self.logprobs[place], -np.inf)
        children = np.asarray(first_child, np.int64)[:, None] + np.arange(logprobs.shape[1])
        return Drafted(logprobs, np.isin(children, self.drawn) & (logprobs > -np.inf))


# By the level of the parents.
DraftLaws = Mapping[int, LevelLaw]


def draft_laws(trie: ItemTrie, beams: Beams, tree: CandidateTree) -> DraftLaws:
    """Return the laws of a tree's levels; none where the tree does not tell, or wrongly.

    A tree with a node that is not in the trie cannot tell: the scores of its children would have
    no place.

    Args:
        trie: the catalogue.
        beams: current exact beams.
        tree: as received.
    """
    if tree.child_scores is None or tree.base_level != beams.level or not len(tree):
        return {}
    node, level = node_of_each(trie, beams, tree)
    if (node < 0).any():
        return {}
    growing = level < level.max()
    nodes = np.concatenate([beams.nodes, node[growing]])
    levels = np.concatenate([np.full(len(beams), beams.level), level[growing]])
    sizes = _child_counts(trie, levels, nodes)
    scores = np.asarray(tree.child_scores, np.float64)
    if int(sizes.sum()) != len(scores) or not (scores < np.inf).all():
        return {}
    starts, laws = np.cumsum(sizes) - sizes, {}
    for depth in range(beams.level, int(level.max())):
        # A parent that was sent twice counts once.
        here = np.flatnonzero(levels == depth)
        parents, first = np.unique(nodes[here], return_index=True)
        rows = here[first]
        table = _by_parent(scores, starts[rows], sizes[rows], trie.levels[depth].max_children)
        total = np.logaddexp.reduce(table, axis=None)
        if total > -np.inf:
            laws[depth] = LevelLaw(parents, table - total, np.unique(node[level == depth + 1]))
    return laws


def _child_counts(trie: ItemTrie, levels: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Number of children of nodes of several levels.  Shape (n,), int64."""
    counts = np.zeros(len(nodes), np.int64)
    for depth in np.unique(levels):
        here, level = levels == depth, trie.levels[depth]
        counts[here] = level.first_child_of(nodes[here] + 1) - level.first_child_of(nodes[here])
    return counts


def _by_parent(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray, width: int) -> np.ndarray:
    """Consecutive values as one row per parent, filled up with -inf.  Shape (p, width)."""
    slots = np.arange(width)
    there = slots < sizes[:, None]
    found: np.ndarray = np.where(
        there, values[np.where(there, starts[:, None] + slots, 0)], -np.inf
    )
    return found
