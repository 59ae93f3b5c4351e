"""Candidate trees: from drafted (parent, token) pairs to the rows of one pass.  numpy only.

A trie node identifies a prefix, so a tree is one set of trie nodes per level.  Drafters send nodes
best first; that order decides who keeps a row when the budget is short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams

# Levels whose nodes have few children on average are added whole instead of being drafted: such a
# level cannot miss, and costs about two rows per parent on 12 k items with four 256-code levels.
EXHAUSTIVE_MEAN_CHILDREN = 4.0

# A question about nodes of one level: (level, nodes (n,)) -> (n,) bool.
NodeTest = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class CandidateTree:
    """Drafted nodes below the exact beams of one level.

    Attributes:
        base_level: level of the beams the tree hangs from.
        parents: 0 .. W' - 1 name the current beams in ascending node order, W' + i names drafted
            node i; parents come before children.  Shape (n,), int64.
        tokens: vocabulary id of each drafted node.  Shape (n,), int64.
        complete: nothing is to be added to it; else levels of few children are taken whole.
        child_scores: what it was drawn from: the drafter's cumulative log-probability of every
            child of every beam, then of every drafted node above the deepest level; None = not
            told.  Shape (sum of their children,), float.
    """

    base_level: int
    parents: np.ndarray
    tokens: np.ndarray
    complete: bool = False
    child_scores: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of drafted nodes."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class ResolvedTree:
    """Drafted nodes as trie nodes.

    Attributes:
        levels: nodes by level, in the order sent (best first), without duplicates.
        dropped: nodes that were malformed, duplicate, not in the trie, or below such a node.
    """

    levels: dict[int, np.ndarray] = field(default_factory=dict)
    dropped: int = 0


def resolve_tree(trie: ItemTrie, beams: Beams, tree: CandidateTree) -> ResolvedTree:
    """Map a drafted tree to trie nodes; a bad node is dropped with everything below it.

    A tree for another level than the beams' is dropped whole.  Nodes of the last level need no row
    and are dropped too.

    Args:
        trie: the catalogue.
        beams: current exact beams.
        tree: as received.
    """
    if tree.base_level != beams.level or len(tree) == 0:
        return ResolvedTree(dropped=len(tree))
    node, level = node_of_each(trie, beams, tree)
    levels: dict[int, np.ndarray] = {}
    for depth in range(beams.level + 1, trie.depth):
        here = node[level == depth]
        if len(here):
            levels[depth] = here[np.sort(np.unique(here, return_index=True)[1])]
    kept = sum(map(len, levels.values()))
    return ResolvedTree(levels, len(tree) - kept)


def node_of_each(
    trie: ItemTrie, beams: Beams, tree: CandidateTree
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trie node and the level of each drafted node, -1 where it has none.

    A node whose parent has none, or comes later, has none; nor has one on the last level.

    Args:
        trie: the catalogue.
        beams: the beams that `tree` hangs from.
        tree: as received.

    Returns:
        Two arrays of shape (n,), int64.
    """
    width, count = len(beams), len(tree)
    own = width + np.arange(count)
    valid = (tree.parents >= 0) & (tree.parents < own)
    parents = np.where(valid, tree.parents, 0)
    node = np.full(width + count, -1, np.int64)
    level = np.full(width + count, -1, np.int64)
    node[:width], level[:width] = beams.nodes, beams.level
    for depth in range(beams.level, trie.depth - 1):
        below = np.flatnonzero(valid & (level[parents] == depth) & (level[own] < 0))
        if not len(below):
            break
        child = trie.child(depth, node[parents[below]], tree.tokens[below])
        below, child = below[child >= 0], child[child >= 0]
        node[own[below]], level[own[below]] = child, depth + 1
    return node[width:], level[width:]


def widen_exhaustively(
    trie: ItemTrie,
    beams: Beams,
    drafted: dict[int, np.ndarray],
    budget: int,
    alive: NodeTest,
    needs_row: NodeTest,
    *,
    complete: bool = False,
) -> dict[int, np.ndarray]:
    """Cut a tree to `budget` rows and add whole levels where nodes have few children.

    The beams' own rows are not counted here, free nodes cost nothing.  Drafted nodes keep their
    order; children of earlier (better) nodes are added before children of later ones.

    Args:
        trie: the catalogue.
        beams: exact beams the tree hangs from.
        drafted: trie nodes by level, best first (see `ResolvedTree`).
        budget: rows that may be used below the beams.
        alive: whether the request's filter leaves something below a node.
        needs_row: whether a node is not free (see `Expansion`).
        complete: only cut, add no level.

    Returns:
        Nodes that need a row by level, best first; every ancestor below the beams is among them or
        free.
    """
    chosen: dict[int, np.ndarray] = {}
    parents = np.asarray(beams.nodes)
    # Free nodes between a node and the row above it: a row below them needs theirs too.  A free
    # node has one child to go on with, so no two rows share them.
    skipped = np.zeros(len(parents), np.int64)
    for level in range(beams.level + 1, trie.depth):
        nodes = _with_parents(trie, level, drafted.get(level), parents)
        if not complete:
            nodes = _ordered_union(nodes, _children_if_thin(trie, level, parents))
        if not len(nodes):
            break
        nodes = nodes[alive(level, nodes)]
        needed = needs_row(level, nodes)
        above = skipped[_places(parents, ancestors(trie, level, nodes, level - 1))]
        costs = np.where(needed, above + 1, 0)
        affordable = np.cumsum(costs) <= max(budget, 0)
        parents, needed = nodes[affordable], needed[affordable]
        if not len(parents):
            break
        if needed.any():
            chosen[level] = parents[needed]
            budget -= int(costs[affordable].sum())
        skipped = np.where(needed, 0, above[affordable] + 1)
    return chosen


def _places(among: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Where each of `nodes` stands in `among` (distinct, any order).  Shape (n,), int64."""
    order = np.argsort(among)
    found: np.ndarray = order[np.searchsorted(among[order], nodes)]
    return found


def _with_parents(
    trie: ItemTrie, level: int, nodes: np.ndarray | None, parents: np.ndarray
) -> np.ndarray:
    if nodes is None:
        return np.zeros(0, np.int64)
    return nodes[np.isin(ancestors(trie, level, nodes, level - 1), parents)]


def _children_if_thin(trie: ItemTrie, level: int, parents: np.ndarray) -> np.ndarray:
    """All children of `parents`, best parents first, on a level of few children; else none."""
    if trie.levels[level].num_nodes > EXHAUSTIVE_MEAN_CHILDREN * trie.levels[level - 1].num_nodes:
        return np.zeros(0, np.int64)
    above = trie.levels[level - 1]
    first = above.first_child_of(parents).astype(np.int64)
    sizes = above.first_child_of(parents + 1) - first
    starts = np.cumsum(sizes) - sizes
    return np.repeat(first - starts, sizes) + np.arange(int(sizes.sum()))


def _ordered_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if not len(second):
        return first
    joined = np.concatenate([first, second])
    return joined[np.sort(np.unique(joined, return_index=True)[1])]


def ancestors(trie: ItemTrie, level: int, nodes: np.ndarray, at_level: int) -> np.ndarray:
    """Return the ancestor on `at_level` of each node of `level`.  Shape (n,), int64."""
    if at_level == level:
        return np.asarray(nodes, np.int64)
    if at_level == level - 1:
        return trie.levels[at_level].parent_of(nodes)
    return trie.levels[at_level].node_of_leaf(trie.levels[level].first_leaf_of(nodes))


def related(trie: ItemTrie, level: int, nodes: np.ndarray, beams: Beams) -> np.ndarray:
    """Tell which nodes are an ancestor, a member or a descendant of a beam.  Shape (n,), bool."""
    if not len(beams):
        return np.zeros(len(nodes), bool)
    of_beams, of_nodes = trie.levels[beams.level], trie.levels[level]
    low, high = of_beams.first_leaf_of(beams.nodes), of_beams.first_leaf_of(beams.nodes + 1)
    begin, end = of_nodes.first_leaf_of(nodes), of_nodes.first_leaf_of(nodes + 1)
    # Beams are ascending and disjoint: the first one ending after the node's start decides.
    beam = np.searchsorted(high, begin, side="right")
    overlaps: np.ndarray = low[np.minimum(beam, len(low) - 1)] < end
    inside: np.ndarray = (beam < len(high)) & overlaps
    return inside
