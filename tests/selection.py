"""Scoring and selection on a device, without a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from specbeam.catalog import FilterCompiler, ItemFilter, ItemTrie, pad_paths
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_expansion import DeviceExpansion
from specbeam.decoding.device_steps import Step
from specbeam.decoding.expansion import Allowed
from specbeam.decoding.scoring import SCORE_KINDS, ColumnMap, LevelScores, Scoring
from specbeam.decoding.selection import Selection as ByRule

VOCABULARY = 40
WIDTH = 6
REPORT = 9
# Score convention and rule: every convention, and noise where it is allowed.
KINDS = (*((kind, "TOP_K") for kind in SCORE_KINDS), ("TRIE", "GUMBEL"))
RULES = {
    "TOP_K": ByRule(),
    "GUMBEL": ByRule("GUMBEL", 2**64 - 5, temperature=0.8, top_k=6),
}


def catalogue() -> ItemTrie:
    """Items of one to four tokens with an end token, tags and times."""
    rng = np.random.default_rng(5)
    paths = {tuple(rng.integers(3, 12, int(rng.integers(1, 5))).tolist()) for _ in range(300)}
    ids = [str(n) for n in range(len(paths))]
    tags = {"odd": np.arange(1, len(paths), 2)}
    return ItemTrie.build(pad_paths(sorted(paths), ending=[2]), ids, tags=tags)


def filters(trie: ItemTrie) -> Iterator[ItemFilter]:
    """Every form a compiled filter takes."""
    some = np.arange(0, trie.num_items, 3)
    yield ItemFilter()
    yield ItemFilter(excluded_items=some)
    yield ItemFilter(excluded_items=some, required_tags=(("odd",),))
    yield ItemFilter(allowed_items=some)


class Selection:
    """Two levels below the root, scored at random, decided as far as they go."""

    def __init__(
        self, kind: str, wanted: ItemFilter, device: torch.device, rule: str = "TOP_K"
    ) -> None:
        self.trie = catalogue()
        compiler = FilterCompiler(self.trie)
        self.expansion = DeviceExpansion(self.trie, Scoring(kind), device)
        compiled = compiler.compile(compiler.resolve(wanted))
        self.selection = RULES[rule]
        self.allowed: Allowed = self.expansion.allow(compiled, self.selection)
        self._scores = {}
        generator = torch.Generator().manual_seed(3)
        for level in (0, 1, 2):
            nodes = np.arange(self.trie.levels[level].num_nodes)
            ended = self.trie.levels[level + 1].tokens_of(
                self.trie.levels[level].first_child_of(nodes)
            )
            nodes = nodes[ended >= 0]
            logits = torch.randn(len(nodes), VOCABULARY, generator=generator)
            values = logits if kind == "TRIE" else torch.log_softmax(logits, -1)
            scores = LevelScores(values.to(device), ColumnMap(), kind == "TRIE")
            self._scores[level] = (nodes, scores)

    def queue(self) -> list[Step]:
        """Score, join and walk; nothing is read."""
        scored = {}
        for level, (nodes, scores) in self._scores.items():
            part = self.expansion.score(level, nodes, scores, self.allowed)
            scored[level] = self.expansion.merge(None, part)
        root = Beams.root(self.selection)
        return self.expansion.walk(root, scored, WIDTH, self.allowed, REPORT)
