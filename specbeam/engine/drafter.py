"""The model drafter: a small model's K-consistent beam search, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_ranking import DraftRanking
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.engine.row_scorer import RowScorer
from specbeam.engine.search_model import SearchModel


@dataclass(frozen=True, slots=True)
class DraftedLevel:
    """Nodes proposed on one level, best first.

    Attributes:
        level: trie level of the nodes.
        parents: index of each node's parent: into the proposal's beams for the first level, else
            into the nodes of the level before.  Shape (n,).
        tokens: vocabulary ids.  Shape (n,).
        rows: rows of the forward that scored the parents.
        logprobs: the drafter's log-probability of each node given its parent.  Shape (n,), float32.
    """

    level: int
    parents: np.ndarray
    tokens: np.ndarray
    rows: int
    logprobs: np.ndarray


class DraftSession:
    """One request's drafting on one KV slot of the draft model."""

    def __init__(
        self,
        model: SearchModel,
        beam_width: int,
        leaf_filter: LeafFilter | None = None,
        selection: Selection = BY_SCORE,
    ) -> None:
        """Lease a slot.

        Args:
            model: the draft model.
            beam_width: W.
            leaf_filter: which leaves may be proposed, or None.
            selection: how the target chooses; the nodes are ranked alike.

        Raises:
            NoFreeSlotError: none is free.
            ValueError: the selection draws items and scores are no law over items.
        """
        self._expansion = model.expansion
        self._trie = model.expansion.trie
        self._ranking = DraftRanking(self._trie, selection)
        model.expansion.allow(None, selection)
        self._width = beam_width
        self._scorer = RowScorer(model, leaf_filter)

    def close(self) -> None:
        """Give the slot back; may be called twice."""
        self._scorer.close()

    def open(self, prompt: np.ndarray, held: int = 0) -> None:
        """Run the prompt; `held` leading tokens of it are in the slot already."""
        self._scorer.prefill(prompt, held=held)

    def propose(self, beams: Beams, levels: int, max_nodes: int) -> Iterator[DraftedLevel]:
        """Draft below exact beams; each level is yielded as soon as it is known.

        Args:
            beams: the target's exact beams; their scores and ranks are the starting ones.
            levels: levels to draft; the last level of an item is never drafted.
            max_nodes: most nodes per level.
        """
        frontier = self._ranking.start(beams)
        self._scorer.forget_unrelated(beams)
        last = min(beams.level + levels, self._trie.depth - 1)
        for level in range(beams.level, last):
            if not len(frontier.nodes) or self._scorer.room < len(frontier.nodes) * max(level, 1):
                return
            rows = self._add_rows(level, frontier.nodes) if level else 0
            logprobs = self._scorer.logprobs_of(level, frontier.nodes)
            width = self._expansion.beam_width(level + 1, self._width)
            frontier, parents, given_parent = self._ranking.next_level(
                level, frontier, logprobs, width, max(max_nodes, width)
            )
            tokens = self._trie.levels[level + 1].tokens_of(frontier.nodes)
            yield DraftedLevel(level + 1, parents, tokens, rows, given_parent.astype(np.float32))

    def _add_rows(self, level: int, nodes: np.ndarray) -> int:
        needed = nodes[self._scorer.needs_row(level, nodes)]
        return self._scorer.add_rows({level: needed}) if len(needed) else 0

    def children_of(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Return the draft model's log-probabilities of children; a `ChildScorer`.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            nodes: distinct trie nodes, any order.  Shape (n,).

        Returns:
            Shape (n, C_d), float64; -inf where there is no child or it is dead.
        """
        if level:
            self._add_rows(level, nodes)
        return self._scorer.logprobs_of(level, nodes)
