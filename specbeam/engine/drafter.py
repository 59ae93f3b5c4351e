"""The model drafter: a small model's K-consistent beam search, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft import Frontier, propose_level
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
    ) -> None:
        """Lease a slot.

        Raises:
            NoFreeSlotError: none is free.
        """
        self._expansion = model.expansion
        self._trie = model.expansion.trie
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
            beams: the target's exact beams; their scores are the starting scores.
            levels: levels to draft; the last level of an item is never drafted.
            max_nodes: most nodes per level.
        """
        frontier = Frontier(beams.nodes, beams.scores, np.ones(len(beams), bool))
        self._scorer.forget_unrelated(beams)
        last = min(beams.level + levels, self._trie.depth - 1)
        for level in range(beams.level, last):
            if not len(frontier.nodes) or self._scorer.room < len(frontier.nodes) * max(level, 1):
                return
            rows = self._add_rows(level, frontier.nodes) if level else 0
            child_nodes, logprobs = self._children(level, frontier.nodes)
            width = self._expansion.beam_width(level + 1, self._width)
            frontier, parents = propose_level(
                frontier, child_nodes, logprobs, width, max(max_nodes, width)
            )
            tokens = self._trie.levels[level + 1].tokens_of(frontier.nodes)
            given_parent = logprobs[parents, frontier.nodes - child_nodes[parents, 0]]
            yield DraftedLevel(level + 1, parents, tokens, rows, given_parent.astype(np.float32))

    def _add_rows(self, level: int, nodes: np.ndarray) -> int:
        needed = nodes[self._scorer.needs_row(level, nodes)]
        return self._scorer.add_rows({level: needed}) if len(needed) else 0

    def _children(self, level: int, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logprobs = self._scorer.logprobs_of(level, nodes)
        first = np.asarray(self._trie.levels[level].first_child_of(nodes), np.int64)
        return first[:, None] + np.arange(logprobs.shape[1]), logprobs
