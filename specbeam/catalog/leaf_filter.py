"""Which children are allowed: a compiled filter asked by a search, for one request or a batch.

A node is alive while its leaf interval holds an allowed leaf.  Three forms answer that without
touching the index:

* `named`: what tags and freshness leave, shared between requests: counts of allowed leaves before
  each leaf, so a node's count is one subtraction, kept per level once asked;
* `dead`: nodes per level that lost their last allowed leaf to this request's exclusions: few, on
  the lower levels only, found below the current beams by bisection;
* `kept`: nodes per level that an allow list leaves; everything else is dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specbeam.catalog.trie import ItemTrie, TrieLevel

NodeSets = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NamedLeaves:
    """What conditions that depend on the catalogue alone leave.

    Attributes:
        items: which items pass.  Shape (N,), bool.
        leaf_counts: passing leaves before each leaf.  Shape (num_leaves + 1,), int32.
    """

    items: np.ndarray
    leaf_counts: np.ndarray
    _alive: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Bytes held."""
        kept = sum(mask.nbytes for mask in list(self._alive.values()))
        return self.items.nbytes + self.leaf_counts.nbytes + kept

    def alive_nodes(self, trie: ItemTrie, level: int) -> np.ndarray:
        """Return which nodes of a level have a passing leaf.  Shape (V_d,), bool."""
        mask = self._alive.get(level)
        if mask is None:
            here = trie.levels[level]
            counts = self.leaf_counts[here.first_leaf_of(np.arange(here.num_nodes + 1))]
            # Two threads may both get here; they store equal arrays.
            mask = self._alive[level] = counts[1:] > counts[:-1]
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class LeafFilter:
    """A compiled filter.

    Attributes:
        named: what tags and freshness leave; None = everything.
        dead: per level 0 .. L the nodes without an allowed leaf for another reason than `named`,
            ascending.
        kept: per level 0 .. L the only nodes that are allowed, ascending; None = no allow list.
    """

    named: NamedLeaves | None
    dead: NodeSets
    kept: NodeSets | None = None

    def alive_children(
        self, trie: ItemTrie, level: int, nodes: np.ndarray, width: int | None = None
    ) -> np.ndarray:
        """Tell which children of nodes are allowed.

        Args:
            trie: the catalogue.
            level: level of `nodes`, 0 .. L - 1.
            nodes: node numbers, any order.  Shape (R,).
            width: columns of the answer, at least the largest number of children among `nodes`; the
                level's largest when None.

        Returns:
            Shape (R, C): in node order, False behind the last child.
        """
        above = trie.levels[level]
        width = above.max_children if width is None else width
        first, last = above.first_child_of(nodes), above.first_child_of(nodes + 1)
        if self.kept is not None:
            kept = np.zeros((len(nodes), width), bool)
            _mark(kept, self.kept[level + 1], first, last, True)
            return kept
        alive: np.ndarray = np.arange(width) < (last - first)[:, None]
        if self.named is not None:
            alive &= _children_of(self.named.alive_nodes(trie, level + 1), first, width)
        _mark(alive, self.dead[level + 1], first, last, False)
        return alive

    def alive(self, trie: ItemTrie, level: int, nodes: np.ndarray) -> np.ndarray:
        """Tell which nodes of one level are allowed.  Shape (R,), bool."""
        if self.kept is not None:
            return _contains(self.kept[level], nodes)
        alive = ~_contains(self.dead[level], nodes)
        if self.named is not None:
            alive &= self.named.alive_nodes(trie, level)[nodes]
        return alive


def _children_of(mask: np.ndarray, first: np.ndarray, width: int) -> np.ndarray:
    """Mask of `width` nodes from each first one; what is beyond the level repeats its last."""
    found: np.ndarray = mask.take(first[:, None] + np.arange(width), mode="clip")
    return found


def _mark(
    alive: np.ndarray, members: np.ndarray, first: np.ndarray, last: np.ndarray, value: bool
) -> None:
    """Set the children that are among `members` (ascending); `alive` is contiguous."""
    if not len(members):
        return
    begin, end = np.searchsorted(members, first), np.searchsorted(members, last)
    sizes = end - begin
    total = int(sizes.sum())
    if not total:
        return
    # Two repeats and one flat assignment: the list of a campaign marks thousands.
    place = np.arange(total) + np.repeat(begin - (np.cumsum(sizes) - sizes), sizes)
    row_starts = np.arange(len(first)) * alive.shape[1] - first
    alive.reshape(-1)[members[place] + np.repeat(row_starts, sizes)] = value


def _contains(members: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    if not len(members):
        return np.zeros(len(nodes), bool)
    place = np.minimum(np.searchsorted(members, nodes), len(members) - 1)
    found: np.ndarray = members[place] == nodes
    return found


class FilterBatch:
    """Filters of several requests, asked together: rows of all of them in one call.

    Node sets of all requests are joined into one ascending array of keys request * V_d + node, so
    that one bisection serves the batch.
    """

    def __init__(self, trie: ItemTrie, filters: Sequence[LeafFilter | None]) -> None:
        """Join filters; None stands for a request without one."""
        self._trie = trie
        self._filters = tuple(filters)
        self._keeps = np.array([f is not None and f.kept is not None for f in filters], bool)
        named = [None if f is None or f.kept is not None else f.named for f in filters]
        distinct = {id(one): one for one in named if one is not None}
        self._named = list(distinct.values())
        number = {key: n for n, key in enumerate(distinct)}
        self._named_of = np.array([number.get(id(one), -1) for one in named], np.int64)
        self._members: dict[int, np.ndarray] = {}

    def alive_children(self, level: int, requests: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Tell which children of nodes are allowed by the request each node belongs to.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            requests: number of each row's request.  Shape (R,).
            nodes: node numbers.  Shape (R,).

        Returns:
            Shape (R, C_d), bool.
        """
        above, below = self._trie.levels[level], self._trie.levels[level + 1]
        width = above.max_children
        first, last = above.first_child_of(nodes), above.first_child_of(nodes + 1)
        alive: np.ndarray = np.arange(width) < (last - first)[:, None]
        for number, named in enumerate(self._named):
            rows = np.flatnonzero(self._named_of[requests] == number)
            mask = named.alive_nodes(self._trie, level + 1)
            alive[rows] &= _children_of(mask, first[rows], width)
        keeping = self._keeps[requests]
        alive[keeping] = False
        members = self._joined(level + 1)
        shift = requests * np.int64(below.num_nodes)
        keyed_first, keyed_last = shift + first, shift + last
        for value in (False, True):
            rows = np.flatnonzero(keeping == value)
            part = alive[rows]
            _mark(part, members, keyed_first[rows], keyed_last[rows], value)
            alive[rows] = part
        return alive

    def _joined(self, level: int) -> np.ndarray:
        """Keys of the kept nodes of requests with an allow list and the dead ones of the others."""
        if level not in self._members:
            size = self._trie.levels[level].num_nodes
            parts = [np.zeros(0, np.int64)]
            for number, one in enumerate(self._filters):
                if one is not None:
                    sets = one.dead if one.kept is None else one.kept
                    parts.append(sets[level] + np.int64(number) * size)
            self._members[level] = np.concatenate(parts)
        return self._members[level]


def dead_nodes(
    trie: ItemTrie, excluded_leaves: np.ndarray, leaf_counts: np.ndarray | None
) -> NodeSets:
    """Return, per level, the nodes whose every allowed leaf is excluded.

    Args:
        trie: the catalogue.
        excluded_leaves: allowed leaves that are excluded, ascending, distinct.
        leaf_counts: allowed leaves before each leaf; None = all are allowed.
    """
    sets = [np.asarray(excluded_leaves, np.int64)]
    leaves = sets[0]
    for level in reversed(trie.levels[:-1]):
        if not len(leaves):
            sets.append(leaves)
            continue
        nodes, counts = np.unique(level.node_of_leaf(leaves), return_counts=True)
        allowed = _allowed_below(level, nodes, leaf_counts)
        gone = counts == allowed
        sets.append(nodes[gone])
        # Only below a dead node can the next level up find another one.
        leaves = leaves[np.repeat(gone, counts)]
    return tuple(reversed(sets))


def _allowed_below(
    level: TrieLevel, nodes: np.ndarray, leaf_counts: np.ndarray | None
) -> np.ndarray:
    first, end = level.first_leaf_of(nodes), level.first_leaf_of(nodes + 1)
    if leaf_counts is not None:
        first, end = leaf_counts[first], leaf_counts[end]
    below: np.ndarray = end - first
    return below


def kept_nodes(trie: ItemTrie, allowed_leaves: np.ndarray) -> NodeSets:
    """Return, per level, the nodes above the allowed leaves (ascending, distinct)."""
    sets = [np.asarray(allowed_leaves, np.int64)]
    for level in reversed(trie.levels[:-1]):
        nodes = level.node_of_leaf(sets[0])
        fresh = np.ones(len(nodes), bool)
        fresh[1:] = nodes[1:] != nodes[:-1]
        sets.append(nodes[fresh])
    return (*reversed(sets[1:]), sets[0])
