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
