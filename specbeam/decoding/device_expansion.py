"""The accelerator implementation of `Expansion`: torch, one read-back per pass."""

from __future__ import annotations

import numpy as np
import torch

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.expansion import Expansion, ScoredLevel, Verified

Step = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class DeviceExpansion(Expansion[torch.Tensor]):
    """Token and child arrays of an `ItemTrie` as int64 tensors on one device."""

    def __init__(self, trie: ItemTrie, device: torch.device) -> None:
        """Copy the arrays (int32 on disk) to `device`."""
        super().__init__(trie)
        self.device = device
        self._token = [self._tensor(level.token) for level in trie.levels]
        self._first_child = [self._tensor(level.first_child) for level in trie.levels]
        self._slots = [
            torch.arange(max(level.max_children, 1), device=device) for level in trie.levels
        ]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array, dtype=np.int64)).to(self.device)

    def dead_nodes(self, leaf_filter: LeafFilter | None) -> list[torch.Tensor | None]:
        """See `Expansion.dead_nodes`."""
        if leaf_filter is None:
            return [None] * (self.depth + 1)
        return [self._tensor(nodes) if len(nodes) else None for nodes in leaf_filter.dead_nodes]

    @torch.inference_mode()
    def score(
        self, level: int, nodes: np.ndarray, logits: torch.Tensor, dead: torch.Tensor | None
    ) -> ScoredLevel[torch.Tensor]:
        """See `Expansion.score`."""
        of_nodes = self._tensor(nodes)
        index = self._first_child[level][of_nodes][:, None] + self._slots[level]
        alive = index < self._first_child[level][of_nodes + 1][:, None]
        index = torch.where(alive, index, 0)
        if dead is not None:
            place = torch.searchsorted(dead, index).clamp_(max=len(dead) - 1)
            alive &= dead[place] != index
        normaliser = torch.logsumexp(logits, dim=-1, keepdim=True)
        logprobs = logits.gather(1, self._token[level + 1][index]) - normaliser
        return ScoredLevel(nodes, logprobs.masked_fill_(~alive, -torch.inf))

    def select(
        self,
        known: ScoredLevel[torch.Tensor],
        added: ScoredLevel[torch.Tensor] | None,
        rows: np.ndarray,
    ) -> ScoredLevel[torch.Tensor]:
        """See `Expansion.select`."""
        nodes, logprobs = known.nodes, known.child_logprobs
        if added is not None:
            nodes = np.concatenate([nodes, added.nodes])
            logprobs = torch.cat([logprobs, added.child_logprobs])
        return ScoredLevel(nodes[rows], logprobs[self._tensor(rows)])

    @torch.inference_mode()
    def verify(
        self, beams: Beams, scored: dict[int, ScoredLevel[torch.Tensor]], width: int
    ) -> Verified:
        """See `Expansion.verify`; computed to the deepest scored level with flags, read once."""
        nodes = self._tensor(beams.nodes)
        scores = torch.from_numpy(beams.scores).to(self.device)
        level = beams.level
        steps: list[Step] = []
        while level < self.depth and level in scored:
            level_nodes = self._tensor(scored[level].nodes)
            rows = torch.searchsorted(level_nodes, nodes).clamp_(max=len(level_nodes) - 1)
            complete = ((level_nodes[rows] == nodes) | torch.isneginf(scores)).all()
            logprobs = scored[level].child_logprobs[rows]
            nodes, scores = self._expand(level, nodes, scores, logprobs, width)
            steps.append((nodes, scores, complete))
            level += 1
        return _read_back(beams.level, steps)

    def _expand(
        self,
        level: int,
        nodes: torch.Tensor,
        scores: torch.Tensor,
        logprobs: torch.Tensor,
        width: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One exact beam step in a shape known on the host; dead beams score -inf."""
        candidates = (scores[:, None] + logprobs.to(torch.float64)).reshape(-1)
        wanted = min(self.beam_width(level + 1, width), len(candidates))
        chosen = select_top(candidates, wanted)
        fan_out = logprobs.shape[1]
        parent = torch.div(chosen, fan_out, rounding_mode="floor")
        next_nodes = self._first_child[level][nodes[parent]] + (chosen - parent * fan_out)
        next_scores = candidates[chosen]
        # A dead position may point past its parent's children; node 0 keeps gathers in range.
        return torch.where(torch.isneginf(next_scores), 0, next_nodes), next_scores

    def logprobs_of(self, scored: ScoredLevel[torch.Tensor], nodes: np.ndarray) -> np.ndarray:
        """See `Expansion.logprobs_of`."""
        rows = self._tensor(np.searchsorted(scored.nodes, nodes))
        found: np.ndarray = scored.child_logprobs[rows].double().cpu().numpy()
        return found


def _read_back(base_level: int, steps: list[Step]) -> Verified:
    complete = torch.stack([flag for _, _, flag in steps]).tolist()
    if not complete[0]:
        raise AssertionError("verification needs a scored row for every exact beam")
    accepted = complete.index(False) - 1 if False in complete else len(complete) - 1
    nodes, scores = steps[accepted][0].cpu().numpy(), steps[accepted][1].cpu().numpy()
    live = ~np.isneginf(scores)
    return Verified(Beams(base_level + accepted + 1, nodes[live], scores[live]), accepted)


def select_top(ranks: torch.Tensor, width: int) -> torch.Tensor:
    """Return the positions of the `width` best values, ties to the smaller position, ascending.

    `torch.topk` leaves the choice among equal values open, so it gives only the threshold; which of
    the values equal to the threshold are taken is decided by position.  No host synchronisation.

    Args:
        ranks: rank value of each candidate, -inf for dead ones.  Shape (n,), n >= width.
        width: how many to take.

    Returns:
        Positions, ascending.  Shape (width,), int64.
    """
    count = ranks.shape[0]
    if width == count:
        return torch.arange(count, device=ranks.device)
    threshold = torch.topk(ranks, width, sorted=True).values[-1]
    above = ranks > threshold
    equal = ranks == threshold
    missing = width - above.sum()
    chosen = above | (equal & (equal.cumsum(0) <= missing))
    # The chosen positions, ascending, in a shape known on the host: the largest keys are the
    # smallest positions.
    keys = torch.arange(count, 0, -1, device=ranks.device, dtype=torch.int32) * chosen
    return torch.topk(keys, width, sorted=True).indices
