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
        new = self._with_ancestors(wanted)
        start = row = self._count
        self._count += sum(len(added) for added, _ in new.values())
        visible = np.zeros((self._count, self._count), bool)
        visible[:start, :start] = self._visible
        for level, (added, parents) in new.items():
            end = row + len(added)
            rows = np.arange(row, end)
            if level > 1:
                visible[row:end] = visible[self._find(level - 1, parents)]
            visible[rows, rows] = True
            self._remember(level, added, rows)
            row = end
        self._visible = visible
        return self._describe({level: added for level, (added, _) in new.items()}, visible[start:])

    def _describe(self, by_level: dict[int, np.ndarray], sees: np.ndarray) -> NewRows:
        if not by_level:
            return NewRows({}, _NONE, _NONE, sees)
        levels = np.repeat(list(by_level), [len(nodes) for nodes in by_level.values()])
        tokens = [self._trie.levels[level].tokens_of(nodes) for level, nodes in by_level.items()]
        return NewRows(by_level, levels, np.concatenate(tokens), sees)

    def _with_ancestors(
        self, wanted: dict[int, np.ndarray]
    ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Nodes without a row, ascending, and their parents; missing ancestors are added."""
        new: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        needed = _NONE
        for level in range(max(wanted, default=0), 0, -1):
            asked = wanted.get(level, _NONE)
            if not len(asked) and not len(needed):
                continue
            both = np.concatenate([asked, needed]) if len(needed) else asked
            nodes = np.unique(both) if len(needed) else np.sort(both)
            if level in self._ascending:
                nodes = nodes[self._find(level, nodes) < 0]
            needed = _NONE
            if len(nodes):
                if level > 1:
                    needed = ancestors(self._trie, level, nodes, level - 1)
                new[level] = (nodes, needed)
        return {level: new[level] for level in sorted(new)}

    def _remember(self, level: int, nodes: np.ndarray, rows: np.ndarray) -> None:
        known = self._ascending.get(level)
        if known is not None:
            nodes, rows = np.concatenate([known[0], nodes]), np.concatenate([known[1], rows])
            order = np.argsort(nodes, kind="stable")
            nodes, rows = nodes[order], rows[order]
        self._ascending[level] = (nodes, rows)

    def keep_related(self, beams: Beams, *, below: bool = True) -> np.ndarray:
        """Forget rows that are neither ancestor, member nor descendant of a beam.

        Args:
            beams: current exact beams.
            below: keep descendants.

        Returns:
            The old numbers of the rows kept, in their new order.  Shape (k,), int64.
        """
        kept = np.zeros(self._count, bool)
        for level, (nodes, rows) in self._ascending.items():
            if below or level <= beams.level:
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
