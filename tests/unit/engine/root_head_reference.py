"""The slow, obvious form of what a root head proposes: one beam, one row, one child at a time.

It shares the blocks' multiplications and the model's weights with the fast form, and nothing else:
a dict trie of the items a filter admits, Python's `sorted`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from specbeam.decoding.reference import PAD, CatalogItem, Path, PlainFilter
from specbeam.engine.root_head_blocks import StateBlocks

Children = dict[Path, set[int]]


@dataclass
class Node:
    """One proposed prefix."""

    path: Path
    score: float
    in_beam: bool
    parent: int = -1
    logprob: float = 0.0


def children_of(items: Mapping[str, CatalogItem], admitted: PlainFilter) -> Children:
    """Which tokens may follow each prefix."""
    depth = max(len(item.path) for item in items.values())
    found: Children = {}
    for item_id, item in items.items():
        if admitted.admits(item_id, item):
            path = item.path + (PAD,) * (depth - len(item.path))
            for level in range(depth):
                found.setdefault(path[:level], set()).add(path[level])
    return found


@dataclass
class SlowHead:
    """A model's weights, a head's blocks, and a catalogue."""

    model: Any
    blocks: StateBlocks
    children: Children
    depth: int
    convention: str
    codebooks: Sequence[Collection[int]]

    @torch.inference_mode()
    def propose(
        self,
        hidden: torch.Tensor,
        beams: Sequence[tuple[Path, float]],
        levels: int,
        max_nodes: int,
        width: int,
    ) -> list[list[Node]]:
        """The nodes of each level, best first, without empty levels."""
        base = len(beams[0][0])
        above = [Node(path, score, True) for path, score in beams]
        found = []
        for level in range(base, min(base + levels, self.depth - 1, len(self.blocks) + 1)):
            below = sorted(
                (
                    Node((*node.path, token), node.score + gained, node.in_beam, place, gained)
                    for place, node in enumerate(above)
                    for token, gained in self._law(hidden, node.path, level).items()
                ),
                key=lambda node: (-node.score, node.path),
            )
            own = [node for node in below if node.in_beam][:width]
            others = [node for node in below if not any(node is one for one in own)]
            others = others[: max(0, max(max_nodes, width) - len(own))]
            for node in others:
                node.in_beam = False
            above = [n for n in below if any(n is one for one in [*own, *others])]
            if not above:
                break
            found.append(above)
        return found

    def _law(self, hidden: torch.Tensor, path: Path, level: int) -> dict[int, float]:
        children = self.children.get(path, set())
        if children == {PAD} or (self.convention == "TRIE" and len(children) == 1):
            return dict.fromkeys(children, 0.0)
        if not children:
            return {}
        logits = self._logits(hidden, path)
        among: Collection[int] = range(len(logits))
        if self.convention != "VOCAB":
            among = children if self.convention == "TRIE" else self.codebooks[level]
        total = math.log(math.fsum(math.exp(logits[token]) for token in among))
        return {token: logits[token] - total for token in children}

    def _logits(self, hidden: torch.Tensor, path: Path) -> list[float]:
        state = hidden
        for level, token in enumerate(path, start=1):
            code = self.model.get_input_embeddings().weight[token][None]
            state = self.blocks.blocks[level - 1](state, code)
        logits: list[float] = self.model.get_output_embeddings()(state)[0].tolist()
        return logits
