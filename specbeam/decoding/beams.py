"""The exact state of a search between two passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.noise import gumbels, prefix_keys
from specbeam.decoding.selection import Selection


@dataclass(frozen=True, slots=True)
class Beams:
    """Exact beams of one level, in ascending node order (which is ascending path order).

    Attributes:
        level: tokens decided, 0 .. L.
        nodes: trie nodes of that level, ascending.  Shape (W',), W' <= W, int64.
        scores: cumulative log-probabilities.  Shape (W',), float64.
        ranks: the values they are ordered by, where these are not the scores; None = the scores.
            Shape (W',), float64.
    """

    level: int
    nodes: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of live beams W'."""
        return len(self.nodes)

    @property
    def rank_values(self) -> np.ndarray:
        """The values beams are ordered by.  Shape (W',)."""
        return self.scores if self.ranks is None else self.ranks

    def paths(self, trie: ItemTrie) -> np.ndarray:
        """Return the token path of each beam.  Shape (W', level), int32."""
        return trie.node_paths(self.level, self.nodes)

    @classmethod
    def root(cls, selection: Selection | None = None) -> Beams:
        """Return the single beam before any token is decided, with its noise if there is any."""
        ranks = None
        if selection is not None and selection.perturbs:
            ranks = gumbels(prefix_keys(selection.seed, np.zeros((1, 0), np.int64)))
        return cls(0, np.zeros(1, np.int64), np.zeros(1), ranks)

    @classmethod
    def from_paths(
        cls,
        trie: ItemTrie,
        paths: np.ndarray,
        scores: np.ndarray,
        ranks: np.ndarray | None = None,
    ) -> Beams:
        """Rebuild beams from token paths.

        Args:
            trie: the catalogue.
            paths: token paths.  Shape (W', level).
            scores: cumulative log-probabilities.  Shape (W',).
            ranks: as in the attributes.  Shape (W',).

        Raises:
            ValueError: a path is not in the trie or occurs twice.
        """
        nodes = trie.find(paths)
        if (nodes < 0).any():
            raise ValueError(f"beam {int(np.argmin(nodes))} is not a path of the catalogue")
        order = np.argsort(nodes, kind="stable")
        nodes = nodes[order]
        if (nodes[1:] == nodes[:-1]).any():
            raise ValueError("a beam occurs twice")
        ordered = np.asarray(scores, np.float64)[order]
        if ranks is not None:
            ranks = np.asarray(ranks, np.float64)[order]
        return cls(paths.shape[1], nodes.astype(np.int64), ordered, ranks)
