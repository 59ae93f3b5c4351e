"""The CPU implementation of `Expansion`: numpy views of torch logits."""

from __future__ import annotations

import numpy as np
import torch

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.expansion import Expansion, ScoredLevel, Verified

# Child tables of a level are kept whole up to this size (8 MB); larger ones are gathered piecewise.
MAX_TABLE_ENTRIES = 2_000_000


class HostExpansion(Expansion[np.ndarray]):
    """Child arrays of an `ItemTrie` as they lie in memory."""

    def __init__(self, trie: ItemTrie) -> None:
        """Keep views of the trie's arrays; nothing is copied."""
        super().__init__(trie)
        self._token = [np.asarray(level.token) for level in trie.levels]
        self._first_child = [np.asarray(level.first_child) for level in trie.levels]
        self._slots = [np.arange(max(level.max_children, 1)) for level in trie.levels]
        self._tables = [self._child_table(level) for level in range(trie.depth)]

    def _child_table(self, level: int) -> np.ndarray | None:
        """Child tokens of every node of a level, -1 where padded; None where it would be large."""
        nodes = np.arange(self.trie.levels[level].num_nodes)
        if len(nodes) * len(self._slots[level]) > MAX_TABLE_ENTRIES:
            return None
        return self._child_tokens(level, nodes)

    def _child_tokens(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Child tokens of nodes, -1 where padded.  Shape (R, C_d)."""
        first_child, token = self._first_child[level], self._token[level + 1]
        index = first_child[nodes][:, None] + self._slots[level]
        inside = index < first_child[nodes + 1][:, None]
        return np.where(inside, token[np.minimum(index, len(token) - 1)], np.int32(-1))

    def dead_nodes(self, leaf_filter: LeafFilter | None) -> list[np.ndarray | None]:
        """See `Expansion.dead_nodes`."""
        if leaf_filter is None:
            return [None] * (self.depth + 1)
        return [nodes if len(nodes) else None for nodes in leaf_filter.dead_nodes]

    def score(
        self, level: int, nodes: np.ndarray, logits: torch.Tensor, dead: np.ndarray | None
    ) -> ScoredLevel[np.ndarray]:
        """See `Expansion.score`."""
        table = self._tables[level]
        tokens = table[nodes] if table is not None else self._child_tokens(level, nodes)
        gone = tokens < 0
        if dead is not None:
            index = self._first_child[level][nodes][:, None] + self._slots[level]
            place = np.minimum(np.searchsorted(dead, index), len(dead) - 1)
            gone |= dead[place] == index
        # Padding reads the last vocabulary id and is overwritten below.  One fused log-softmax over
        # everything is quicker than the five kernels of logsumexp over the same rows.
        everything = torch.log_softmax(logits, dim=-1).numpy()
        logprobs = everything[np.arange(len(nodes))[:, None], tokens]
        logprobs[gone] = -np.inf
        return ScoredLevel(nodes, logprobs)

    def select(
        self,
        known: ScoredLevel[np.ndarray],
        added: ScoredLevel[np.ndarray] | None,
        rows: np.ndarray,
    ) -> ScoredLevel[np.ndarray]:
        """See `Expansion.select`."""
        if added is None:
            return ScoredLevel(known.nodes[rows], known.child_logprobs[rows])
        nodes = np.concatenate([known.nodes, added.nodes])
        logprobs = np.concatenate([known.child_logprobs, added.child_logprobs])
        return ScoredLevel(nodes[rows], logprobs[rows])

    def verify(
        self, beams: Beams, scored: dict[int, ScoredLevel[np.ndarray]], width: int
    ) -> Verified:
        """See `Expansion.verify`."""
        level, nodes, scores = beams.level, beams.nodes, beams.scores
        while level < self.depth and len(nodes):
            rows = _rows_of(scored[level].nodes, nodes) if level in scored else None
            if rows is None:
                break
            nodes, scores = self._expand(level, nodes, scores, scored[level], rows, width)
            level += 1
        if level == beams.level:
            raise AssertionError("verification needs a scored row for every exact beam")
        return Verified(Beams(level, nodes, scores), level - beams.level - 1)

    def _expand(
        self,
        level: int,
        nodes: np.ndarray,
        scores: np.ndarray,
        scored: ScoredLevel[np.ndarray],
        rows: np.ndarray | slice,
        width: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One exact beam step: nodes (ascending) and scores of the next level's live beams."""
        candidates = (scored.child_logprobs[rows] + scores[:, None]).ravel()
        chosen = select_top_host(candidates, width)
        parent, slot = np.divmod(chosen, scored.child_logprobs.shape[1])
        return self._first_child[level][nodes[parent]] + slot, candidates[chosen]

    def logprobs_of(self, scored: ScoredLevel[np.ndarray], nodes: np.ndarray) -> np.ndarray:
        """See `Expansion.logprobs_of`."""
        rows = np.searchsorted(scored.nodes, nodes)
        return scored.child_logprobs[rows].astype(np.float64, copy=False)


def _rows_of(level_nodes: np.ndarray, nodes: np.ndarray) -> np.ndarray | slice | None:
    """Rows of `nodes` among ascending `level_nodes`; None if one of them has no row."""
    if len(level_nodes) == len(nodes) and (level_nodes == nodes).all():
        return slice(None)  # a plain step: the beams' rows and nothing else
    rows = np.searchsorted(level_nodes, nodes)
    if rows[-1] >= len(level_nodes) or (level_nodes[rows] != nodes).any():
        return None
    return rows


def select_top_host(ranks: np.ndarray, width: int) -> np.ndarray:
    """Return the ascending positions of the `width` best finite values.

    Ties go to the smaller position.  Candidates are laid out in ascending node order, so ascending
    positions are ascending nodes.

    Args:
        ranks: rank value of each candidate, -inf for dead ones.  Shape (n,).
        width: most positions returned.
    """
    if width < len(ranks):
        threshold = np.partition(ranks, len(ranks) - width)[len(ranks) - width]
        if threshold > -np.inf:
            chosen = np.flatnonzero(ranks >= threshold)
            if len(chosen) == width:
                return chosen
            above = chosen[ranks[chosen] > threshold]
            equal = chosen[ranks[chosen] == threshold][: width - len(above)]
            return np.sort(np.concatenate([above, equal]))
    return np.flatnonzero(ranks > -np.inf)
