"""What a drafter is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.drafting.verified import VerifiedTree

ChildScorer = Callable[[int, np.ndarray], np.ndarray]
"""Log-probabilities of children: (level, nodes (n,)) -> (n, C_d), C_d = max_children of the level.

Column i is the node's i-th child; -inf where there is none, or the drafter knows nothing of it.
A row is a (sub-)distribution given its node: its exponentials sum to at most 1.
"""


@dataclass(frozen=True, slots=True)
class DraftQuestion:
    """One moment of one search, as drafters see it.

    Attributes:
        trie: the catalogue.
        beams: exact beams to draft below, in ascending node order.
        width: W.
        history: item indices of the user's history, oldest first.  Shape (n,), int64.
        leaf_filter: which leaves may be returned; None = every leaf.
        pool: verified trees of earlier requests, most alike first.
        selection: how the target chooses its beams.
    """

    trie: ItemTrie
    beams: Beams
    width: int
    history: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    leaf_filter: LeafFilter | None = None
    pool: tuple[VerifiedTree, ...] = ()
    selection: Selection = BY_SCORE
