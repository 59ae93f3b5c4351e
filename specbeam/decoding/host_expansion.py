"""The CPU implementation of `Expansion`: numpy views of torch scores."""

from __future__ import annotations

import numpy as np
import torch

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import DraftLaws
from specbeam.decoding.expansion import NO_LAWS, Allowed, Expansion, ScoredLevel, Verified
from specbeam.decoding.reporting import ScoredChildren, join_scored
from specbeam.decoding.ruled_walk import RuledWalk
from specbeam.decoding.scoring import LevelScores, Scoring
from specbeam.decoding.torch_laws import shaped_logits

# Child tables are kept whole, upper levels first, up to this size in all (8 MB); the children of
# other levels are gathered piecewise.
MAX_TABLE_ENTRIES = 2_000_000
# From this many candidates on torch's selection is quicker than numpy's, most of all among the many
# equal values that a filter leaves.
_LARGE_SELECTION = 512


class HostExpansion(Expansion[np.ndarray]):
    """Child arrays of an `ItemTrie` as they lie in memory."""

    def __init__(self, trie: ItemTrie, scoring: Scoring) -> None:
        """Prepare child tables of the levels where they are small."""
        super().__init__(trie, scoring)
        self._slots = [np.arange(max(level.max_children, 1)) for level in trie.levels]
        self._tables = self._child_tables()

    def _child_tables(self) -> list[np.ndarray | None]:
        """Child tokens of every node by level, -1 where padded; None where there is no space."""
        tables: list[np.ndarray | None] = []
        space = MAX_TABLE_ENTRIES
        for number, level in enumerate(self.trie.levels[:-1]):
            size = level.num_nodes * len(self._slots[number])
            fits = size <= space
            tables.append(self._child_tokens(number, np.arange(level.num_nodes)) if fits else None)
            space -= size if fits else 0
        return tables

    def _tokens_below(self, level: int, nodes: np.ndarray) -> np.ndarray:
        table = self._tables[level]
        return table[nodes] if table is not None else self._child_tokens(level, nodes)

    def _child_tokens(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Child tokens of nodes, -1 where there is no child.  Shape (R, C_d)."""
        above, below = self.trie.levels[level], self.trie.levels[level + 1]
        index = above.first_child_of(nodes)[:, None] + self._slots[level]
        inside = index < above.first_child_of(nodes + 1)[:, None]
        tokens = below.tokens_of(np.minimum(index, below.num_nodes - 1))
        return np.where(inside, tokens, np.int32(-1))

    def _bind(self, leaf_filter: LeafFilter) -> LeafFilter:
        return leaf_filter

    def score(
        self, level: int, nodes: np.ndarray, scores: LevelScores, allowed: Allowed
    ) -> ScoredLevel[np.ndarray]:
        """See `Expansion.score`."""
        tokens = self._tokens_below(level, nodes)
        if allowed.leaf_filter is None:
            gone = tokens < 0
        else:
            gone = ~allowed.leaf_filter.alive_children(self.trie, level, nodes)
        # Padding reads some column and is overwritten below.
        columns = torch.from_numpy(scores.columns.host(tokens).astype(np.int64, copy=False))
        # torch gathers and masks rows four times as fast as numpy's fancy indexing.
        found = scores.values.gather(1, columns).masked_fill_(torch.from_numpy(gone), -np.inf)
        if not scores.over_children:
            return ScoredLevel(nodes, found.numpy())
        if allowed.selection.shapes_laws:
            found = shaped_logits(found, allowed.selection)
        logprobs: np.ndarray = torch.log_softmax(found, dim=-1).numpy()
        logprobs[gone.all(axis=1)] = -np.inf  # else not a number
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
        self,
        beams: Beams,
        scored: dict[int, ScoredLevel[np.ndarray]],
        width: int,
        allowed: Allowed,
        report: int = 0,
        laws: DraftLaws = NO_LAWS,
    ) -> Verified:
        """See `Expansion.verify`."""
        if allowed.selection.draws:
            return self._verify_by_rule(beams, scored, width, allowed, report, laws)
        level, nodes, scores = beams.level, beams.nodes, beams.scores
        found: list[ScoredChildren] = []
        while level < self.depth and len(nodes):
            logprobs = self._known(level, nodes, scored.get(level), allowed)
            if logprobs is None:
                break
            if report and level + 1 < self.depth:
                found.append(self._best_children(level, nodes, scores, logprobs, report))
            nodes, scores = self._expand(level, nodes, scores, logprobs, width)
            level += 1
        if level == beams.level:
            raise AssertionError("verification needs a scored row for every exact beam")
        tree = join_scored(self.trie, beams, width, found)
        return Verified(Beams(level, nodes, scores), level - beams.level, tree)

    def _verify_by_rule(
        self,
        beams: Beams,
        scored: dict[int, ScoredLevel[np.ndarray]],
        width: int,
        allowed: Allowed,
        report: int,
        laws: DraftLaws,
    ) -> Verified:
        def children(level: int, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
            logprobs = self._known(level, nodes, scored.get(level), allowed)
            return None if logprobs is None else (logprobs, self._tokens_below(level, nodes))

        walk = RuledWalk(self.trie, allowed.selection, width, laws, report)
        decided, found = walk.run(beams, children)
        if decided.level == beams.level:
            raise AssertionError("verification needs a scored row for every exact beam")
        tree = join_scored(self.trie, beams, width, found)
        return Verified(decided, decided.level - beams.level, tree)

    def _best_children(
        self, level: int, nodes: np.ndarray, scores: np.ndarray, logprobs: np.ndarray, count: int
    ) -> ScoredChildren:
        """The best live children of exact beams, in ascending node order."""
        candidates = (logprobs + scores[:, None]).ravel()
        best = select_top_host(candidates, count)
        parents, slot = np.divmod(best, logprobs.shape[1])
        first = self.trie.levels[level].first_child_of(nodes[parents])
        return ScoredChildren(parents, first + slot, candidates[best], logprobs.ravel()[best])

    def _expand(
        self,
        level: int,
        nodes: np.ndarray,
        scores: np.ndarray,
        logprobs: np.ndarray,
        width: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One exact beam step: nodes (ascending) and scores of the next level's live beams."""
        candidates = (logprobs + scores[:, None]).ravel()
        chosen = select_top_host(candidates, width)
        parent, slot = np.divmod(chosen, logprobs.shape[1])
        first = self.trie.levels[level].first_child_of(nodes[parent])
        return first + slot, candidates[chosen]

    def logprobs_of(
        self,
        level: int,
        nodes: np.ndarray,
        scored: ScoredLevel[np.ndarray] | None,
        allowed: Allowed,
    ) -> np.ndarray:
        """See `Expansion.logprobs_of`."""
        order = np.argsort(nodes, kind="stable")
        logprobs = self._known(level, nodes[order], scored, allowed)
        if logprobs is None:
            raise AssertionError("log-probabilities need a scored row for every node")
        found = np.empty(logprobs.shape, np.float64)
        found[order] = logprobs
        return found

    def _known(
        self,
        level: int,
        nodes: np.ndarray,
        scored: ScoredLevel[np.ndarray] | None,
        allowed: Allowed,
    ) -> np.ndarray | None:
        """Child log-probabilities of ascending nodes; None if one is neither scored nor free."""
        if scored is None:
            return self._forced(level, nodes, allowed, np.float32)
        rows = _rows_of(scored.nodes, nodes)
        if rows is not None:
            return scored.child_logprobs[rows]
        if not self._has_free_nodes:
            return None
        place = np.minimum(np.searchsorted(scored.nodes, nodes), len(scored.nodes) - 1)
        missing = scored.nodes[place] != nodes
        forced = self._forced(level, nodes[missing], allowed, scored.child_logprobs.dtype)
        if forced is None:
            return None
        found = scored.child_logprobs[place]
        found[missing] = forced
        return found

    def _forced(
        self, level: int, nodes: np.ndarray, allowed: Allowed, dtype: np.dtype | type
    ) -> np.ndarray | None:
        """Child log-probabilities of free nodes; None if one of them is not free."""
        if not self._has_free_nodes:
            return None
        # Mostly the first few tell, and save looking at the children of all.
        if any(self.needs_row(level, part, allowed).any() for part in (nodes[:6], nodes[6:])):
            return None
        alive = self._alive_children(level, nodes, allowed)
        return np.where(alive, 0.0, -np.inf).astype(dtype)


def _rows_of(level_nodes: np.ndarray, nodes: np.ndarray) -> np.ndarray | slice | None:
    """Rows of `nodes` among ascending `level_nodes`; None if one of them has no row."""
    if len(level_nodes) == len(nodes) and (level_nodes == nodes).all():
        return slice(None)  # a plain step: the beams' rows and nothing else
    rows = np.searchsorted(level_nodes, nodes)
    if rows[-1] >= len(level_nodes) or (level_nodes[rows] != nodes).any():
        return None
    return rows


def _smallest_of_best(ranks: np.ndarray, width: int) -> float:
    """The `width`-th largest value."""
    if len(ranks) < _LARGE_SELECTION:
        return float(np.partition(ranks, len(ranks) - width)[len(ranks) - width])
    return float(torch.topk(torch.from_numpy(ranks), width).values[-1])


def select_top_host(ranks: np.ndarray, width: int) -> np.ndarray:
    """Return the ascending positions of the `width` best finite values.

    Ties go to the smaller position.  Candidates are laid out in ascending node order, so ascending
    positions are ascending nodes.

    Args:
        ranks: rank value of each candidate, -inf for dead ones.  Shape (n,).
        width: most positions returned.
    """
    threshold = _smallest_of_best(ranks, width) if width < len(ranks) else -np.inf
    if threshold == -np.inf:
        return np.flatnonzero(ranks > -np.inf)
    chosen = np.flatnonzero(ranks >= threshold)
    if len(chosen) == width:
        return chosen
    above = chosen[ranks[chosen] > threshold]
    equal = chosen[ranks[chosen] == threshold][: width - len(above)]
    return np.sort(np.concatenate([above, equal]))
