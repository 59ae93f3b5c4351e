"""Random tries and questions for the tests of the drafters."""

import numpy as np

from specbeam.catalog import FilterCompiler, ItemFilter, ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.drafting.question import ChildScorer

Law = dict[tuple[int, int], float]
"""Log-probability of a child given its node, by (level of the child, child)."""


def random_trie(rng: np.random.Generator, *, items: int = 60, depth: int = 4) -> ItemTrie:
    """A trie of random paths, some of them shorter, some shared."""
    paths = rng.integers(0, 5, (items, depth), dtype=np.int32)
    paths += 3 + 5 * np.arange(depth, dtype=np.int32)
    ids = [f"i{number}" for number in range(items)]
    return ItemTrie.build(paths, ids, rng.integers(0, 50, items))


def random_filter(rng: np.random.Generator, trie: ItemTrie) -> LeafFilter | None:
    """A filter that leaves out some items, or none."""
    if rng.random() < 0.3:
        return None
    compiler = FilterCompiler(trie)
    gone = rng.permutation(trie.num_items)[: int(rng.integers(1, trie.num_items // 2))]
    return compiler.compile(compiler.resolve(ItemFilter(excluded_items=gone)))


def random_beams(rng: np.random.Generator, trie: ItemTrie, level: int, width: int) -> Beams:
    """Some nodes of a level with random scores."""
    count = min(width, trie.levels[level].num_nodes)
    nodes = np.sort(rng.permutation(trie.levels[level].num_nodes)[:count])
    return Beams(level, nodes.astype(np.int64), -rng.random(count) * 3)


def children(trie: ItemTrie, level: int, node: int) -> range:
    """The children of one node."""
    above = trie.levels[level]
    return range(int(above.first_child_of(node)), int(above.first_child_of(node + 1)))


def random_law(rng: np.random.Generator, trie: ItemTrie, *, known: float = 1.0) -> Law:
    """A distribution over the children of a share of all nodes."""
    law: Law = {}
    for level in range(trie.depth):
        for node in range(trie.levels[level].num_nodes):
            below = children(trie, level, node)
            if rng.random() >= known:
                continue
            for child, mass in zip(below, rng.dirichlet(np.ones(len(below))), strict=True):
                law[level + 1, child] = float(np.log(mass))
    return law


def scorer_of(trie: ItemTrie, law: Law) -> ChildScorer:
    """Look the law up, node by node."""

    def score(level: int, nodes: np.ndarray) -> np.ndarray:
        found = np.full((len(nodes), trie.levels[level].max_children), -np.inf)
        for row, node in enumerate(nodes.tolist()):
            for column, child in enumerate(children(trie, level, node)):
                found[row, column] = law.get((level + 1, child), -np.inf)
        return found

    return score
