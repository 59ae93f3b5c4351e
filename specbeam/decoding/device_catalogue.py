"""The catalogue on an accelerator: the children of nodes, which are allowed, what they score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specbeam.catalog import PAD, ItemTrie, LeafFilter
from specbeam.decoding.expansion import Allowed, Expansion, ScoredLevel
from specbeam.decoding.scoring import LevelScores, Scoring
from specbeam.decoding.torch_laws import shaped_logits
from specbeam.decoding.upload import upload

# Copies of shared leaf counts kept on the device (4 bytes a leaf each).
MAX_SHARED_COUNTS = 16


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """A `LeafFilter` on the device, per level 0 .. L; None where nothing is restricted.

    Attributes:
        leaf_counts: allowed leaves before each leaf.
        dead: dead nodes, ascending.
        kept: the only nodes allowed, ascending.
    """

    leaf_counts: torch.Tensor | None
    dead: tuple[torch.Tensor | None, ...]
    kept: tuple[torch.Tensor, ...] | None


class DeviceCatalogue(Expansion[torch.Tensor]):
    """Token, child and leaf arrays of an `ItemTrie` on one device, every level in full.

    What it knows of children, and what scores they get; `DeviceExpansion` decides levels with it.
    """

    def __init__(self, trie: ItemTrie, scoring: Scoring, device: torch.device) -> None:
        """Copy the arrays to `device` (12 bytes a node)."""
        super().__init__(trie, scoring)
        self.device = device
        levels = trie.levels
        every = [np.arange(level.num_nodes + 1) for level in levels]
        self._token = [
            self._int32(level.tokens_of(every[d][:-1]) if d else [PAD])
            for d, level in enumerate(levels)
        ]
        self._first_child = [
            self._int32(level.first_child_of(every[d])) for d, level in enumerate(levels[:-1])
        ]
        self._first_leaf = [
            self._int32(level.first_leaf_of(every[d])) for d, level in enumerate(levels)
        ]
        self._slots = [torch.arange(max(level.max_children, 1), device=device) for level in levels]
        # Named filters are shared between requests; so are their copies here.
        self._counts: dict[int, tuple[np.ndarray, torch.Tensor]] = {}

    def _int32(self, array: np.ndarray | list[int]) -> torch.Tensor:
        return torch.from_numpy(np.array(array, np.int32)).to(self.device)

    def _tensor(
        self, array: np.ndarray, dtype: type[np.int64] | type[np.float64] = np.int64
    ) -> torch.Tensor:
        return upload(np.array(array, dtype=dtype), self.device)

    def _bind(self, leaf_filter: LeafFilter) -> DeviceFilter:
        return DeviceFilter(
            None if leaf_filter.named is None else self._shared(leaf_filter.named.leaf_counts),
            tuple(self._tensor(nodes) if len(nodes) else None for nodes in leaf_filter.dead),
            None if leaf_filter.kept is None else tuple(map(self._tensor, leaf_filter.kept)),
        )

    def _shared(self, counts: np.ndarray) -> torch.Tensor:
        known = self._counts.get(id(counts))
        if known is None or known[0] is not counts:
            if len(self._counts) >= MAX_SHARED_COUNTS:
                self._counts.pop(next(iter(self._counts)))
            known = self._counts[id(counts)] = (counts, self._int32(counts))
        return known[1]

    def _children(
        self, level: int, nodes: torch.Tensor, bound: DeviceFilter | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Child numbers (0 where there is none) and which are there and allowed.  Shape (R, C)."""
        first, last = self._first_child[level][nodes], self._first_child[level][nodes + 1]
        index = first[:, None] + self._slots[level]
        alive = index < last[:, None]
        index = torch.where(alive, index, 0)
        if bound is None:
            return index, alive
        if bound.kept is not None:
            return index, alive & _contains(bound.kept[level + 1], index)
        if bound.leaf_counts is not None:
            leaves = self._first_leaf[level + 1]
            counts = bound.leaf_counts
            alive &= counts[leaves[index + 1]] > counts[leaves[index]]
        dead = bound.dead[level + 1]
        if dead is not None:
            alive &= ~_contains(dead, index)
        return index, alive

    @torch.inference_mode()
    def score(
        self, level: int, nodes: np.ndarray, scores: LevelScores, allowed: Allowed
    ) -> ScoredLevel[torch.Tensor]:
        """See `Expansion.score`."""
        index, alive = self._children(level, self._tensor(nodes), allowed.bound)
        tokens = self._token[level + 1][index].long()
        columns = scores.columns.device(tokens.clamp_(min=0))
        found = scores.values.gather(1, columns).masked_fill(~alive, -torch.inf)
        if scores.over_children:
            if allowed.selection.shapes_laws:
                found = shaped_logits(found, allowed.selection)
            found = torch.log_softmax(found, dim=-1).masked_fill_(~alive, -torch.inf)
        return ScoredLevel(nodes, found)

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


def _contains(members: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Whether each number is among ascending `members`."""
    if not len(members):
        return torch.zeros_like(index, dtype=torch.bool)
    place = torch.searchsorted(members, index.long()).clamp_(max=len(members) - 1)
    return members[place] == index
