"""The trie on a device, and the children of a set of nodes as one padded gather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specbeam.catalog import ItemTrie, LeafFilter


@dataclass(frozen=True, slots=True)
class Children:
    """Children of R nodes, padded to the widest node of the level.

    Attributes:
        tokens: vocabulary ids, 0 where padded.  Shape (R, C_d), int64.
        alive: real children with at least one allowed leaf.  Shape (R, C_d), bool.
    """

    tokens: torch.Tensor
    alive: torch.Tensor


class TrieTensors:
    """Token and child arrays of an `ItemTrie` as int64 tensors on one device."""

    def __init__(self, trie: ItemTrie, device: torch.device) -> None:
        """Copy the arrays (int32 on disk) to `device`."""
        self.trie = trie
        self.device = device
        self.depth = trie.depth
        self.token = [self._tensor(level.token) for level in trie.levels]
        self.first_child = [self._tensor(level.first_child) for level in trie.levels]
        self.slots = [
            torch.arange(max(level.max_children, 1), device=device) for level in trie.levels
        ]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(self.device)

    def beam_width(self, level: int, width: int) -> int:
        """Return how many beams level `level` can hold at most."""
        return min(width, self.trie.levels[level].num_nodes)

    def children(self, level: int, nodes: torch.Tensor, dead: torch.Tensor | None) -> Children:
        """Gather the children of `nodes`.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            nodes: node numbers.  Shape (R,), int64.
            dead: ascending dead nodes of level + 1, or None.
        """
        first = self.first_child[level][nodes]
        index = first[:, None] + self.slots[level]
        alive = index < self.first_child[level][nodes + 1][:, None]
        index = torch.where(alive, index, 0)
        if dead is not None:
            alive &= ~_contains(dead, index)
        return Children(self.token[level + 1][index], alive)


class FilterTensors:
    """Dead nodes of one request's filter on a device; None on levels where nothing is dead."""

    def __init__(self, leaf_filter: LeafFilter | None, depth: int, device: torch.device) -> None:
        """Copy the non-empty levels of `leaf_filter`; None means no filter."""
        self.dead: list[torch.Tensor | None] = [None] * (depth + 1)
        if leaf_filter is None:
            return
        for level, nodes in enumerate(leaf_filter.dead_nodes):
            if len(nodes):
                self.dead[level] = torch.as_tensor(nodes, dtype=torch.int64, device=device)


def _contains(ascending: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    position = torch.searchsorted(ascending, values).clamp_(max=len(ascending) - 1)
    return ascending[position] == values
