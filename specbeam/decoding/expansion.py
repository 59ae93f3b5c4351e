"""Scoring trie children and deciding levels: one interface, a host and a device implementation.

On a CPU numpy costs a tenth of torch's per-operation overhead at these sizes (some 10 beams times
some 100 children); on an accelerator everything stays in torch, in shapes known on the host.  Both
follow the same rules and are compared with the same reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams

Array = TypeVar("Array", np.ndarray, torch.Tensor)


@dataclass(frozen=True, slots=True)
class ScoredLevel(Generic[Array]):
    """Scored rows of one trie level.

    Attributes:
        nodes: nodes that have a row, ascending, on the host.  Shape (R,), int64.
        child_logprobs: log-probabilities of their children in node order, -inf where there is no
            child or it is dead.  Shape (R, C_d), fp32 or fp64.
    """

    nodes: np.ndarray
    child_logprobs: Array


@dataclass(frozen=True, slots=True)
class Verified:
    """What one pass decided.

    Attributes:
        beams: exact beams of the deepest decided level.
        accepted_levels: levels decided beyond the first, i.e. levels whose beams all had rows.
    """

    beams: Beams
    accepted_levels: int


class Expansion(ABC, Generic[Array]):
    """A trie with the operations a search needs on one kind of device."""

    def __init__(self, trie: ItemTrie) -> None:
        """Keep the catalogue."""
        self.trie = trie
        self.depth = trie.depth

    def beam_width(self, level: int, width: int) -> int:
        """Return how many beams level `level` can hold at most."""
        return min(width, self.trie.levels[level].num_nodes)

    @abstractmethod
    def dead_nodes(self, leaf_filter: LeafFilter | None) -> list[Array | None]:
        """Return the dead nodes per level 0 .. L, None where nothing is dead."""

    @abstractmethod
    def score(
        self, level: int, nodes: np.ndarray, logits: torch.Tensor, dead: Array | None
    ) -> ScoredLevel[Array]:
        """Score the children of nodes that have just got a row, under VOCAB.

        VOCAB normalises over the whole vocabulary and masks afterwards, as transformers does.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            nodes: ascending node numbers.  Shape (R,), int64.
            logits: one row per node, fp32 or fp64.  Shape (R, V).
            dead: ascending dead nodes of level + 1, or None.
        """

    @abstractmethod
    def select(
        self, known: ScoredLevel[Array], added: ScoredLevel[Array] | None, rows: np.ndarray
    ) -> ScoredLevel[Array]:
        """Return rows of `known` followed by `added`, in the order given by `rows`."""

    @abstractmethod
    def verify(self, beams: Beams, scored: dict[int, ScoredLevel[Array]], width: int) -> Verified:
        """Decide as many levels as the scored rows allow.

        All rows of `beams` must be scored.  From exact beams of level d the exact beams of d + 1
        are the best `width` of their trie children; they come from this expansion alone, so extra
        or missing rows cannot touch the result.  The walk goes on while every beam of the new level
        has a row.

        Args:
            beams: exact beams of level j < L.
            scored: scored rows by level, at least level j.
            width: W.

        Source: AtSpeed (arXiv 2410.05165), strict verification, algorithm 1; ties broken by
        ascending path, which the paper leaves open.
        """

    @abstractmethod
    def logprobs_of(self, scored: ScoredLevel[Array], nodes: np.ndarray) -> np.ndarray:
        """Return the child log-probabilities of `nodes`, all scored.  Shape (n, C_d), float64."""

    def merge(
        self, known: ScoredLevel[Array] | None, added: ScoredLevel[Array]
    ) -> ScoredLevel[Array]:
        """Join two disjoint sets of scored rows of one level."""
        if known is None:
            return added
        order = np.argsort(np.concatenate([known.nodes, added.nodes]), kind="stable")
        return self.select(known, added, order)


# Sessions hold either kind and hand its arrays back to it unseen.
AnyExpansion = Expansion[Any]


def open_expansion(trie: ItemTrie, device: torch.device) -> AnyExpansion:
    """Return the implementation for `device`."""
    # The implementations subclass this module's interface, so they cannot be imported above it.
    from specbeam.decoding.device_expansion import DeviceExpansion
    from specbeam.decoding.host_expansion import HostExpansion

    return HostExpansion(trie) if device.type == "cpu" else DeviceExpansion(trie, device)
