"""Scoring trie children and deciding levels: one interface, a host and a device implementation.

On a CPU numpy costs a tenth of torch's per-operation overhead at these sizes (some 10 beams times
some 100 children); on an accelerator everything stays in torch, in shapes known on the host.  Both
follow the same rules and are compared with the same reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import DraftLaws
from specbeam.decoding.free_nodes import alive_children, needs_row
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.scoring import LevelScores, Scoring
from specbeam.decoding.selection import BY_SCORE, Selection

NO_LAWS: DraftLaws = {}

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
        levels: levels decided, at least one.
        scored: what was scored below the beams before, as far as asked for; None = nothing.
    """

    beams: Beams
    levels: int
    scored: ScoredTree | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """One request's filter, as the host asks it, and its selection.

    Attributes:
        leaf_filter: the compiled filter; None = everything is allowed.
        bound: the implementation's own form of it.
        selection: how beams are chosen.
    """

    leaf_filter: LeafFilter | None
    bound: Any
    selection: Selection = BY_SCORE


class Expansion(ABC, Generic[Array]):
    """A trie with the operations a search needs on one kind of device.

    A node is *free* when its next step is known without the model: an item that has ended goes on
    with padding at log-probability 0, and under TRIE a node with one allowed child gives it all
    mass.  Free nodes need no row; deciding a level passes through them.
    """

    def __init__(self, trie: ItemTrie, scoring: Scoring) -> None:
        """Keep the catalogue and the score convention."""
        self.trie = trie
        self.depth = trie.depth
        self._score_by(scoring)

    def _score_by(self, scoring: Scoring) -> None:
        self.scoring = scoring
        self._forced_is_free = scoring.kind == "TRIE"
        self._has_free_nodes = self._forced_is_free or self.trie.has_padding

    def beam_width(self, level: int, width: int) -> int:
        """Return how many beams level `level` can hold at most."""
        return min(width, self.trie.levels[level].num_nodes)

    def under(self, kind: str) -> Self:
        """Return the same catalogue under another score convention; every array is shared."""
        other = copy(self)
        other._score_by(Scoring(kind, self.scoring.codebooks))
        return other

    def allow(self, leaf_filter: LeafFilter | None, selection: Selection = BY_SCORE) -> Allowed:
        """Prepare a request's filter and selection; None allows everything.

        Raises:
            ValueError: the selection draws items and scores are no law over items.
        """
        if selection.draws and self.scoring.kind != "TRIE":
            raise ValueError(f"rule {selection.rule} needs TRIE scores, not {self.scoring.kind}")
        bound = None if leaf_filter is None else self._bind(leaf_filter)
        return Allowed(leaf_filter, bound, selection)

    def alive(self, level: int, nodes: np.ndarray, allowed: Allowed) -> np.ndarray:
        """Tell which nodes have an allowed leaf below.  Shape (n,), bool."""
        if allowed.leaf_filter is None:
            return np.ones(len(nodes), bool)
        return allowed.leaf_filter.alive(self.trie, level, nodes)

    def needs_row(self, level: int, nodes: np.ndarray, allowed: Allowed) -> np.ndarray:
        """Tell which nodes are not free.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            nodes: node numbers, any order.  Shape (n,).
            allowed: the request's filter.

        Returns:
            Shape (n,), bool.
        """
        return needs_row(self.trie, self.scoring.kind, level, nodes, allowed.leaf_filter)

    def _alive_children(self, level: int, nodes: np.ndarray, allowed: Allowed) -> np.ndarray:
        """Which children are there and allowed, on the host.  Shape (n, C_d), bool."""
        return alive_children(self.trie, level, nodes, allowed.leaf_filter)

    @abstractmethod
    def _bind(self, leaf_filter: LeafFilter) -> Any:
        """Return the implementation's form of a filter."""

    @abstractmethod
    def score(
        self, level: int, nodes: np.ndarray, scores: LevelScores, allowed: Allowed
    ) -> ScoredLevel[Array]:
        """Score the children of nodes that have just got a row.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            nodes: ascending node numbers, none of an item that has ended.  Shape (R,), int64.
            scores: scores of the next token, one row per node.
            allowed: the request's filter.
        """

    @abstractmethod
    def select(
        self, known: ScoredLevel[Array], added: ScoredLevel[Array] | None, rows: np.ndarray
    ) -> ScoredLevel[Array]:
        """Return rows of `known` followed by `added`, in the order given by `rows`."""

    @abstractmethod
    def verify(
        self,
        beams: Beams,
        scored: dict[int, ScoredLevel[Array]],
        width: int,
        allowed: Allowed,
        report: int = 0,
        laws: DraftLaws = NO_LAWS,
    ) -> Verified:
        """Decide as many levels as the scored rows allow.

        All beams must be free or have a scored row.  From exact beams of level d the exact beams of
        d + 1 are the `width` of their trie children that the rule chooses, by default the best;
        they come from this expansion alone, so extra or missing rows cannot touch the result.  The
        walk goes on while every beam of the new level is free or has a row.

        Args:
            beams: exact beams of level j < L.
            scored: scored rows by level.
            width: W.
            allowed: the request's filter.
            report: most nodes of a decided level that are reported, at least W; 0 = none.  See
                `reporting`.
            laws: what the nodes of this pass were drawn from; only the relaxed rule reads it.

        Source: AtSpeed (arXiv 2410.05165), strict verification, algorithm 1; ties broken by
        ascending path, which the paper leaves open.
        """

    @abstractmethod
    def logprobs_of(
        self, level: int, nodes: np.ndarray, scored: ScoredLevel[Array] | None, allowed: Allowed
    ) -> np.ndarray:
        """Return the child log-probabilities of nodes that are scored or free.

        Shape (n, C_d), float64.
        """

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


def open_expansion(
    trie: ItemTrie, device: torch.device, scoring: Scoring | None = None
) -> AnyExpansion:
    """Return the implementation for `device`; VOCAB when no convention is given."""
    # The implementations subclass this module's interface, so they cannot be imported above it.
    from specbeam.decoding.device_expansion import DeviceExpansion
    from specbeam.decoding.host_expansion import HostExpansion

    scoring = scoring or Scoring()
    if device.type == "cpu":
        return HostExpansion(trie, scoring)
    return DeviceExpansion(trie, scoring, device)
