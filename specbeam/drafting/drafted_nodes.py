"""What the drafters say of the nodes of a tree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.drafting.choosing import TreeEstimate


@dataclass(frozen=True, slots=True)
class DraftedNodes:
    """What the drafters say of the nodes of a tree, in the order of the tree.

    Attributes:
        names: drafters that spoke.
        sources: number in `names` of the drafter that speaks most for each node.  Shape (n,),
            uint8.
        scores: mixed cumulative log-probability of each node, from the exact beams' scores on.
            Shape (n,), float64.
        estimate: what is expected of the tree; None = it was cut to a budget instead.
    """

    names: tuple[str, ...]
    sources: np.ndarray
    scores: np.ndarray
    estimate: TreeEstimate | None = None
