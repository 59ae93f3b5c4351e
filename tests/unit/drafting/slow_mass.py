"""Masses of prefixes by dictionaries: the slow reference of the counting drafters."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specbeam.catalog import PAD, FilterCompiler, ItemFilter, ItemTrie, LeafFilter
from specbeam.decoding.reference import Path
from tests.exactness.catalogues import MAKERS, Catalogue
from tests.exactness.requests import Request, random_prompt, random_request


@dataclass
class SlowMass:
    """A random catalogue and what follows from weights of its items."""

    catalogue: Catalogue
    trie: ItemTrie
    compiler: FilterCompiler

    @classmethod
    def make(cls, maker: int, seed: int) -> SlowMass:
        catalogue = MAKERS[maker](np.random.default_rng([maker, seed, 23]))
        trie = catalogue.build_trie()
        return cls(catalogue, trie, FilterCompiler(trie))

    @cached_property
    def padded(self) -> dict[str, Path]:
        depth = self.catalogue.depth
        return {
            item_id: item.path + (PAD,) * (depth - len(item.path))
            for item_id, item in self.catalogue.items.items()
        }

    @cached_property
    def nodes(self) -> list[list[Path]]:
        """The prefix of every node by level, in node order."""
        prefixes = [{p[:level] for p in self.padded.values()} for level in range(self.depth + 1)]
        return [sorted(level) for level in prefixes]

    @property
    def depth(self) -> int:
        return self.trie.depth

    def request(self, seed: int, kinds: frozenset[str]) -> Request:
        rng = np.random.default_rng([seed, 29])
        return random_request(rng, self.catalogue, random_prompt(rng, self.catalogue), kinds)

    def compiled(self, request: Request) -> LeafFilter | None:
        plain = request.item_filter
        allowed = None if plain.allowed is None else self.trie.index_of(sorted(plain.allowed))
        excluded = self.trie.index_of(sorted(plain.excluded))
        wanted = ItemFilter(excluded, allowed, plain.required_tags, plain.created_after_ms)
        return self.compiler.compile(self.compiler.resolve(wanted))

    def prefix_masses(self, weights: dict[str, float]) -> dict[Path, float]:
        masses: dict[Path, float] = defaultdict(float)
        for item_id, weight in weights.items():
            for level in range(self.depth + 1):
                masses[self.padded[item_id][:level]] += weight
        return masses

    def child_logprobs(
        self,
        level: int,
        nodes: np.ndarray,
        weights: dict[str, float],
        admitted: frozenset[str] | None = None,
    ) -> np.ndarray:
        """Log of each child's share of its parent's mass, child by child."""
        masses = self.prefix_masses(weights)
        some = self.padded if admitted is None else admitted
        alive = {self.padded[item_id][: level + 1] for item_id in some}
        found = np.full((len(nodes), self.trie.levels[level].max_children), -np.inf)
        for row, node in enumerate(nodes.tolist()):
            parent = self.nodes[level][node]
            children = [child for child in self.nodes[level + 1] if child[:level] == parent]
            for column, child in enumerate(children):
                if masses[child] > 0 and child in alive:
                    found[row, column] = math.log(masses[child] / masses[parent])
        return found


def some_nodes(trie: ItemTrie, level: int, rng: np.random.Generator) -> np.ndarray:
    """Up to 12 nodes in no order."""
    nodes = rng.permutation(trie.levels[level].num_nodes)
    return nodes[: int(rng.integers(1, 13))]
