"""Host-side bookkeeping of the tree rows a KV slot holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.tree import ancestors, related


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows of the next forward, level by level.

    Attributes:
        levels: level of each row.  Shape (R,).
        nodes: trie node of each row.  Shape (R,).
        tokens: vocabulary id of each row.  Shape (R,).
        sees: which of the T + R tree rows each row sees, itself included.  Shape (R, T + R), bool.
    """

    levels: np.ndarray
    nodes: np.ndarray
    tokens: np.ndarray
    sees: np.ndarray


class TreeRows:
    """Which trie nodes have a row, where it is, and what it sees.

    `visible[i, j]` says row i sees row j: its ancestors and itself, never siblings, cousins or dead
    beams.  Built row block by row block from `mask(u) = mask(parent(u)) + self`.
    """

    def __init__(self, trie: ItemTrie, capacity: int) -> None:
        """Start empty with room for `capacity` rows."""
        self._trie = trie
        self.capacity = capacity
        self._nodes = np.zeros(0, np.int64)
        self._levels = np.zeros(0, np.int64)
        self._visible = np.zeros((0, 0), bool)
        self._ascending: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        """Rows held, T."""
        return len(self._nodes)

    def missing(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Return those of `nodes` without a row, in their order."""
        return nodes[self._find(level, nodes) < 0]

    def _find(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Return the row of each node, -1 where it has none."""
        if level not in self._ascending:
            return np.full(len(nodes), -1, np.int64)
        known, rows = self._ascending[level]
        place = np.minimum(np.searchsorted(known, nodes), len(known) - 1)
        return np.where(known[place] == nodes, rows[place], -1)

    def append(self, wanted: dict[int, np.ndarray]) -> NewRows:
        """Add rows for nodes without one; missing ancestors are added too.

        Args:
            wanted: nodes by level 1 .. L - 1.

        Returns:
            The new rows, levels ascending, nodes ascending within a level; possibly none.
        """
        by_level = self._with_ancestors(wanted)
        start = len(self)
        levels = np.repeat(list(by_level), [len(n) for n in by_level.values()]).astype(np.int64)
        empty = [np.zeros(0, np.int64)]
        nodes = np.concatenate(list(by_level.values()) or empty)
        total = start + len(nodes)
        visible = np.zeros((total, total), bool)
        visible[:start, :start] = self._visible
        self._nodes = np.concatenate([self._nodes, nodes])
        self._levels = np.concatenate([self._levels, levels])
        for level, added in by_level.items():
            rows = np.arange(start, start + len(added))
            self._remember(level, added, rows)
            if level > 1:
                parents = self._find(level - 1, ancestors(self._trie, level, added, level - 1))
                visible[rows] = visible[parents]
            visible[rows, rows] = True
            start += len(added)
        self._visible = visible
        tokens = self._tokens(by_level)
        return NewRows(levels, nodes, tokens, visible[total - len(nodes) :])

    def _with_ancestors(self, wanted: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        by_level: dict[int, np.ndarray] = {}
        needed = np.zeros(0, np.int64)
        for level in range(max(wanted, default=0), 0, -1):
            nodes = np.union1d(needed, wanted.get(level, needed[:0]))
            by_level[level] = self.missing(level, nodes)
            needed = np.unique(ancestors(self._trie, level, by_level[level], level - 1))
        return {level: by_level[level] for level in sorted(by_level) if len(by_level[level])}

    def _tokens(self, by_level: dict[int, np.ndarray]) -> np.ndarray:
        parts = [self._trie.levels[level].token[nodes] for level, nodes in by_level.items()]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def _remember(self, level: int, nodes: np.ndarray, rows: np.ndarray) -> None:
        known = self._ascending.get(level)
        if known is not None:
            nodes, rows = np.concatenate([known[0], nodes]), np.concatenate([known[1], rows])
        order = np.argsort(nodes, kind="stable")
        self._ascending[level] = (nodes[order], rows[order])

    def keep_related(self, beams: Beams) -> np.ndarray:
        """Forget rows that are neither ancestor, member nor descendant of a beam.

        Returns:
            The old numbers of the rows kept, in their new order.  Shape (k,), int64.
        """
        kept = np.zeros(len(self), bool)
        for level, (nodes, rows) in self._ascending.items():
            kept[rows] = related(self._trie, level, nodes, beams)
        rows = np.flatnonzero(kept)
        self._nodes, self._levels = self._nodes[rows], self._levels[rows]
        self._visible = self._visible[np.ix_(rows, rows)]
        self._ascending.clear()
        for level in np.unique(self._levels).tolist():
            of_level = np.flatnonzero(self._levels == level)
            self._remember(level, self._nodes[of_level], of_level)
        return rows
