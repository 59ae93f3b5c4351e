"""Host-side bookkeeping of the tree rows a KV slot holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.tree import ancestors, related

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows of the next forward: levels ascending, nodes ascending within a level.

    Attributes:
        by_level: new nodes by level.
        levels: level of each row.  Shape (R,).
        tokens: vocabulary id of each row.  Shape (R,).
        sees: which of the T + R tree rows each row sees, itself included.  Shape (R, T + R), bool.
    """

    by_level: dict[int, np.ndarray]
    levels: np.ndarray
    tokens: np.ndarray
    sees: np.ndarray

    def __len__(self) -> int:
        """Rows, R."""
        return len(self.tokens)


class TreeRows:
    """Which trie nodes have a row, where it is, and what it sees.

    `visible[i, j]` says row i sees row j: its ancestors and itself, never siblings, cousins or dead
    beams.  Built row block by row block from `mask(u) = mask(parent(u)) + self`.
    """

    def __init__(self, trie: ItemTrie, capacity: int) -> None:
        """Start empty with room for `capacity` rows."""
        self._trie = trie
        self.capacity = capacity
        self._count = 0
        self._visible = np.zeros((0, 0), bool)
        self._ascending: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        """Rows held, T."""
        return self._count

    def _find(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Return the row of each node, -1 where it has none."""
        known = self._ascending.get(level)
        if known is None:
            return np.full(len(nodes), -1)
        place = np.minimum(known[0].searchsorted(nodes), len(known[0]) - 1)
        return np.where(known[0][place] == nodes, known[1][place], -1)

    def append(self, wanted: dict[int, np.ndarray]) -> NewRows:
        """Add rows for nodes without one; missing ancestors are added too.

        Args:
            wanted: distinct nodes by level 1 .. L - 1, in any order.

        Returns:
            The new rows; possibly none.
        """
        by_level = self._with_ancestors(wanted)
        start = self._count
        self._count += sum(map(len, by_level.values()))
        visible = np.zeros((self._count, self._count), bool)
        visible[:start, :start] = self._visible
        row = start
        for level, added in by_level.items():
            rows = np.arange(row, row + len(added))
            if level > 1:
                parents = self._find(level - 1, ancestors(self._trie, level, added, level - 1))
                visible[rows] = visible[parents]
            visible[rows, rows] = True
            self._remember(level, added, rows)
            row += len(added)
        self._visible = visible
        return self._describe(by_level, visible[start:])

    def _describe(self, by_level: dict[int, np.ndarray], sees: np.ndarray) -> NewRows:
        if not by_level:
            return NewRows({}, _NONE, _NONE, sees)
        levels = np.repeat(list(by_level), [len(nodes) for nodes in by_level.values()])
        tokens = [self._trie.levels[level].token[nodes] for level, nodes in by_level.items()]
        return NewRows(by_level, levels, np.concatenate(tokens), sees)

    def _with_ancestors(self, wanted: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Nodes without a row, ascending, with those of their ancestors that have none."""
        by_level: dict[int, np.ndarray] = {}
        parents = _NONE
        for level in range(max(wanted, default=0), 0, -1):
            nodes = wanted.get(level, _NONE)
            nodes = np.unique(np.concatenate([nodes, parents])) if len(parents) else np.sort(nodes)
            new = nodes[self._find(level, nodes) < 0]
            if len(new):
                by_level[level] = new
            parents = ancestors(self._trie, level, new, level - 1) if level > 1 else _NONE
        return {level: by_level[level] for level in sorted(by_level)}

    def _remember(self, level: int, nodes: np.ndarray, rows: np.ndarray) -> None:
        known = self._ascending.get(level)
        if known is not None:
            nodes, rows = np.concatenate([known[0], nodes]), np.concatenate([known[1], rows])
            order = np.argsort(nodes, kind="stable")
            nodes, rows = nodes[order], rows[order]
        self._ascending[level] = (nodes, rows)

    def keep_related(self, beams: Beams) -> np.ndarray:
        """Forget rows that are neither ancestor, member nor descendant of a beam.

        Returns:
            The old numbers of the rows kept, in their new order.  Shape (k,), int64.
        """
        kept = np.zeros(self._count, bool)
        for level, (nodes, rows) in self._ascending.items():
            kept[rows] = related(self._trie, level, nodes, beams)
        rows = np.flatnonzero(kept)
        if len(rows) == self._count:
            return rows
        new_number = np.cumsum(kept) - 1
        for level, (nodes, old) in list(self._ascending.items()):
            stays = kept[old]
            if stays.any():
                self._ascending[level] = (nodes[stays], new_number[old[stays]])
            else:
                del self._ascending[level]
        self._count = len(rows)
        self._visible = self._visible[np.ix_(rows, rows)]
        return rows
