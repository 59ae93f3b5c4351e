"""Where candidate trees come from: drafters, nowhere, or someone who lies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.reference import PAD
from specbeam.decoding.tree import CandidateTree
from specbeam.engine import DraftSession, SpeculationSpec
from specbeam.engine.search import draft_tree

Proposer = Callable[[Beams], CandidateTree]


def drafting(
    drafter: DraftSession, trie: ItemTrie, speculation: SpeculationSpec, width: int
) -> Proposer:
    """What a model drafter proposes."""
    return lambda beams: draft_tree(drafter, beams, speculation, trie, width)


def nothing(beams: Beams) -> CandidateTree:
    """No drafted nodes at all."""
    return CandidateTree(beams.level, np.zeros(0, np.int64), np.zeros(0, np.int64))


def lying(rng: np.random.Generator, trie: ItemTrie, vocab_size: int) -> Proposer:
    """Trees of noise, or of real paths whatever the filter says, in any order, twice, too deep."""

    def noise(beams: Beams) -> CandidateTree:
        count = int(rng.integers(0, 80))
        level = beams.level + int(rng.choice([0, 0, 0, 1, -1]))
        parents = rng.integers(-3, len(beams) + count + 3, count)
        tokens = rng.integers(PAD - 2, vocab_size + 5, count)
        return CandidateTree(level, parents, tokens)

    def real_paths(beams: Beams) -> CandidateTree:
        prefixes = [tuple(prefix) for prefix in beams.paths(trie).tolist()]
        parents: list[int] = []
        tokens: list[int] = []
        for path in trie.leaf_paths(rng.integers(0, trie.num_leaves, 30)).tolist():
            prefix = tuple(path[: beams.level])
            parent = prefixes.index(prefix) if prefix in prefixes else int(rng.integers(3))
            for token in path[beams.level :]:
                parents.append(parent)
                tokens.append(token)
                parent = len(prefixes) + len(tokens) - 1
                if rng.random() < 0.3:
                    break
        return CandidateTree(beams.level, np.array(parents, np.int64), np.array(tokens, np.int64))

    return lambda beams: noise(beams) if rng.random() < 0.5 else real_paths(beams)
