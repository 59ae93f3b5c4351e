"""Trees whose nodes carry a log-probability: proposals of a drafter, or what a target has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ScoredTree:
    """Nodes below the beams of one level, level after level, best first within a level.

    Attributes:
        base_level: level of the beams the tree hangs from.
        parents: numbered as in `CandidateTree`: 0 .. W' - 1 name the beams in ascending node order,
            W' + i names node i; parents come before children.  Shape (n,), int64.
        tokens: vocabulary id of each node.  Shape (n,), int64.
        logprobs: log-probability of each node given its parent.  Shape (n,), float32.
    """

    base_level: int
    parents: np.ndarray
    tokens: np.ndarray
    logprobs: np.ndarray

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.tokens)

    @classmethod
    def empty(cls, base_level: int) -> ScoredTree:
        """Return a tree without nodes."""
        nothing = np.zeros(0, np.int64)
        return cls(base_level, nothing, nothing, np.zeros(0, np.float32))

    def cumulative(self, scores: np.ndarray) -> np.ndarray:
        """Return the cumulative log-probability of each node.  Shape (n,), float64.

        Args:
            scores: of the beams that the tree hangs from.  Shape (W',).
        """
        total = np.concatenate([scores, self.logprobs.astype(np.float64)])
        jump = self._jumps(len(scores))
        # Every node adds what its ancestors have gathered; jumps double, so chains take log2 steps.
        while (jump >= 0).any():
            inner = jump >= 0
            total = total + np.where(inner, total[jump], 0.0)
            jump = np.where(inner, jump[jump], -1)
        own: np.ndarray = total[len(scores) :]
        return own

    def best(self, scores: np.ndarray, count: int) -> ScoredTree:
        """Return the tree with at most `count` nodes on each level, those with the largest scores.

        What is below a node that is left out is left out with it.

        Args:
            scores: of the beams that the tree hangs from.  Shape (W',).
            count: most nodes of a level.
        """
        if len(self) <= count:
            return self
        width, total, depth = len(scores), self.cumulative(scores), self._depths(len(scores))
        order = np.lexsort((-total, depth))
        start = np.searchsorted(depth[order], depth[order])
        kept = np.zeros(len(self), bool)
        kept[order[np.arange(len(self)) - start < count]] = True
        for _ in range(int(depth.max())):
            above = np.concatenate([np.ones(width, bool), kept])
            kept &= above[np.maximum(self._jumps(width)[width:], 0)]
        number = np.concatenate([np.arange(width), width - 1 + np.cumsum(kept)])
        return ScoredTree(
            self.base_level, number[self.parents[kept]], self.tokens[kept], self.logprobs[kept]
        )

    def _jumps(self, width: int) -> np.ndarray:
        """Parents, -1 for the beams; a parent that comes later is none.  Shape (W' + n,), int64."""
        sound = (self.parents >= 0) & (self.parents < width + np.arange(len(self)))
        return np.concatenate([np.full(width, -1), np.where(sound, self.parents, -1)])

    def _depths(self, width: int) -> np.ndarray:
        """Levels of each node below the beams.  Shape (n,), int64."""
        depth = np.concatenate([np.zeros(width, np.int64), np.ones(len(self), np.int64)])
        jump = self._jumps(width)
        while (jump >= 0).any():
            inner = jump >= 0
            depth = depth + np.where(inner, depth[jump], 0)
            jump = np.where(inner, jump[jump], -1)
        return depth[width:]
